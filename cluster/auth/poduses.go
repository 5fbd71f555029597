package auth

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
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
		return usesSecret(p, name)
	case "configmaps":
		return usesConfigMap(p, name)
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

func usesSecret(p *corev1.Pod, name string) bool {
	local := func(r *corev1.LocalObjectReference) bool { return r != nil && r.Name == name }
	return slices.ContainsFunc(p.Spec.ImagePullSecrets, func(r corev1.LocalObjectReference) bool { return r.Name == name }) ||
		anyEnvironment(p, func(from []corev1.EnvFromSource, env []corev1.EnvVar) bool {
			return slices.ContainsFunc(from, func(e corev1.EnvFromSource) bool { return e.SecretRef != nil && e.SecretRef.Name == name }) ||
				slices.ContainsFunc(env, func(e corev1.EnvVar) bool {
					return e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && e.ValueFrom.SecretKeyRef.Name == name
				})
		}) ||
		slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
			switch {
			case v.Secret != nil:
				return v.Secret.SecretName == name
			case v.Projected != nil:
				return slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool {
					return s.Secret != nil && s.Secret.Name == name
				})
			case v.CSI != nil:
				return local(v.CSI.NodePublishSecretRef)
			case v.AzureFile != nil:
				return v.AzureFile.SecretName == name
			case v.CephFS != nil:
				return local(v.CephFS.SecretRef)
			case v.Cinder != nil:
				return local(v.Cinder.SecretRef)
			case v.FlexVolume != nil:
				return local(v.FlexVolume.SecretRef)
			case v.RBD != nil:
				return local(v.RBD.SecretRef)
			case v.ScaleIO != nil:
				return local(v.ScaleIO.SecretRef)
			case v.ISCSI != nil:
				return local(v.ISCSI.SecretRef)
			case v.StorageOS != nil:
				return local(v.StorageOS.SecretRef)
			}
			return false
		})
}

func usesConfigMap(p *corev1.Pod, name string) bool {
	return anyEnvironment(p, func(from []corev1.EnvFromSource, env []corev1.EnvVar) bool {
		return slices.ContainsFunc(from, func(e corev1.EnvFromSource) bool { return e.ConfigMapRef != nil && e.ConfigMapRef.Name == name }) ||
			slices.ContainsFunc(env, func(e corev1.EnvVar) bool {
				return e.ValueFrom != nil && e.ValueFrom.ConfigMapKeyRef != nil && e.ValueFrom.ConfigMapKeyRef.Name == name
			})
	}) || slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
		switch {
		case v.ConfigMap != nil:
			return v.ConfigMap.Name == name
		case v.Projected != nil:
			return slices.ContainsFunc(v.Projected.Sources, func(s corev1.VolumeProjection) bool {
				return s.ConfigMap != nil && s.ConfigMap.Name == name
			})
		}
		return false
	})
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

// anyEnvironment looks at the environments of all containers of a pod.
func anyEnvironment(p *corev1.Pod, of func(from []corev1.EnvFromSource, env []corev1.EnvVar) bool) bool {
	for _, list := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for i := range list {
			if of(list[i].EnvFrom, list[i].Env) {
				return true
			}
		}
	}
	for i := range p.Spec.EphemeralContainers {
		if c := &p.Spec.EphemeralContainers[i]; of(c.EnvFrom, c.Env) {
			return true
		}
	}
	return false
}
