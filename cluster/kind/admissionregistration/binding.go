package admissionregistration

import (
	"slices"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"sampan/cluster/kind"
)

// ValidatingAdmissionPolicyBinding puts a ValidatingAdmissionPolicy in force.
func ValidatingAdmissionPolicyBinding() *kind.Kind {
	type binding = admissionregistrationv1.ValidatingAdmissionPolicyBinding
	return kind.Declare(kind.Of[binding]{
		GVK:          admissionregistrationv1.SchemeGroupVersion.WithKind("ValidatingAdmissionPolicyBinding"),
		Plural:       "validatingadmissionpolicybindings",
		Rechecked:    true,
		AnyFinalizer: true,
		Categories:   []string{"api-extensions"},
		Cluster:      true,
		Conditional:  true,
		Default:      func(b *binding) { defaultMatch(b.Spec.MatchResources) },
		Validate: func(b, _ *binding) field.ErrorList {
			path := field.NewPath("spec")
			errs := validateBinding(b.Spec.PolicyName, b.Spec.ParamRef, b.Spec.MatchResources, path)
			return append(errs, validateActions(b.Spec.ValidationActions, path.Child("validationActions"))...)
		},
		Spec: func(b *binding) any { return &b.Spec },
		Columns: bindingColumns(func(b *binding) (string, *admissionregistrationv1.ParamRef) {
			return b.Spec.PolicyName, b.Spec.ParamRef
		}),
	})
}

// MutatingAdmissionPolicyBinding puts a MutatingAdmissionPolicy in force.
func MutatingAdmissionPolicyBinding() *kind.Kind {
	type binding = admissionregistrationv1.MutatingAdmissionPolicyBinding
	return kind.Declare(kind.Of[binding]{
		GVK:          admissionregistrationv1.SchemeGroupVersion.WithKind("MutatingAdmissionPolicyBinding"),
		Plural:       "mutatingadmissionpolicybindings",
		Rechecked:    true,
		AnyFinalizer: true,
		Categories:   []string{"api-extensions"},
		Cluster:      true,
		Conditional:  true,
		Default:      func(b *binding) { defaultMatch(b.Spec.MatchResources) },
		Validate: func(b, _ *binding) field.ErrorList {
			path := field.NewPath("spec")
			errs := validateBinding(b.Spec.PolicyName, b.Spec.ParamRef, b.Spec.MatchResources, path)
			return append(errs, changing(b.Spec.MatchResources, path.Child("matchResources"))...)
		},
		Spec: func(b *binding) any { return &b.Spec },
		Columns: bindingColumns(func(b *binding) (string, *admissionregistrationv1.ParamRef) {
			return b.Spec.PolicyName, b.Spec.ParamRef
		}),
	})
}

// bindingColumns are those of a binding of some kind of policy with some
// parameters.
func bindingColumns[T any, P pointer[T]](of func(*T) (policy string, params *admissionregistrationv1.ParamRef)) []kind.Column[T] {
	return []kind.Column[T]{
		{Name: "PolicyName", Description: "PolicyName indicates the policy definition which the policy binding binded to",
			Cell: func(b *T, _ time.Time) any { policy, _ := of(b); return policy }},
		{Name: "ParamRef", Description: "ParamRef indicates the param resource which sets the configuration param",
			Cell: func(b *T, _ time.Time) any { _, params := of(b); return paramRefCell(params) }},
		kind.Age[T, P](),
	}
}

func paramRefCell(r *admissionregistrationv1.ParamRef) string {
	switch {
	case r == nil:
		return "<unset>"
	case r.Name != "" && r.Namespace != "":
		return r.Namespace + "/" + r.Name
	case r.Name != "":
		return "*/" + r.Name // the namespace of what is written, if the kind has any
	case r.Selector != nil:
		return r.Selector.String()
	}
	return "<unset>"
}

func defaultMatch(m *admissionregistrationv1.MatchResources) {
	if m == nil {
		return
	}
	defaultTo(&m.MatchPolicy, admissionregistrationv1.Equivalent)
	defaultTo(&m.NamespaceSelector, metav1.LabelSelector{})
	defaultTo(&m.ObjectSelector, metav1.LabelSelector{})
	for _, rules := range [][]admissionregistrationv1.NamedRuleWithOperations{m.ResourceRules, m.ExcludeResourceRules} {
		for i := range rules {
			defaultTo(&rules[i].Scope, admissionregistrationv1.AllScopes)
		}
	}
}

func validateBinding(policy string, params *admissionregistrationv1.ParamRef, match *admissionregistrationv1.MatchResources, path *field.Path) (errs field.ErrorList) {
	if policy == "" {
		errs = append(errs, field.Required(path.Child("policyName"), ""))
	} else {
		for _, msg := range apivalidation.NameIsDNSSubdomain(policy, false) {
			errs = append(errs, field.Invalid(path.Child("policyName"), policy, msg))
		}
	}
	if params != nil {
		errs = append(errs, validateParamRef(params, path.Child("paramRef"))...)
	}
	if match != nil {
		errs = append(errs, validateMatch(match, path.Child("matchResources"))...)
	}
	return errs
}

func validateParamRef(r *admissionregistrationv1.ParamRef, path *field.Path) (errs field.ErrorList) {
	const both = "name and selector are mutually exclusive"
	if r.Name != "" {
		for _, msg := range content.IsPathSegmentName(r.Name) {
			errs = append(errs, field.Invalid(path.Child("name"), r.Name, msg))
		}
	}
	switch {
	case r.Name != "" && r.Selector != nil:
		errs = append(errs, field.Forbidden(path.Child("name"), both), field.Forbidden(path.Child("selector"), both))
	case r.Name == "" && r.Selector == nil:
		errs = append(errs, field.Required(path, "one of name or selector must be specified"))
	}
	errs = append(errs, metav1validation.ValidateLabelSelector(r.Selector, metav1validation.LabelSelectorValidationOptions{}, path.Child("selector"))...)
	// In upstream's order, which is not the alphabet's.
	switch action, at := ptr.Deref(r.ParameterNotFoundAction, ""), path.Child("parameterNotFoundAction"); action {
	case admissionregistrationv1.AllowAction, admissionregistrationv1.DenyAction:
	case "":
		errs = append(errs, field.Required(at, ""))
	default:
		errs = append(errs, field.NotSupported(at, action, []string{string(admissionregistrationv1.DenyAction), string(admissionregistrationv1.AllowAction)}))
	}
	return errs
}

func validateParamKind(k admissionregistrationv1.ParamKind, path *field.Path) (errs field.ErrorList) {
	version := path.Child("apiVersion")
	if k.APIVersion == "" {
		errs = append(errs, field.Required(version, ""))
	} else if gv, err := schema.ParseGroupVersion(k.APIVersion); err != nil {
		errs = append(errs, field.Invalid(version, k.APIVersion, err.Error()))
	} else {
		if msgs := validation.IsDNS1123Subdomain(gv.Group); gv.Group != "" && len(msgs) > 0 {
			errs = append(errs, field.Invalid(version, gv.Group, strings.Join(msgs, ",")))
		}
		if gv.Version == "" {
			errs = append(errs, field.Invalid(version, k.APIVersion, "version must be specified"))
		} else if msgs := validation.IsDNS1035Label(gv.Version); len(msgs) > 0 {
			errs = append(errs, field.Invalid(version, gv.Version, strings.Join(msgs, ",")))
		}
	}
	if k.Kind == "" {
		errs = append(errs, field.Required(path.Child("kind"), ""))
	} else if msgs := validation.IsDNS1035Label(strings.ToLower(k.Kind)); len(msgs) > 0 {
		errs = append(errs, field.Invalid(path.Child("kind"), k.Kind, "may have mixed case, but should otherwise match: "+strings.Join(msgs, ",")))
	}
	return errs
}

func validateMatch(m *admissionregistrationv1.MatchResources, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, kind.OneOf(ptr.Deref(m.MatchPolicy, ""), path.Child("matchPolicy"), admissionregistrationv1.Equivalent, admissionregistrationv1.Exact)...)
	for _, s := range []struct {
		name     string
		selector *metav1.LabelSelector
	}{{"namespaceSelector", m.NamespaceSelector}, {"objectSelector", m.ObjectSelector}} {
		if s.selector == nil {
			errs = append(errs, field.Required(path.Child(s.name), ""))
			continue
		}
		errs = append(errs, metav1validation.ValidateLabelSelector(s.selector, metav1validation.LabelSelectorValidationOptions{}, path.Child(s.name))...)
	}
	for i := range m.ResourceRules {
		errs = append(errs, validateNamedRule(&m.ResourceRules[i], path.Child("resourceRules").Index(i))...)
	}
	for i := range m.ExcludeResourceRules {
		errs = append(errs, validateNamedRule(&m.ExcludeResourceRules[i], path.Child("excludeResourceRules").Index(i))...)
	}
	return errs
}

func validateNamedRule(r *admissionregistrationv1.NamedRuleWithOperations, path *field.Path) (errs field.ErrorList) {
	names := path.Child("resourceNames")
	for i, n := range r.ResourceNames {
		for _, msg := range content.IsPathSegmentName(n) {
			errs = append(errs, field.Invalid(names.Index(i), n, msg))
		}
		if slices.Contains(r.ResourceNames[:i], n) {
			errs = append(errs, field.Duplicate(names.Index(i), n))
		}
	}
	return append(errs, validateRule(&r.RuleWithOperations, path)...)
}

func validateActions(actions []admissionregistrationv1.ValidationAction, path *field.Path) (errs field.ErrorList) {
	if len(actions) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	known := []admissionregistrationv1.ValidationAction{admissionregistrationv1.Audit, admissionregistrationv1.Deny, admissionregistrationv1.Warn}
	for i, a := range actions {
		if !slices.Contains(known, a) { // an empty one too
			errs = append(errs, field.NotSupported(path.Index(i), a, known))
		}
		if slices.Contains(actions[:i], a) {
			errs = append(errs, field.Duplicate(path.Index(i), a))
		}
	}
	if slices.Contains(actions, admissionregistrationv1.Deny) && slices.Contains(actions, admissionregistrationv1.Warn) {
		errs = append(errs, field.Invalid(path, actions,
			"must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)"))
	}
	return errs
}
