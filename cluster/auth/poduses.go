package auth

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/kind/podspec"
)

// uses says whether a pod gives its node the right to an object of its
// namespace. A mirror pod gives none but to itself: the node makes those.
// (Upstream: Graph.AddPod, VisitPodSecretNames, VisitPodConfigmapNames.)
func uses(p *corev1.Pod, resource, name string) bool {
	if resource == "pods" {
		return p.Name == name
	}
	if _, mirror := p.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return false
	}
	switch resource {
	case "serviceaccounts":
		return p.Spec.ServiceAccountName == name
	case "secrets":
		return podspec.UsesSecret(p, name)
	case "configmaps":
		return podspec.UsesConfigMap(p, name)
	case "persistentvolumeclaims":
		return slices.Contains(claimsOf(p), name)
	case "resourceclaims":
		return usesResourceClaim(p, name)
	}
	return false
}

// claimsOf are the names of the claims whose volumes p mounts.
func claimsOf(p *corev1.Pod) (names []string) {
	for _, v := range p.Spec.Volumes {
		switch {
		case v.PersistentVolumeClaim != nil:
			names = append(names, v.PersistentVolumeClaim.ClaimName)
		case v.Ephemeral != nil:
			names = append(names, p.Name+"-"+v.Name)
		}
	}
	return names
}

// volumeUsesSecret says whether the node needs the Secret to mount v. A Secret
// without a namespace is in that of the claim. (Upstream:
// pkg/api/v1/persistentvolume VisitPVSecretNames.)
func volumeUsesSecret(v *corev1.PersistentVolume, namespace, name string) bool {
	for _, r := range volumeSecrets(&v.Spec.PersistentVolumeSource) {
		if r != nil && r.Name == name && cmp.Or(r.Namespace, v.Spec.ClaimRef.Namespace) == namespace {
			return true
		}
	}
	return false
}

func volumeSecrets(s *corev1.PersistentVolumeSource) []*corev1.SecretReference {
	switch {
	case s.CSI != nil: // the other two are for controllers
		return []*corev1.SecretReference{s.CSI.NodePublishSecretRef, s.CSI.NodeStageSecretRef, s.CSI.NodeExpandSecretRef}
	case s.AzureFile != nil:
		r := &corev1.SecretReference{Name: s.AzureFile.SecretName}
		if s.AzureFile.SecretNamespace != nil {
			r.Namespace = *s.AzureFile.SecretNamespace
		}
		return []*corev1.SecretReference{r}
	case s.CephFS != nil:
		return []*corev1.SecretReference{s.CephFS.SecretRef}
	case s.Cinder != nil:
		return []*corev1.SecretReference{s.Cinder.SecretRef}
	case s.FlexVolume != nil:
		return []*corev1.SecretReference{s.FlexVolume.SecretRef}
	case s.RBD != nil:
		return []*corev1.SecretReference{s.RBD.SecretRef}
	case s.ScaleIO != nil:
		return []*corev1.SecretReference{s.ScaleIO.SecretRef}
	case s.ISCSI != nil:
		return []*corev1.SecretReference{s.ISCSI.SecretRef}
	case s.StorageOS != nil && s.StorageOS.SecretRef != nil:
		return []*corev1.SecretReference{{Namespace: s.StorageOS.SecretRef.Namespace, Name: s.StorageOS.SecretRef.Name}}
	}
	return nil
}

func usesResourceClaim(p *corev1.Pod, name string) bool {
	if s := p.Status.ExtendedResourceClaimStatus; s != nil && s.ResourceClaimName == name {
		return true
	}
	return slices.ContainsFunc(p.Spec.ResourceClaims, func(c corev1.PodResourceClaim) bool {
		if c.ResourceClaimName != nil {
			return *c.ResourceClaimName == name
		}
		return slices.ContainsFunc(p.Status.ResourceClaimStatuses, func(s corev1.PodResourceClaimStatus) bool {
			return s.Name == c.Name && s.ResourceClaimName != nil && *s.ResourceClaimName == name
		})
	})
}
