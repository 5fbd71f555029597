package core

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
	"sampan/cluster/kind/volumespec"
)

// PersistentVolumeClaim asks for storage, and is what pods name.
func PersistentVolumeClaim() *kind.Kind {
	text := func(name, description string, of func(*corev1.PersistentVolumeClaim) string) kind.Column[corev1.PersistentVolumeClaim] {
		return kind.Column[corev1.PersistentVolumeClaim]{Name: name, Description: description,
			Cell: func(pvc *corev1.PersistentVolumeClaim, _ time.Time) any { return of(pvc) }}
	}
	spec, status := corev1.PersistentVolumeClaimSpec{}.SwaggerDoc(), corev1.PersistentVolumeClaimStatus{}.SwaggerDoc()
	mode := text("VolumeMode", spec["volumeMode"], func(pvc *corev1.PersistentVolumeClaim) string { return unset(pvc.Spec.VolumeMode) })
	mode.Priority = 1
	return kind.Declare(kind.Of[corev1.PersistentVolumeClaim]{
		GVK:       corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"),
		Plural:    "persistentvolumeclaims",
		Rechecked: true,
		Short:     []string{"pvc"},
		Default: func(pvc *corev1.PersistentVolumeClaim) {
			if pvc.Status.Phase == "" {
				pvc.Status.Phase = corev1.ClaimPending
			}
			volumespec.DefaultClaim(&pvc.Spec)
		},
		Prepare: func(pvc, old *corev1.PersistentVolumeClaim) {
			var was *corev1.PersistentVolumeClaimSpec
			if old != nil {
				was = &old.Spec
			}
			volumespec.PrepareClaim(&pvc.Spec, was)
		},
		Validate: validateClaim,
		Warn:     claimWarnings,
		Ignored:  kind.Paths("", ClaimGaps),

		ReturnDeleted: true, // as upstream
		Parts: map[string]kind.Part[corev1.PersistentVolumeClaim]{
			"status": {
				Take:         func(dst, src *corev1.PersistentVolumeClaim) { dst.Status = src.Status },
				WithMetadata: true,
				Prepare: func(pvc, old *corev1.PersistentVolumeClaim) {
					if old.Status.HealthStatus == nil {
						pvc.Status.HealthStatus = nil // alpha upstream
					}
				},
				Validate: func(pvc, _ *corev1.PersistentVolumeClaim) field.ErrorList { return volumespec.ValidateClaimStatus(pvc) },
			},
		},
		Columns: []kind.Column[corev1.PersistentVolumeClaim]{
			text("Status", status["phase"], func(pvc *corev1.PersistentVolumeClaim) string {
				if pvc.DeletionTimestamp != nil {
					return "Terminating"
				}
				return string(pvc.Status.Phase)
			}),
			text("Volume", spec["volumeName"], func(pvc *corev1.PersistentVolumeClaim) string { return pvc.Spec.VolumeName }),
			text("Capacity", status["capacity"], func(pvc *corev1.PersistentVolumeClaim) string {
				if pvc.Spec.VolumeName == "" {
					return ""
				}
				q := pvc.Status.Capacity[corev1.ResourceStorage]
				return q.String()
			}),
			text("Access Modes", status["accessModes"], func(pvc *corev1.PersistentVolumeClaim) string {
				if pvc.Spec.VolumeName == "" {
					return ""
				}
				return volumespec.AccessModesCell(pvc.Status.AccessModes)
			}),
			text("StorageClass", "StorageClass of the pvc", volumespec.ClaimClass),
			text("VolumeAttributesClass", "VolumeAttributesClass of the pvc", func(pvc *corev1.PersistentVolumeClaim) string {
				return unset(pvc.Spec.VolumeAttributesClassName)
			}),
			kind.Age[corev1.PersistentVolumeClaim](),
			mode,
		},
	})
}

func validateClaim(pvc, old *corev1.PersistentVolumeClaim) field.ErrorList {
	path := field.NewPath("spec")
	if old == nil {
		return volumespec.ValidateClaim(&pvc.Spec, nil, path)
	}
	return append(volumespec.ValidateClaim(&pvc.Spec, &old.Spec, path), volumespec.ValidateClaimUpdate(pvc, old)...)
}

func claimWarnings(pvc, _ *corev1.PersistentVolumeClaim) (texts []string) {
	if _, ok := pvc.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		texts = append(texts, fmt.Sprintf("metadata.annotations[%s]: deprecated since v1.8; use \"storageClassName\" attribute instead",
			corev1.BetaStorageClassAnnotation))
	}
	return append(texts, volumespec.ClaimWarnings(&pvc.Spec, field.NewPath("spec"))...)
}
