package podspec

import (
	corev1 "k8s.io/api/core/v1"
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
	spec, whole := field.NewPath("spec"), field.NewPath("")
	if _, static := old.Annotations[corev1.MirrorPodAnnotationKey]; static {
		return field.ErrorList{field.Forbidden(whole, "static pods cannot be resized")}
	}
	if old.Spec.OS != nil && old.Spec.OS.Name == corev1.Windows {
		return field.ErrorList{field.Forbidden(whole, "windows pods cannot be resized")}
	}
	errs = append(errs, validateSpec(&p.Spec, options{}, spec)...)
	errs = append(errs, onlyForPods(&p.Spec, spec)...)
	if was, now := QOSClass(old), QOSClass(p); was != now {
		errs = append(errs, field.Invalid(spec, p.Status.QOSClass, "Pod QOS Class may not change as a result of resizing"))
	}
	if len(p.Spec.Containers) != len(old.Spec.Containers) || len(p.Spec.InitContainers) != len(old.Spec.InitContainers) {
		return append(errs, field.Forbidden(spec, "only cpu and memory resources are mutable"))
	}
	rest := p.Spec.DeepCopy()
	for i := range rest.InitContainers {
		c, was := &rest.InitContainers[i], &old.Spec.InitContainers[i]
		if !isSidecar(c) {
			if !equal(c, was) {
				errs = append(errs, field.Forbidden(spec, "resources for non-sidecar init containers are immutable"))
			}
			continue
		}
		errs = append(errs, resized(c, was, spec.Child("initContainers").Index(i).Child("resources"))...)
		if setBack(c, was); !equal(c, was) {
			errs = append(errs, field.Forbidden(spec, "only cpu and memory resources for sidecar containers are mutable"))
		}
	}
	for i := range rest.Containers {
		c, was := &rest.Containers[i], &old.Spec.Containers[i]
		errs = append(errs, resized(c, was, spec.Child("containers").Index(i).Child("resources"))...)
		if setBack(c, was); !equal(c, was) {
			errs = append(errs, field.Forbidden(spec, "only cpu and memory resources are mutable"))
		}
	}
	rest.Resources = old.Spec.Resources
	if len(errs) == 0 && !equal(rest, &old.Spec) {
		errs = append(errs, field.Forbidden(spec, "only cpu and memory resources are mutable"))
	}
	return errs
}

// resized: what was promised may change and not go. (Since 1.34 a memory limit
// may be lowered; the node looks whether it can be.)
func resized(c, was *corev1.Container, path *field.Path) (errs field.ErrorList) {
	if lost(c.Resources.Requests, was.Resources.Requests) {
		errs = append(errs, field.Forbidden(path.Child("requests"), "resource requests cannot be removed"))
	}
	if lost(c.Resources.Limits, was.Resources.Limits) {
		errs = append(errs, field.Forbidden(path.Child("limits"), "resource limits cannot be removed"))
	}
	return errs
}

func lost(now, was corev1.ResourceList) bool {
	for name := range was {
		if _, ok := now[name]; !ok {
			return true
		}
	}
	return false
}

// setBack gives c the cpu and memory it had, so that other changes show.
func setBack(c, was *corev1.Container) {
	list := func(now, was corev1.ResourceList) corev1.ResourceList {
		l := now.DeepCopy()
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			delete(l, name)
			if q, ok := was[name]; ok && l != nil {
				l[name] = q
			} else if ok {
				l = corev1.ResourceList{name: q}
			}
		}
		return l
	}
	c.Resources.Limits = list(c.Resources.Limits, was.Resources.Limits)
	c.Resources.Requests = list(c.Resources.Requests, was.Resources.Requests)
	c.ResizePolicy = was.ResizePolicy
}
