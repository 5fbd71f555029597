// Package flowcontrol declares the kinds of flowcontrol.apiserver.k8s.io, a
// file per kind: which requests wait for which (KEP-1040), and the objects
// that every cluster has of them (bootstrap.go).
package flowcontrol

import (
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// Kinds is the table of this group.
func Kinds() []*kind.Kind { return []*kind.Kind{FlowSchema(), PriorityLevelConfiguration()} }

// conditionTypes checks the types of a status's conditions: there, and once.
func conditionTypes[T ~string](types []T) (errs field.ErrorList) {
	seen := map[T]bool{}
	for i, t := range types {
		at := field.NewPath("status", "conditions").Index(i).Child("type")
		if seen[t] {
			errs = append(errs, field.Duplicate(at, t))
		}
		seen[t] = true
		if t == "" {
			errs = append(errs, field.Required(at, ""))
		}
	}
	return errs
}
