// Package coordination declares the kinds of coordination.k8s.io.
package coordination

import (
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// Kinds is the table of this group.
func Kinds() []*kind.Kind { return []*kind.Kind{Lease()} }

// Lease says who holds something and until when: leadership, or being alive.
func Lease() *kind.Kind {
	return kind.Declare(kind.Of[coordinationv1.Lease]{
		GVK:            coordinationv1.SchemeGroupVersion.WithKind("Lease"),
		Plural:         "leases",
		AnyFinalizer:   true,
		CreateOnUpdate: true,
		Conditional:    true,
		Prepare:        dropCoordination,
		Validate:       validateLease,
		Ignored:        kind.Paths("", LeaseGaps),
		Columns: []kind.Column[coordinationv1.Lease]{
			{Name: "Holder", Description: coordinationv1.LeaseSpec{}.SwaggerDoc()["holderIdentity"],
				Cell: func(l *coordinationv1.Lease, _ time.Time) any {
					if l.Spec.HolderIdentity == nil {
						return ""
					}
					return *l.Spec.HolderIdentity
				}},
			kind.Age[coordinationv1.Lease](),
		},
	})
}

// dropCoordination takes away what belongs to coordinated leader election
// (KEP-4355), which upstream has not on by default, unless it is there already.
func dropCoordination(l, old *coordinationv1.Lease) {
	if old == nil || old.Spec.Strategy == nil {
		l.Spec.Strategy = nil
	}
	if old == nil || old.Spec.PreferredHolder == nil {
		l.Spec.PreferredHolder = nil
	}
}

func validateLease(l, _ *coordinationv1.Lease) (errs field.ErrorList) {
	s, path := &l.Spec, field.NewPath("spec")
	if d := s.LeaseDurationSeconds; d != nil && *d <= 0 {
		errs = append(errs, field.Invalid(path.Child("leaseDurationSeconds"), *d, "must be greater than 0"))
	}
	if n := s.LeaseTransitions; n != nil && *n < 0 {
		errs = append(errs, field.Invalid(path.Child("leaseTransitions"), *n, "must be greater than or equal to 0"))
	}
	if s.Strategy != nil {
		errs = append(errs, kind.QualifiedName(string(*s.Strategy), path.Child("strategy"))...)
	}
	if p := s.PreferredHolder; p != nil && *p != "" && (s.Strategy == nil || *s.Strategy == "") {
		errs = append(errs, field.Forbidden(path.Child("preferredHolder"), "may only be specified when `strategy` is defined"))
	}
	return errs
}
