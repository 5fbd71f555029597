package admissionregistration

import (
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"sampan/cluster/kind"
)

const all = "*"

// validateRule checks which writes a rule is about.
func validateRule(r *admissionregistrationv1.RuleWithOperations, path *field.Path) (errs field.ErrorList) {
	operations := path.Child("operations")
	if len(r.Operations) == 0 {
		errs = append(errs, field.Required(operations, ""))
	}
	if len(r.Operations) > 1 && slices.Contains(r.Operations, admissionregistrationv1.OperationAll) {
		errs = append(errs, field.Invalid(operations, r.Operations, "if '*' is present, must not specify other operations"))
	}
	for i, o := range r.Operations {
		errs = append(errs, kind.OneOf(o, operations.Index(i), admissionregistrationv1.OperationAll, admissionregistrationv1.Connect,
			admissionregistrationv1.Create, admissionregistrationv1.Delete, admissionregistrationv1.Update)...)
	}
	errs = append(errs, some(r.APIGroups, "API groups", path.Child("apiGroups"))...)
	versions := path.Child("apiVersions")
	errs = append(errs, some(r.APIVersions, "API versions", versions)...)
	for i, v := range r.APIVersions {
		if v == "" {
			errs = append(errs, field.Required(versions.Index(i), ""))
		}
	}
	errs = append(errs, validateResources(r.Resources, path.Child("resources"))...)
	return append(errs, kind.OneOfIfSet(ptr.Deref(r.Scope, ""), path.Child("scope"), admissionregistrationv1.AllScopes,
		admissionregistrationv1.ClusterScope, admissionregistrationv1.NamespacedScope)...)
}

// some wants one value at least, and "*" alone.
func some(values []string, what string, path *field.Path) (errs field.ErrorList) {
	if len(values) == 0 {
		errs = append(errs, field.Required(path, ""))
	}
	if len(values) > 1 && slices.Contains(values, all) {
		errs = append(errs, field.Invalid(path, values, "if '*' is present, must not specify other "+what))
	}
	return errs
}

// validateResources refuses a list in which one entry covers another.
func validateResources(resources []string, path *field.Path) (errs field.ErrorList) {
	if len(resources) == 0 {
		errs = append(errs, field.Required(path, ""))
	}
	wholes, subs := map[string]bool{}, map[string]bool{} // of pods/* and of */status
	every, main, plain := false, false, false
	for i, r := range resources {
		if r == "" {
			errs = append(errs, field.Required(path.Index(i), ""))
			continue
		}
		every, main = every || r == "*/*", main || r == all
		resource, sub, has := strings.Cut(r, "/")
		if !has {
			plain = r != all // upstream looks at the last one only
			continue
		}
		if wholes[resource] {
			errs = append(errs, field.Invalid(path.Index(i), r, fmt.Sprintf("if '%s/*' is present, must not specify %s", resource, r)))
		}
		if subs[sub] {
			errs = append(errs, field.Invalid(path.Index(i), r, fmt.Sprintf("if '*/%s' is present, must not specify %s", sub, r)))
		}
		wholes[resource] = wholes[resource] || sub == all
		subs[sub] = subs[sub] || resource == all
	}
	if every && len(resources) > 1 {
		errs = append(errs, field.Invalid(path, resources, "if '*/*' is present, must not specify other resources"))
	}
	if main && plain {
		errs = append(errs, field.Invalid(path, resources, "if '*' is present, must not specify other resources without subresources"))
	}
	return errs
}
