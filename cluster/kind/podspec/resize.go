package podspec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// TakeResources copies what the resize subresource may change: the resources
// and resize policies of containers, found by name.
func TakeResources(dst, src *corev1.Pod) {
	from := map[string]*corev1.Container{}
	for c := range containers(&src.Spec) {
		from[c.Name] = c
	}
	for c := range containers(&dst.Spec) {
		if s := from[c.Name]; s != nil {
			c.Resources, c.ResizePolicy = s.Resources, s.ResizePolicy
		}
	}
	dst.Spec.Resources = src.Spec.Resources
}

// ValidateResize checks a change of a running pod's resources (KEP-1287).
func ValidateResize(p, old *corev1.Pod) (errs field.ErrorList) {
	spec := field.NewPath("spec")
	if _, static := old.Annotations[corev1.MirrorPodAnnotationKey]; static {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "static pods cannot be resized")}
	}
	if old.Spec.OS != nil && old.Spec.OS.Name == corev1.Windows {
		return field.ErrorList{field.Forbidden(field.NewPath(""), "windows pods cannot be resized")}
	}
	errs = append(errs, validateSpec(&p.Spec, options{}, spec)...)
	if was, now := QOSClass(old), QOSClass(p); was != now {
		errs = append(errs, field.Invalid(spec, now, "Pod QOS Class may not change as a result of resizing"))
	}
	rest := p.Spec.DeepCopy()
	was := map[string]*corev1.Container{}
	for c := range containers(&old.Spec) {
		was[c.Name] = c
	}
	for c := range containers(rest) {
		o := was[c.Name]
		if o == nil {
			continue
		}
		for _, l := range []struct{ now, was corev1.ResourceList }{{c.Resources.Limits, o.Resources.Limits}, {c.Resources.Requests, o.Resources.Requests}} {
			for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				_, has := l.now[name]
				if _, had := l.was[name]; had && !has {
					errs = append(errs, field.Forbidden(spec.Child("containers").Key(c.Name).Child("resources"), "resource limits cannot be removed"))
				}
			}
		}
		c.Resources = merge(c.Resources, o.Resources)
		c.ResizePolicy = o.ResizePolicy
	}
	rest.Resources = old.Spec.Resources
	if !equal(rest, &old.Spec) {
		errs = append(errs, field.Forbidden(spec, fmt.Sprintf("only cpu and memory resources are mutable\n%s", diff.Diff(rest, &old.Spec))))
	}
	return errs
}

// merge is now with was's cpu and memory, so that only other changes show.
func merge(now, was corev1.ResourceRequirements) corev1.ResourceRequirements {
	list := func(now, was corev1.ResourceList) corev1.ResourceList {
		l := now.DeepCopy()
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			delete(l, name)
			if q, ok := was[name]; ok {
				if l == nil {
					l = corev1.ResourceList{}
				}
				l[name] = q
			}
		}
		return l
	}
	now.Limits, now.Requests = list(now.Limits, was.Limits), list(now.Requests, was.Requests)
	return now
}
