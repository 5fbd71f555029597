package core

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
	"sampan/cluster/kind/podspec"
	"sampan/cluster/kind/volumespec"
)

// PersistentVolume is a piece of storage that outlives pods.
func PersistentVolume() *kind.Kind {
	text := func(name, description string, of func(*corev1.PersistentVolume) string) kind.Column[corev1.PersistentVolume] {
		return kind.Column[corev1.PersistentVolume]{Name: name, Description: description,
			Cell: func(pv *corev1.PersistentVolume, _ time.Time) any { return of(pv) }}
	}
	spec, status := corev1.PersistentVolumeSpec{}.SwaggerDoc(), corev1.PersistentVolumeStatus{}.SwaggerDoc()
	mode := text("VolumeMode", spec["volumeMode"], func(pv *corev1.PersistentVolume) string { return unset(pv.Spec.VolumeMode) })
	mode.Priority = 1
	return kind.Declare(kind.Of[corev1.PersistentVolume]{
		GVK:       corev1.SchemeGroupVersion.WithKind("PersistentVolume"),
		Plural:    "persistentvolumes",
		Rechecked: true,
		Short:     []string{"pv"},
		Cluster:   true,
		Default:   defaultVolume,
		Prepare:   prepareVolume,
		Validate:  validateVolume,
		Warn:      func(pv, _ *corev1.PersistentVolume) []string { return volumeWarnings(pv) },
		Ignored:   kind.Paths("", VolumeGaps),

		ReturnDeleted: true, // as upstream
		Parts: map[string]kind.Part[corev1.PersistentVolume]{
			"status": {
				Take:         func(dst, src *corev1.PersistentVolume) { dst.Status = src.Status },
				WithMetadata: true,
				Prepare:      keepTransition,
			},
		},
		Columns: []kind.Column[corev1.PersistentVolume]{
			text("Capacity", spec["capacity"], func(pv *corev1.PersistentVolume) string {
				q := pv.Spec.Capacity[corev1.ResourceStorage]
				return q.String()
			}),
			text("Access Modes", spec["accessModes"], func(pv *corev1.PersistentVolume) string { return volumespec.AccessModesCell(pv.Spec.AccessModes) }),
			text("Reclaim Policy", spec["persistentVolumeReclaimPolicy"], func(pv *corev1.PersistentVolume) string {
				return string(pv.Spec.PersistentVolumeReclaimPolicy)
			}),
			text("Status", status["phase"], func(pv *corev1.PersistentVolume) string {
				if pv.DeletionTimestamp != nil {
					return "Terminating"
				}
				return string(pv.Status.Phase)
			}),
			text("Claim", spec["claimRef"], func(pv *corev1.PersistentVolume) string {
				if r := pv.Spec.ClaimRef; r != nil {
					return r.Namespace + "/" + r.Name
				}
				return ""
			}),
			text("StorageClass", "StorageClass of the pv", volumespec.VolumeClass),
			text("VolumeAttributesClass", "VolumeAttributesClass of the pv", func(pv *corev1.PersistentVolume) string {
				return unset(pv.Spec.VolumeAttributesClassName)
			}),
			text("Reason", status["reason"], func(pv *corev1.PersistentVolume) string { return pv.Status.Reason }),
			kind.Age[corev1.PersistentVolume](),
			mode,
		},
	})
}

// unset is a cell for what need not be there.
func unset[T ~string](s *T) string {
	if s == nil {
		return "<unset>"
	}
	return string(*s)
}

func defaultVolume(pv *corev1.PersistentVolume) {
	if pv.Status.Phase == "" {
		pv.Status.Phase = corev1.VolumePending
	}
	volumespec.DefaultVolume(&pv.Spec)
}

// prepareVolume dates the first phase.
func prepareVolume(pv, old *corev1.PersistentVolume) {
	if old == nil {
		pv.Status.Phase = corev1.VolumePending
		if !pv.CreationTimestamp.IsZero() {
			created := pv.CreationTimestamp
			pv.Status.LastPhaseTransitionTime = &created
		}
	}
}

// keepTransition keeps the time of the last change of phase, where a writer of
// the status left it out and the phase is as it was.
func keepTransition(pv, old *corev1.PersistentVolume) {
	if pv.Status.Phase == old.Status.Phase && pv.Status.LastPhaseTransitionTime == nil {
		pv.Status.LastPhaseTransitionTime = old.Status.LastPhaseTransitionTime
	}
}

func validateVolume(pv, old *corev1.PersistentVolume) (errs field.ErrorList) {
	spec := field.NewPath("spec")
	errs = append(errs, volumespec.ValidateVolume(&pv.Spec, pv.Name, spec)...)
	if a := pv.Spec.NodeAffinity; a != nil {
		if at := spec.Child("nodeAffinity", "required"); a.Required == nil {
			errs = append(errs, field.Required(at, "must specify required node constraints"))
		} else if old == nil || old.Spec.NodeAffinity == nil || !kind.Equal(a, old.Spec.NodeAffinity) {
			errs = append(errs, podspec.ValidateNodeSelector(a.Required, at)...)
		}
	}
	if _, ok := pv.Annotations[corev1.MountOptionAnnotation]; ok && !takesMountOptions(&pv.Spec.PersistentVolumeSource) {
		errs = append(errs, field.Forbidden(field.NewPath("metadata", "annotations", corev1.MountOptionAnnotation),
			"may not specify mount options for this volume type"))
	}
	if old != nil {
		errs = append(errs, volumespec.ValidateVolumeUpdate(&pv.Spec, &old.Spec)...)
	}
	return errs
}

// takesMountOptions is true for the sources whose mount options may stand in
// an annotation.
func takesMountOptions(s *corev1.PersistentVolumeSource) bool {
	return s.GCEPersistentDisk != nil || s.AWSElasticBlockStore != nil || s.Glusterfs != nil || s.NFS != nil || s.RBD != nil ||
		s.Quobyte != nil || s.ISCSI != nil || s.Cinder != nil || s.CephFS != nil || s.AzureFile != nil || s.VsphereVolume != nil ||
		s.AzureDisk != nil || s.PhotonPersistentDisk != nil
}

func volumeWarnings(pv *corev1.PersistentVolume) (texts []string) {
	for _, a := range []struct{ key, text string }{
		{corev1.BetaStorageClassAnnotation, "deprecated since v1.8; use \"storageClassName\" attribute instead"},
		{corev1.MountOptionAnnotation, "deprecated since v1.31; use \"mountOptions\" attribute instead"},
	} {
		if _, ok := pv.Annotations[a.key]; ok {
			texts = append(texts, fmt.Sprintf("metadata.annotations[%s]: %s", a.key, a.text))
		}
	}
	if pv.Spec.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		texts = append(texts, "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.")
	}
	s := &pv.Spec
	for _, gone := range []struct {
		set        bool
		name, text string
	}{
		{s.CephFS != nil, "cephfs", "deprecated in v1.28, non-functional in v1.31+"},
		{s.PhotonPersistentDisk != nil, "photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"},
		{s.ScaleIO != nil, "scaleIO", "deprecated in v1.16, non-functional in v1.22+"},
		{s.StorageOS != nil, "storageOS", "deprecated in v1.22, non-functional in v1.25+"},
		{s.Glusterfs != nil, "glusterfs", "deprecated in v1.25, non-functional in v1.26+"},
		{s.RBD != nil, "rbd", "deprecated in v1.28, non-functional in v1.31+"},
	} {
		if gone.set {
			texts = append(texts, "spec."+gone.name+": "+gone.text)
		}
	}
	return texts
}
