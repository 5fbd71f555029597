package quota

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// ofClass separates a storage class from what is counted of its claims.
const ofClass = ".storageclass.storage.k8s.io/"

// ofClaims is true for names under which claims are counted.
func ofClaims(name corev1.ResourceName) bool {
	if _, rest, ok := strings.Cut(string(name), ofClass); ok {
		name = corev1.ResourceName(rest)
	}
	return name == corev1.ResourcePersistentVolumeClaims || name == corev1.ResourceRequestsStorage || name == "count/persistentvolumeclaims"
}

// claimUsage adds what c counts for: itself and its size, once more under its
// class.
func claimUsage(used corev1.ResourceList, c *corev1.PersistentVolumeClaim) {
	class := ""
	if old, ok := c.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		class = old
	} else if c.Spec.StorageClassName != nil {
		class = *c.Spec.StorageClassName
	}
	used[corev1.ResourcePersistentVolumeClaims] = one()
	if class != "" {
		used[corev1.ResourceName(class+ofClass)+corev1.ResourcePersistentVolumeClaims] = one()
	}
	size, ok := c.Spec.Resources.Requests[corev1.ResourceStorage]
	if !ok {
		return
	}
	// A volume that has grown already counts by what it has.
	if has, ok := c.Status.AllocatedResources[corev1.ResourceStorage]; ok && has.Cmp(size) > 0 {
		size = has
	}
	size = size.DeepCopy()
	size.RoundUp(0)
	used[corev1.ResourceRequestsStorage] = size
	if class != "" {
		used[corev1.ResourceName(class+ofClass)+corev1.ResourceRequestsStorage] = size
	}
}

func claimInScope(r corev1.ScopedResourceSelectorRequirement, c *corev1.PersistentVolumeClaim) bool {
	if r.ScopeName != corev1.ResourceQuotaScopeVolumeAttributesClass {
		return false
	}
	var names []string
	add := func(name *string) {
		if name != nil && *name != "" {
			names = append(names, *name)
		}
	}
	add(c.Spec.VolumeAttributesClassName)
	add(c.Status.CurrentVolumeAttributesClassName)
	if m := c.Status.ModifyVolumeStatus; m != nil {
		add(&m.TargetVolumeAttributesClassName)
	}
	return fits(r, names...)
}
