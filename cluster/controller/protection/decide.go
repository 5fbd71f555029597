package protection

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// podUses is true if a node may have, or come to have, the claim mounted for
// pod. A pod without a node is no hindrance: nodes do not start pods with a
// claim that is leaving.
func podUses(pod *corev1.Pod, pvc *corev1.PersistentVolumeClaim) bool {
	if pod.Spec.NodeName == "" || pod.Namespace != pvc.Namespace {
		return false
	}
	for i := range pod.Spec.Volumes {
		switch v := &pod.Spec.Volumes[i]; {
		case v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == pvc.Name:
			return true
		case v.Ephemeral != nil && ephemeralClaim(pod, v) == pvc.Name && metav1.IsControlledBy(pvc, pod) && !shutDown(pod):
			return true
		}
	}
	return false
}

// claimsOf are the claims that pod names.
func claimsOf(pod *corev1.Pod) (names []string) {
	if pod == nil {
		return nil
	}
	for i := range pod.Spec.Volumes {
		switch v := &pod.Spec.Volumes[i]; {
		case v.PersistentVolumeClaim != nil:
			names = append(names, v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			names = append(names, ephemeralClaim(pod, v))
		}
	}
	return names
}

// ephemeralClaim is the name of the claim that is made for a volume of a pod
// (KEP-1698).
func ephemeralClaim(pod *corev1.Pod, v *corev1.Volume) string { return pod.Name + "-" + v.Name }

// shutDown is true for a pod of which nothing runs, and nothing will.
func shutDown(pod *corev1.Pod) bool {
	if pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed {
		return false
	}
	for i := range pod.Status.ContainerStatuses {
		if pod.Status.ContainerStatuses[i].State.Running != nil {
			return false
		}
	}
	return true
}

// classesOfClaim are the classes of attributes that a claim has or wants.
func classesOfClaim(pvc *corev1.PersistentVolumeClaim) (names []string) {
	if pvc == nil {
		return nil
	}
	for _, name := range []*string{pvc.Spec.VolumeAttributesClassName, pvc.Status.CurrentVolumeAttributesClassName} {
		if name != nil && *name != "" {
			names = append(names, *name)
		}
	}
	if m := pvc.Status.ModifyVolumeStatus; m != nil && m.TargetVolumeAttributesClassName != "" {
		names = append(names, m.TargetVolumeAttributesClassName)
	}
	return names
}

func classesOfVolume(pv *corev1.PersistentVolume) []string {
	if pv == nil || pv.Spec.VolumeAttributesClassName == nil || *pv.Spec.VolumeAttributesClassName == "" {
		return nil
	}
	return []string{*pv.Spec.VolumeAttributesClassName}
}
