package volumespec

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// RefersTo is true for a volume that is bound to a claim, or meant for it.
func RefersTo(pv *corev1.PersistentVolume, pvc *corev1.PersistentVolumeClaim) bool {
	r := pv.Spec.ClaimRef
	return r != nil && r.Name == pvc.Name && r.Namespace == pvc.Namespace && (r.UID == "" || r.UID == pvc.UID)
}

// PreBound is the volume that was made for pvc, or nil.
func PreBound(pvc *corev1.PersistentVolumeClaim, volumes []*corev1.PersistentVolume) *corev1.PersistentVolume {
	i := slices.IndexFunc(volumes, func(pv *corev1.PersistentVolume) bool {
		return RefersTo(pv, pvc) && modeOf(pv.Spec.VolumeMode) == modeOf(pvc.Spec.VolumeMode)
	})
	if i < 0 {
		return nil
	}
	return volumes[i]
}

// Match is the volume that a claim gets: the one made for it, or else the
// smallest that is large enough; nil if there is none. Only those are looked
// at for which may is true, all for a nil may.
func Match(pvc *corev1.PersistentVolumeClaim, volumes []*corev1.PersistentVolume, may func(*corev1.PersistentVolume) bool) (best *corev1.PersistentVolume) {
	selector, err := metav1.LabelSelectorAsSelector(pvc.Spec.Selector)
	if err != nil {
		return nil
	}
	if pvc.Spec.Selector == nil {
		selector = labels.Everything()
	}
	if pv := PreBound(pvc, volumes); pv != nil {
		if may != nil && !may(pv) {
			return nil
		}
		return pv
	}
	for _, pv := range volumes {
		if pv.Spec.ClaimRef != nil || pv.DeletionTimestamp != nil || pv.Status.Phase == corev1.VolumeFailed || pv.Status.Phase == corev1.VolumeReleased ||
			!selector.Matches(labels.Set(pv.Labels)) || Unfit(pvc, pv) != "" || may != nil && !may(pv) {
			continue
		}
		if best == nil || pv.Spec.Capacity.Storage().Cmp(*best.Spec.Capacity.Storage()) < 0 {
			best = pv
		}
	}
	return best
}

// Unfit says why a volume cannot be pvc's, "" if it can.
func Unfit(pvc *corev1.PersistentVolumeClaim, pv *corev1.PersistentVolume) string {
	asked := pvc.Spec.Resources.Requests[corev1.ResourceStorage]
	switch {
	case pv.Spec.Capacity.Storage().Cmp(asked) < 0:
		return "requested PV is too small"
	case VolumeClass(pv) != ClaimClass(pvc):
		return "storageClassName does not match"
	case attributes(pv.Spec.VolumeAttributesClassName) != attributes(pvc.Spec.VolumeAttributesClassName):
		return "volumeAttributesClassName does not match"
	case modeOf(pv.Spec.VolumeMode) != modeOf(pvc.Spec.VolumeMode):
		return "incompatible volumeMode"
	}
	for _, m := range pvc.Spec.AccessModes {
		if !slices.Contains(pv.Spec.AccessModes, m) {
			return "incompatible accessMode"
		}
	}
	return ""
}

func modeOf(m *corev1.PersistentVolumeMode) corev1.PersistentVolumeMode {
	if m == nil {
		return corev1.PersistentVolumeFilesystem
	}
	return *m
}

func attributes(name *string) string {
	if name == nil {
		return ""
	}
	return *name
}
