package statefulset

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// identity is the name of a pod's set and the pod's number in it, as its name
// says; -1 for a name that says none.
func identity(p *corev1.Pod) (parent string, ordinal int) {
	i := strings.LastIndexByte(p.Name, '-')
	if i < 0 {
		return "", -1
	}
	digits := p.Name[i+1:]
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return "", -1
	}
	n, err := strconv.ParseInt(digits, 10, 32)
	if err != nil {
		return p.Name[:i], -1
	}
	return p.Name[:i], int(n)
}

func ordinal(p *corev1.Pod) int {
	_, n := identity(p)
	return n
}

func podName(set *appsv1.StatefulSet, ordinal int) string {
	return fmt.Sprintf("%s-%d", set.Name, ordinal)
}

// claimName is the name of a pod's claim. The form is known outside: storage
// drivers spread zones by it.
func claimName(set *appsv1.StatefulSet, template string, ordinal int) string {
	return fmt.Sprintf("%s-%s-%d", template, set.Name, ordinal)
}

// first is the number of a set's first pod.
func first(set *appsv1.StatefulSet) int {
	if set.Spec.Ordinals != nil {
		return int(set.Spec.Ordinals.Start)
	}
	return 0
}

func size(set *appsv1.StatefulSet) int { return int(ptr.Deref(set.Spec.Replicas, 1)) }

// within is true for the numbers that a set's pods should have.
func within(set *appsv1.StatefulSet, ordinal int) bool {
	return ordinal >= first(set) && ordinal < first(set)+size(set)
}

// newPod is pod number ordinal, of a revision's template.
func newPod(set *appsv1.StatefulSet, template *corev1.PodTemplateSpec, revision string, ordinal int) *corev1.Pod {
	t := template.DeepCopy()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: set.Namespace, Name: podName(set, ordinal),
			Labels: t.Labels, Annotations: t.Annotations, Finalizers: t.Finalizers,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(set, appsv1.SchemeGroupVersion.WithKind("StatefulSet"))},
		},
		Spec: t.Spec,
	}
	identify(set, p)
	p.Labels[appsv1.StatefulSetRevisionLabel] = revision
	p.Spec.Hostname, p.Spec.Subdomain = p.Name, set.Spec.ServiceName
	mount(set, p)
	return p
}

// identify gives p the labels that say who it is. p is changed.
func identify(set *appsv1.StatefulSet, p *corev1.Pod) {
	n := ordinal(p)
	p.Labels = maps.Clone(p.Labels)
	if p.Labels == nil {
		p.Labels = map[string]string{}
	}
	p.Labels[appsv1.StatefulSetPodNameLabel] = podName(set, n)
	p.Labels[appsv1.PodIndexLabel] = strconv.Itoa(n)
}

// identified is true for a pod whose labels say who it is.
func identified(p *corev1.Pod) bool { return p.Labels[appsv1.StatefulSetPodNameLabel] == p.Name }

// mount gives p a volume for each of its claims, instead of any of the same
// name. p is changed.
func mount(set *appsv1.StatefulSet, p *corev1.Pod) {
	if len(set.Spec.VolumeClaimTemplates) == 0 {
		return
	}
	n, own := ordinal(p), map[string]bool{}
	var volumes []corev1.Volume
	for i := range set.Spec.VolumeClaimTemplates {
		name := set.Spec.VolumeClaimTemplates[i].Name
		own[name] = true
		volumes = append(volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claimName(set, name, n)}}})
	}
	for _, v := range p.Spec.Volumes {
		if !own[v.Name] {
			volumes = append(volumes, v)
		}
	}
	p.Spec.Volumes = volumes
}

// mounted is true for a pod that has a volume for each of its claims.
func mounted(set *appsv1.StatefulSet, p *corev1.Pod) bool {
	for i := range set.Spec.VolumeClaimTemplates {
		name, found := set.Spec.VolumeClaimTemplates[i].Name, false
		for j := range p.Spec.Volumes {
			v := &p.Spec.Volumes[j]
			found = found || v.Name == name && v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claimName(set, name, ordinal(p))
		}
		if !found {
			return false
		}
	}
	return true
}
