package storage

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
	"sampan/cluster/kind/volumespec"
)

// CSINode says which storage drivers a node has.
func CSINode() *kind.Kind {
	return kind.Declare(kind.Of[storagev1.CSINode]{
		GVK:         storagev1.SchemeGroupVersion.WithKind("CSINode"),
		Plural:      "csinodes",
		Rechecked:   true,
		Cluster:     true,
		Conditional: true,
		Validate:    validateCSINode,

		ReturnDeleted: true, // as upstream
		Parts: map[string]kind.Part[storagev1.CSINode]{
			"status": {
				Take: func(dst, src *storagev1.CSINode) { dst.Status = src.Status },
				Prepare: func(n, old *storagev1.CSINode) {
					if len(old.Status.StorageHealth) == 0 {
						n.Status.StorageHealth = nil // alpha upstream
					}
				},
				Validate: func(n, _ *storagev1.CSINode) field.ErrorList {
					return storageHealth(n.Status.StorageHealth, field.NewPath("status", "storageHealth"))
				},
			},
		},
		Columns: []kind.Column[storagev1.CSINode]{
			{Name: "Drivers", Type: "integer", Description: "Drivers indicates the number of CSI drivers registered on the node",
				Cell: func(n *storagev1.CSINode, _ time.Time) any { return int64(len(n.Spec.Drivers)) }},
			kind.Age[storagev1.CSINode](),
		},
	})
}

func validateCSINode(n, old *storagev1.CSINode) (errs field.ErrorList) {
	path, seen := field.NewPath("spec", "drivers"), map[string]bool{}
	for i, d := range n.Spec.Drivers {
		at := path.Index(i)
		errs = append(errs, volumespec.DriverName(d.Name, at.Child("name"))...)
		if d.NodeID == "" {
			errs = append(errs, field.Required(at.Child("nodeID"), ""))
		}
		if len(d.NodeID) > maxNodeID {
			errs = append(errs, field.Invalid(at.Child("nodeID"), d.NodeID, fmt.Sprintf("must be %d characters or less", maxNodeID)))
		}
		if d.Allocatable != nil && d.Allocatable.Count != nil {
			errs = append(errs, kind.NotNegative(int64(*d.Allocatable.Count), at.Child("allocatable", "count"))...)
		}
		if seen[d.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), d.Name))
		}
		seen[d.Name] = true
		keys := map[string]bool{}
		for _, key := range d.TopologyKeys {
			if key == "" {
				errs = append(errs, field.Required(at, ""))
			}
			if keys[key] {
				errs = append(errs, field.Duplicate(at, key))
			}
			keys[key] = true
			errs = append(errs, kind.QualifiedName(key, at)...)
		}
	}
	if old == nil {
		return errs
	}
	for _, was := range old.Spec.Drivers {
		for _, d := range n.Spec.Drivers {
			if d.Name == was.Name {
				d.Allocatable, was.Allocatable = nil, nil // may change
				errs = append(errs, kind.Immutable(&d, &was, path)...)
			}
		}
	}
	return errs
}

func storageHealth(all []storagev1.StorageHealth, path *field.Path) (errs field.ErrorList) {
	seen := map[string]bool{}
	for i, h := range all {
		at := path.Index(i)
		if seen[h.Name] {
			errs = append(errs, field.Duplicate(at, h.Name))
		}
		seen[h.Name] = true
		errs = append(errs, volumespec.DriverName(h.Name, at.Child("name"))...)
		conditions := at.Child("healthConditions")
		if len(h.HealthConditions) > 16 {
			errs = append(errs, field.TooMany(conditions, len(h.HealthConditions), 16))
			continue
		}
		for j, c := range h.HealthConditions {
			errs = append(errs, healthCondition(&c, conditions.Index(j))...)
		}
	}
	return errs
}

func healthCondition(c *storagev1.StorageHealthCondition, path *field.Path) (errs field.ErrorList) {
	if c.Status != storagev1.StorageDegraded && c.Status != storagev1.StorageUnreachable {
		errs = append(errs, field.NotSupported(path.Child("status"), c.Status,
			[]storagev1.StorageHealthStatusType{storagev1.StorageDegraded, storagev1.StorageUnreachable}))
	}
	reason := path.Child("reason")
	if c.Reason == "" {
		errs = append(errs, field.Required(reason, ""))
	} else {
		for _, msg := range metav1validation.IsValidConditionReason(c.Reason) {
			errs = append(errs, field.Invalid(reason, c.Reason, msg))
		}
		if len(c.Reason) > 256 {
			errs = append(errs, field.TooLong(reason, c.Reason, 256))
		}
	}
	if len(c.Message) > 1024 {
		errs = append(errs, field.TooLong(path.Child("message"), c.Message, 1024))
	}
	if c.AccessMode != nil {
		errs = append(errs, kind.OneOfIfSet(*c.AccessMode, path.Child("accessMode"),
			corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod)...)
	}
	if c.VolumeMode != nil {
		errs = append(errs, kind.OneOfIfSet(*c.VolumeMode, path.Child("volumeMode"), corev1.PersistentVolumeFilesystem, corev1.PersistentVolumeBlock)...)
	}
	return errs
}
