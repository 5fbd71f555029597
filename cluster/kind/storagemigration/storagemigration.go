// Package storagemigration declares the kinds of storagemigration.k8s.io.
package storagemigration

import (
	"strings"
	"time"

	migrationv1 "k8s.io/api/storagemigration/v1"
	migrationv1beta1 "k8s.io/api/storagemigration/v1beta1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// Kinds is the table of this group.
func Kinds() []*kind.Kind { return []*kind.Kind{StorageVersionMigration()} }

// StorageVersionMigration asks for all objects of a kind to be written again,
// in the version in which they are stored now.
func StorageVersionMigration() *kind.Kind {
	return kind.Declare(kind.Of[migrationv1.StorageVersionMigration]{
		GVK:         migrationv1.SchemeGroupVersion.WithKind("StorageVersionMigration"),
		Plural:      "storageversionmigrations",
		Stored:      []kind.Version{kind.StoredLike[migrationv1beta1.StorageVersionMigration, migrationv1.StorageVersionMigration](migrationv1beta1.SchemeGroupVersion)},
		Cluster:     true,
		Conditional: true,
		Validate:    validateMigration,
		Ignored:     kind.Paths("", MigrationGaps),
		Parts: map[string]kind.Part[migrationv1.StorageVersionMigration]{
			"status": {
				Take:     func(dst, src *migrationv1.StorageVersionMigration) { dst.Status = src.Status },
				Validate: validateStatus,
			},
		},
		Columns: []kind.Column[migrationv1.StorageVersionMigration]{
			{Name: "Resource", Description: "GroupResource to migrate",
				Cell: func(m *migrationv1.StorageVersionMigration, _ time.Time) any { return m.Spec.Resource.String() }},
			{Name: "Status", Description: "Status of the migration",
				Cell: func(m *migrationv1.StorageVersionMigration, _ time.Time) any { return statusCell(m) }},
		},
	})
}

func statusCell(m *migrationv1.StorageVersionMigration) string {
	text := "Unknown"
	for _, c := range m.Status.Conditions {
		switch migrationv1.MigrationConditionType(c.Type) {
		case migrationv1.MigrationRunning, migrationv1.MigrationFailed, migrationv1.MigrationSucceeded:
			if c.Status == metav1.ConditionTrue {
				text = c.Type
			}
		}
	}
	return text
}

func validateMigration(m, old *migrationv1.StorageVersionMigration) (errs field.ErrorList) {
	spec := field.NewPath("spec")
	r, at := m.Spec.Resource, spec.Child("resource")
	if r.Resource == "" {
		errs = append(errs, field.Required(at.Child("resource"), "resource is required to be set"))
	} else if msgs := validation.IsDNS1035Label(r.Resource); len(msgs) > 0 {
		errs = append(errs, field.Invalid(at.Child("resource"), r.Resource, strings.Join(msgs, ",")))
	}
	if r.Group != "" {
		if msgs := validation.IsDNS1123Subdomain(r.Group); len(msgs) > 0 {
			errs = append(errs, field.Invalid(at.Child("group"), r.Group, strings.Join(msgs, ",")))
		}
	}
	if old != nil {
		errs = append(errs, kind.Immutable(m.Spec, old.Spec, spec)...)
	}
	return errs
}

func validateStatus(m, old *migrationv1.StorageVersionMigration) (errs field.ErrorList) {
	status := field.NewPath("status")
	version, conditions := status.Child("resourceVersion"), status.Child("conditions")
	if v := m.Status.ResourceVersion; v != "" {
		if _, err := resourceversion.CompareResourceVersion(v, v); err != nil {
			errs = append(errs, field.Invalid(version, v, err.Error()))
		}
	}
	errs = append(errs, metav1validation.ValidateConditions(m.Status.Conditions, conditions)...)
	if was := old.Status.ResourceVersion; was != "" && was != m.Status.ResourceVersion {
		errs = append(errs, field.Invalid(version, m.Status.ResourceVersion, "field is immutable"))
	}
	is := func(m *migrationv1.StorageVersionMigration, t migrationv1.MigrationConditionType) bool {
		return meta.IsStatusConditionTrue(m.Status.Conditions, string(t))
	}
	if is(m, migrationv1.MigrationSucceeded) && is(m, migrationv1.MigrationFailed) {
		errs = append(errs, field.Invalid(conditions, m.Status.Conditions, "Both success and failed conditions cannot be true at the same time"))
	}
	if is(old, migrationv1.MigrationSucceeded) && !is(m, migrationv1.MigrationSucceeded) {
		errs = append(errs, field.Invalid(conditions, m.Status.Conditions, "Success condition cannot be set to false once it is true"))
	}
	if is(old, migrationv1.MigrationFailed) && !is(m, migrationv1.MigrationFailed) {
		errs = append(errs, field.Invalid(conditions, m.Status.Conditions, "Failed condition cannot be set to false once it is true"))
	}
	return errs
}
