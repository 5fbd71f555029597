package flowcontrol

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	flowv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// FlowSchema says which requests belong together, and how urgent they are.
func FlowSchema() *kind.Kind {
	return kind.Declare(kind.Of[flowv1.FlowSchema]{
		GVK:       flowv1.SchemeGroupVersion.WithKind("FlowSchema"),
		Plural:    "flowschemas",
		Rechecked: true,
		Cluster:   true,
		Default: func(f *flowv1.FlowSchema) {
			if f.Spec.MatchingPrecedence == 0 {
				f.Spec.MatchingPrecedence = 1000
			}
		},
		Validate: validateSchema,
		Spec:     func(f *flowv1.FlowSchema) any { return &f.Spec },
		Parts: map[string]kind.Part[flowv1.FlowSchema]{
			"status": {
				Take:     func(dst, src *flowv1.FlowSchema) { dst.Status = src.Status },
				Keeps:    []string{"generateName"},
				Validate: func(f, _ *flowv1.FlowSchema) field.ErrorList { return conditionTypes(schemaConditions(f)) },
			},
		},
		Order: ByPrecedence,
		Columns: []kind.Column[flowv1.FlowSchema]{
			{Name: "PriorityLevel", Description: flowv1.PriorityLevelConfigurationReference{}.SwaggerDoc()["name"],
				Cell: func(f *flowv1.FlowSchema, _ time.Time) any { return f.Spec.PriorityLevelConfiguration.Name }},
			{Name: "MatchingPrecedence", Description: flowv1.FlowSchemaSpec{}.SwaggerDoc()["matchingPrecedence"],
				Cell: func(f *flowv1.FlowSchema, _ time.Time) any { return int64(f.Spec.MatchingPrecedence) }},
			{Name: "DistinguisherMethod", Description: flowv1.FlowSchemaSpec{}.SwaggerDoc()["distinguisherMethod"],
				Cell: func(f *flowv1.FlowSchema, _ time.Time) any {
					if f.Spec.DistinguisherMethod == nil {
						return "<none>"
					}
					return string(f.Spec.DistinguisherMethod.Type)
				}},
			kind.Age[flowv1.FlowSchema](),
			{Name: "MissingPL", Description: "references a broken or non-existent PriorityLevelConfiguration",
				Cell: func(f *flowv1.FlowSchema, _ time.Time) any {
					for _, c := range f.Status.Conditions {
						if c.Type == flowv1.FlowSchemaConditionDangling {
							return string(c.Status)
						}
					}
					return "?"
				}},
		},
	})
}

// ByPrecedence is the order in which requests are held against flow schemas.
func ByPrecedence(a, b *flowv1.FlowSchema) int {
	return cmp.Or(cmp.Compare(a.Spec.MatchingPrecedence, b.Spec.MatchingPrecedence), strings.Compare(a.Name, b.Name))
}

func schemaConditions(f *flowv1.FlowSchema) (types []flowv1.FlowSchemaConditionType) {
	for _, c := range f.Status.Conditions {
		types = append(types, c.Type)
	}
	return types
}

func validateSchema(f, _ *flowv1.FlowSchema) (errs field.ErrorList) {
	spec, s := field.NewPath("spec"), &f.Spec
	at := spec.Child("matchingPrecedence")
	if s.MatchingPrecedence <= 0 {
		errs = append(errs, field.Invalid(at, s.MatchingPrecedence, "must be a positive value"))
	}
	if s.MatchingPrecedence > flowv1.FlowSchemaMaxMatchingPrecedence {
		errs = append(errs, field.Invalid(at, s.MatchingPrecedence, fmt.Sprintf("must not be greater than %v", flowv1.FlowSchemaMaxMatchingPrecedence)))
	}
	if s.MatchingPrecedence == 1 && f.Name != flowv1.FlowSchemaNameExempt {
		errs = append(errs, field.Invalid(at, s.MatchingPrecedence, "only the schema named 'exempt' may have matchingPrecedence 1"))
	}
	if m := s.DistinguisherMethod; m != nil && m.Type != flowv1.FlowDistinguisherMethodByUserType && m.Type != flowv1.FlowDistinguisherMethodByNamespaceType {
		errs = append(errs, field.NotSupported(spec.Child("distinguisherMethod", "type"), m, []flowv1.FlowDistinguisherMethodType{
			flowv1.FlowDistinguisherMethodByNamespaceType, flowv1.FlowDistinguisherMethodByUserType}))
	}
	if at, name := spec.Child("priorityLevelConfiguration", "name"), s.PriorityLevelConfiguration.Name; name == "" {
		errs = append(errs, field.Required(at, "must reference a priority level"))
	} else {
		errs = append(errs, kind.DNSSubdomain(name, at)...)
	}
	for i := range s.Rules {
		errs = append(errs, rule(&s.Rules[i], spec.Child("rules").Index(i))...)
	}
	if fixed := mandatorySchema(f.Name); fixed != nil && !kind.Equal(f.Spec, fixed.Spec) {
		errs = append(errs, field.Invalid(spec, f.Spec, fmt.Sprintf("spec of '%s' must equal the fixed value", f.Name)))
	}
	return append(errs, conditionTypes(schemaConditions(f))...)
}

func rule(r *flowv1.PolicyRulesWithSubjects, path *field.Path) (errs field.ErrorList) {
	if len(r.Subjects) == 0 {
		errs = append(errs, field.Required(path.Child("subjects"), "subjects must contain at least one value"))
	}
	for i := range r.Subjects {
		errs = append(errs, subject(&r.Subjects[i], path.Child("subjects").Index(i))...)
	}
	if len(r.ResourceRules)+len(r.NonResourceRules) == 0 {
		errs = append(errs, field.Required(path, "at least one of resourceRules and nonResourceRules has to be non-empty"))
	}
	for i := range r.ResourceRules {
		errs = append(errs, resourceRule(&r.ResourceRules[i], path.Child("resourceRules").Index(i))...)
	}
	for i := range r.NonResourceRules {
		n, at := &r.NonResourceRules[i], path.Child("nonResourceRules").Index(i)
		errs = append(errs, verbs(n.Verbs, at.Child("verbs"))...)
		urls := at.Child("nonResourceURLs")
		switch {
		case len(n.NonResourceURLs) == 0:
			errs = append(errs, field.Required(urls, "nonResourceURLs must contain at least one value"))
		case slices.Contains(n.NonResourceURLs, "*"):
			errs = append(errs, alone(n.NonResourceURLs, "non-resource URLs", urls)...)
		default:
			for j, u := range n.NonResourceURLs {
				if msg := badURL(u); msg != "" {
					errs = append(errs, field.Invalid(urls.Index(j), u, msg))
				}
			}
		}
	}
	return errs
}

// alone reports what stands beside a "*".
func alone(all []string, what string, path *field.Path) field.ErrorList {
	if len(all) > 1 && slices.Contains(all, "*") {
		return field.ErrorList{field.Invalid(path, all, "if '*' is present, must not specify other "+what)}
	}
	return nil
}

var known = []string{"create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"}

func verbs(all []string, path *field.Path) field.ErrorList {
	switch {
	case len(all) == 0:
		return field.ErrorList{field.Required(path, "verbs must contain at least one value")}
	case slices.Contains(all, "*"):
		return alone(all, "verbs", path)
	case slices.ContainsFunc(all, func(v string) bool { return !slices.Contains(known, v) }):
		return field.ErrorList{field.NotSupported(path, all, known)}
	}
	return nil
}

func resourceRule(r *flowv1.ResourcePolicyRule, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, verbs(r.Verbs, path.Child("verbs"))...)
	if at := path.Child("apiGroups"); len(r.APIGroups) == 0 {
		errs = append(errs, field.Required(at, "resource rules must supply at least one api group"))
	} else {
		errs = append(errs, alone(r.APIGroups, "api groups", at)...)
	}
	if at := path.Child("resources"); len(r.Resources) == 0 {
		errs = append(errs, field.Required(at, "resource rules must supply at least one resource"))
	} else {
		errs = append(errs, alone(r.Resources, "resources", at)...)
	}
	at := path.Child("namespaces")
	switch {
	case len(r.Namespaces) == 0 && !r.ClusterScope:
		errs = append(errs, field.Required(at, "resource rules that are not cluster scoped must supply at least one namespace"))
	case slices.Contains(r.Namespaces, "*"):
		errs = append(errs, alone(r.Namespaces, "namespaces", at)...)
	default:
		for i, ns := range r.Namespaces {
			for _, msg := range validation.ValidateNamespaceName(ns, false) {
				errs = append(errs, field.Invalid(at.Index(i), ns, "each member of this list must be '*' or a DNS-1123 label; "+msg))
			}
		}
	}
	return errs
}

func subject(s *flowv1.Subject, path *field.Path) (errs field.ErrorList) {
	kinds := []struct {
		kind flowv1.SubjectKind
		name string
		set  bool
	}{{flowv1.SubjectKindServiceAccount, "serviceAccount", s.ServiceAccount != nil}, {flowv1.SubjectKindUser, "user", s.User != nil}, {flowv1.SubjectKindGroup, "group", s.Group != nil}}
	if !slices.Contains([]flowv1.SubjectKind{kinds[0].kind, kinds[1].kind, kinds[2].kind}, s.Kind) {
		return field.ErrorList{field.NotSupported(path.Child("kind"), s.Kind, []flowv1.SubjectKind{
			flowv1.SubjectKindGroup, flowv1.SubjectKindServiceAccount, flowv1.SubjectKindUser})}
	}
	for _, k := range kinds {
		switch {
		case k.kind == s.Kind && !k.set:
			errs = append(errs, field.Required(path.Child(k.name), fmt.Sprintf("%s is required when subject kind is '%s'", k.name, k.kind)))
		case k.kind != s.Kind && k.set:
			errs = append(errs, field.Forbidden(path.Child(k.name), fmt.Sprintf("%s is forbidden when subject kind is not '%s'", k.name, k.kind)))
		}
	}
	name := func(s string, at *field.Path) {
		if s == "" {
			errs = append(errs, field.Required(at.Child("name"), ""))
		}
	}
	switch {
	case s.Kind == flowv1.SubjectKindUser && s.User != nil:
		name(s.User.Name, path.Child("user"))
	case s.Kind == flowv1.SubjectKindGroup && s.Group != nil:
		name(s.Group.Name, path.Child("group"))
	case s.Kind == flowv1.SubjectKindServiceAccount && s.ServiceAccount != nil:
		a, at := s.ServiceAccount, path.Child("serviceAccount")
		if name(a.Name, at); a.Name != "" && a.Name != flowv1.NameAll {
			errs = append(errs, kind.DNSSubdomain(a.Name, at.Child("name"))...)
		}
		if a.Namespace == "" {
			errs = append(errs, field.Required(at.Child("namespace"), "must specify namespace for service account"))
		} else {
			errs = append(errs, kind.DNSLabel(a.Namespace, at.Child("namespace"))...)
		}
	}
	return errs
}

func badURL(u string) string {
	switch {
	case u == "":
		return "must not be empty"
	case u == "/":
		return ""
	case !strings.HasPrefix(u, "/"):
		return "must start with slash"
	case strings.Contains(u, " "):
		return "must not contain white-space"
	case strings.Contains(u, "//"):
		return "must not contain double slash"
	case strings.Count(u, "*") > 1, strings.Contains(u, "*") && !strings.HasSuffix(u, "/*"):
		return "wildcard can only do suffix matching"
	}
	return ""
}
