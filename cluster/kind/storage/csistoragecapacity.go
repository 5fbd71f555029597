package storage

import (
	storagev1 "k8s.io/api/storage/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
	"sampan/cluster/kind/volumespec"
)

// CSIStorageCapacity says how much a driver can still give in some place.
func CSIStorageCapacity() *kind.Kind {
	return kind.Declare(kind.Of[storagev1.CSIStorageCapacity]{
		GVK:         storagev1.SchemeGroupVersion.WithKind("CSIStorageCapacity"),
		Plural:      "csistoragecapacities",
		Rechecked:   true,
		Conditional: true,
		Validate:    validateCapacity,
		Ignored:     kind.Paths("", CapacityGaps),
	})
}

func validateCapacity(c, old *storagev1.CSIStorageCapacity) (errs field.ErrorList) {
	path := field.NewPath("nodeTopology")
	o := metav1validation.LabelSelectorValidationOptions{
		AllowInvalidLabelValueInSelector: old != nil && len(metav1validation.ValidateLabelSelector(old.NodeTopology, metav1validation.LabelSelectorValidationOptions{}, nil)) > 0}
	errs = append(errs, metav1validation.ValidateLabelSelector(c.NodeTopology, o, path)...)
	class := field.NewPath("storageClassName")
	errs = append(errs, volumespec.ClassName(c.StorageClassName, class)...)
	if c.Capacity != nil && c.Capacity.Sign() < 0 {
		errs = append(errs, field.Invalid(field.NewPath("capacity"), c.Capacity.String(), "must be greater than or equal to 0").WithOrigin("minimum"))
	}
	if old != nil {
		errs = append(errs, kind.Immutable(c.NodeTopology, old.NodeTopology, path)...)
		errs = append(errs, kind.Immutable(c.StorageClassName, old.StorageClassName, class)...)
	}
	return errs
}
