// Package apiextensions declares the kinds of apiextensions.k8s.io: the
// definitions of custom resources. What a definition means is said by package
// crd, which makes a kind of it.
package apiextensions

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	internal "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	schemavalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/cel/environment"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"sampan/cluster/kind"
)

// Kinds is the table of this group.
func Kinds() []*kind.Kind { return []*kind.Kind{CustomResourceDefinition()} }

// CustomResourceDefinition says that there is a further kind of objects, what
// it is called and what its fields are.
func CustomResourceDefinition() *kind.Kind {
	return kind.Declare(kind.Of[apiextensionsv1.CustomResourceDefinition]{
		GVK:          apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"),
		Plural:       "customresourcedefinitions",
		AnyFinalizer: true,
		Short:        []string{"crd", "crds"},
		Categories:   []string{"api-extensions"},
		Cluster:      true,
		Prefix:       "apiextensions.k8s.io/customresourcedefinitions",
		Default:      defaultDefinition,
		// Upstream stores definitions as v1beta1, which takes less room.
		Stored:   []kind.Version{Beta()},
		Prepare:  prepareDefinition,
		Validate: validateDefinition,
		// The name depends on the spec: validateDefinition looks at it.
		ValidateName: func(string, bool) []string { return nil },
		Warn:         warnOfDefinition,
		Conditional:  true,
		Spec:         func(d *apiextensionsv1.CustomResourceDefinition) any { return &d.Spec },
		// Until its objects are gone a definition stays.
		Held:    func(d *apiextensionsv1.CustomResourceDefinition) bool { return d.DeletionTimestamp == nil },
		Leaving: leaving,
		Parts: map[string]kind.Part[apiextensionsv1.CustomResourceDefinition]{
			"status": {
				Take:         func(dst, src *apiextensionsv1.CustomResourceDefinition) { dst.Status = src.Status },
				Validate:     validateStatus,
				WithMetadata: true, // as upstream: issue 137681
			},
		},
		Columns: []kind.Column[apiextensionsv1.CustomResourceDefinition]{
			{Name: "Scope", Description: "Cluster/Namespaced",
				Cell: func(d *apiextensionsv1.CustomResourceDefinition, _ time.Time) any { return string(d.Spec.Scope) }},
			{Name: "Versions", Description: "Served versions",
				Cell: func(d *apiextensionsv1.CustomResourceDefinition, _ time.Time) any { return served(d) }},
			{Name: "Created At", Type: "date", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"],
				Cell: func(d *apiextensionsv1.CustomResourceDefinition, _ time.Time) any {
					return d.CreationTimestamp.UTC().Format(time.RFC3339)
				}},
			{Name: "Group", Priority: 1, Description: "API group",
				Cell: func(d *apiextensionsv1.CustomResourceDefinition, _ time.Time) any { return d.Spec.Group }},
			{Name: "Kind", Priority: 1, Description: "CustomResource kind",
				Cell: func(d *apiextensionsv1.CustomResourceDefinition, _ time.Time) any { return d.Spec.Names.Kind }},
			{Name: "ShortNames", Priority: 1, Description: "Short names",
				Cell: func(d *apiextensionsv1.CustomResourceDefinition, _ time.Time) any {
					return strings.Join(d.Spec.Names.ShortNames, ",")
				}},
			{Name: "Established", Type: "boolean", Priority: 1, Description: "Established status",
				Cell: func(d *apiextensionsv1.CustomResourceDefinition, _ time.Time) any {
					return slices.ContainsFunc(d.Status.Conditions, func(c apiextensionsv1.CustomResourceDefinitionCondition) bool {
						return c.Type == apiextensionsv1.Established && c.Status == apiextensionsv1.ConditionTrue
					})
				}},
		},
	})
}

func defaultDefinition(d *apiextensionsv1.CustomResourceDefinition) {
	apiextensionsv1.SetObjectDefaults_CustomResourceDefinition(d)
}

// prepareDefinition notes the version that objects are stored in from now on.
func prepareDefinition(d, old *apiextensionsv1.CustomResourceDefinition) {
	if old == nil {
		d.Status = apiextensionsv1.CustomResourceDefinitionStatus{}
	}
	for _, v := range d.Spec.Versions {
		if v.Storage && !slices.Contains(d.Status.StoredVersions, v.Name) {
			d.Status.StoredVersions = append(slices.Clone(d.Status.StoredVersions), v.Name)
		}
	}
}

// served names the versions in which objects can be had, and the one in which
// they are stored.
func served(d *apiextensionsv1.CustomResourceDefinition) string {
	var names []string
	for _, v := range d.Spec.Versions {
		switch {
		case v.Served && v.Storage:
			names = append(names, v.Name+"(storage)")
		case v.Served:
			names = append(names, v.Name)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}

// leaving has a definition wait for the end of its objects.
func leaving(d *apiextensionsv1.CustomResourceDefinition) {
	if !slices.Contains(d.Finalizers, apiextensionsv1.CustomResourceCleanupFinalizer) {
		d.Finalizers = append(d.Finalizers, apiextensionsv1.CustomResourceCleanupFinalizer)
	}
	d.DeletionGracePeriodSeconds = nil // upstream does not say it here, nor counts this as a change
	if d.Generation > 1 {
		d.Generation--
	}
	pending := apiextensionsv1.CustomResourceDefinitionCondition{
		Type: apiextensionsv1.Terminating, Status: apiextensionsv1.ConditionTrue,
		Reason: "InstanceDeletionPending", Message: "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
	}
	if d.DeletionTimestamp != nil {
		pending.LastTransitionTime = *d.DeletionTimestamp
	}
	for i, c := range d.Status.Conditions {
		if c.Type == pending.Type {
			d.Status.Conditions[i] = pending
			return
		}
	}
	d.Status.Conditions = append(d.Status.Conditions, pending)
}

// hub is a definition in the form that upstream's rules are written for.
func hub(d *apiextensionsv1.CustomResourceDefinition) (*internal.CustomResourceDefinition, error) {
	if d == nil {
		return nil, nil
	}
	out := &internal.CustomResourceDefinition{}
	// The conversion takes over parts of what it converts.
	err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(d.DeepCopy(), out, nil)
	return out, err
}

// check runs upstream's rules of definitions, which are as much a part of the
// format as the schema itself.
func check(d, old *apiextensionsv1.CustomResourceDefinition, rules func(d, old *internal.CustomResourceDefinition) field.ErrorList) field.ErrorList {
	now, err := hub(d)
	if err != nil {
		return field.ErrorList{field.InternalError(field.NewPath("spec"), err)}
	}
	before, err := hub(old)
	if err != nil {
		return field.ErrorList{field.InternalError(field.NewPath("spec"), err)}
	}
	// The machine looks at metadata itself, but for what depends on the spec.
	return slices.DeleteFunc(rules(now, before), func(e *field.Error) bool {
		return strings.HasPrefix(e.Field, "metadata.") && !(old == nil && e.Field == "metadata.name") &&
			!strings.Contains(e.Field, apiextensionsv1.KubeAPIApprovedAnnotation)
	})
}

func validateDefinition(d, old *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	return check(d, old, func(d, old *internal.CustomResourceDefinition) field.ErrorList {
		if old == nil {
			return validation.ValidateCustomResourceDefinition(context.Background(), d)
		}
		return validation.ValidateCustomResourceDefinitionUpdate(context.Background(), d, old)
	})
}

// validateStatus checks what a write of the status may change. The spec, which
// may be long, stays what it was.
func validateStatus(d, old *apiextensionsv1.CustomResourceDefinition) field.ErrorList {
	return check(withoutSpec(d), withoutSpec(old), func(d, old *internal.CustomResourceDefinition) field.ErrorList {
		return validation.ValidateUpdateCustomResourceDefinitionStatus(context.Background(), d, old)
	})
}

func withoutSpec(d *apiextensionsv1.CustomResourceDefinition) *apiextensionsv1.CustomResourceDefinition {
	return &apiextensionsv1.CustomResourceDefinition{TypeMeta: d.TypeMeta, ObjectMeta: d.ObjectMeta, Status: d.Status}
}

// warnOfDefinition names what is odd in a definition's schemas and was not
// there before.
func warnOfDefinition(d, old *apiextensionsv1.CustomResourceDefinition) (all []string) {
	texts := oddities(d)
	if len(texts) == 0 || old == nil {
		return texts
	}
	known := sets.New(oddities(old)...)
	return slices.DeleteFunc(texts, known.Has)
}

// oddities are the texts for one definition. (Upstream:
// registry/customresourcedefinition/strategy.go.)
func oddities(d *apiextensionsv1.CustomResourceDefinition) []string {
	var formats []string
	lists := map[string]bool{}
	version := environment.DefaultCompatibilityVersion()
	known := map[[2]string][]string{} // texts by type and format
	look := func(s *apiextensionsv1.JSONSchemaProps) {
		if s.Format != "" {
			key := [2]string{s.Type, s.Format}
			texts, ok := known[key]
			if !ok {
				as := &spec.Schema{SchemaProps: spec.SchemaProps{Format: s.Format, Type: []string{s.Type}}}
				for _, f := range schemavalidation.GetUnrecognizedFormats(as, version) {
					texts = append(texts, fmt.Sprintf("unrecognized format %q", f))
				}
				known[key] = texts
			}
			formats = append(formats, texts...)
		}
		if s.XListType != nil && *s.XListType == "set" && s.Items != nil && s.Items.Schema != nil {
			if t := s.Items.Schema.Type; t == "object" || t == "array" {
				lists[fmt.Sprintf("x-kubernetes-list-type: set for items of type %q is not supported by server-side apply or CEL validation rules", t)] = true
			}
		}
	}
	versions := d.Spec.Versions
	if !slices.ContainsFunc(versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool {
		return !equality.Semantic.DeepEqual(v.Schema, versions[0].Schema)
	}) {
		versions = versions[:min(1, len(versions))] // what all have alike is looked at once
	}
	for _, v := range versions {
		if v.Schema != nil {
			each(v.Schema.OpenAPIV3Schema, look)
		}
	}
	return append(formats, slices.Sorted(maps.Keys(lists))...)
}

// each calls look for a schema and all that are in it.
func each(s *apiextensionsv1.JSONSchemaProps, look func(*apiextensionsv1.JSONSchemaProps)) {
	if s == nil {
		return
	}
	look(s)
	all := func(list []apiextensionsv1.JSONSchemaProps) {
		for i := range list {
			each(&list[i], look)
		}
	}
	byName := func(m map[string]apiextensionsv1.JSONSchemaProps) {
		for _, own := range m {
			each(&own, look)
		}
	}
	orBool := func(p *apiextensionsv1.JSONSchemaPropsOrBool) {
		if p != nil {
			each(p.Schema, look)
		}
	}
	if s.Items != nil {
		each(s.Items.Schema, look)
		all(s.Items.JSONSchemas)
	}
	all(s.AllOf)
	all(s.AnyOf)
	all(s.OneOf)
	each(s.Not, look)
	byName(s.Properties)
	orBool(s.AdditionalProperties)
	byName(s.PatternProperties)
	orBool(s.AdditionalItems)
	byName(s.Definitions)
	for _, d := range s.Dependencies {
		each(d.Schema, look)
	}
}
