package podspec

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// UsesSecret says whether a pod needs a Secret of its namespace. (Upstream:
// pkg/api/v1/pod VisitPodSecretNames.)
func UsesSecret(p *corev1.Pod, name string) bool {
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

// UsesConfigMap says whether a pod needs a ConfigMap of its namespace.
// (Upstream: pkg/api/v1/pod VisitPodConfigmapNames.)
func UsesConfigMap(p *corev1.Pod, name string) bool {
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
