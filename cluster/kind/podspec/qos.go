package podspec

import (
	"iter"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// containers yields the init containers and the containers of a spec, which
// may be changed in place.
func containers(s *corev1.PodSpec) iter.Seq[*corev1.Container] {
	return func(yield func(*corev1.Container) bool) {
		for i := range s.InitContainers {
			if !yield(&s.InitContainers[i]) {
				return
			}
		}
		for i := range s.Containers {
			if !yield(&s.Containers[i]) {
				return
			}
		}
	}
}

// QOSClass is how well a pod is protected when its node runs out: Guaranteed
// if every container has limits for cpu and memory and asks for just as much,
// BestEffort if none asks for anything, else Burstable.
func QOSClass(p *corev1.Pod) corev1.PodQOSClass {
	if r := p.Spec.Resources; r != nil && (asks(r) || limited(r)) {
		if guaranteed(r) {
			return corev1.PodQOSGuaranteed
		}
		return corev1.PodQOSBurstable
	}
	all, some := true, false
	for c := range containers(&p.Spec) {
		all = all && guaranteed(&c.Resources)
		some = some || asks(&c.Resources) || limited(&c.Resources)
	}
	switch {
	case !some:
		return corev1.PodQOSBestEffort
	case all:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

func positive(l corev1.ResourceList, name corev1.ResourceName) bool {
	q, ok := l[name]
	return ok && q.Sign() > 0
}

func asks(r *corev1.ResourceRequirements) bool {
	return positive(r.Requests, corev1.ResourceCPU) || positive(r.Requests, corev1.ResourceMemory)
}

func limited(r *corev1.ResourceRequirements) bool {
	return positive(r.Limits, corev1.ResourceCPU) || positive(r.Limits, corev1.ResourceMemory)
}

func guaranteed(r *corev1.ResourceRequirements) bool {
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		limit := r.Limits[name]
		if limit.Sign() <= 0 {
			return false
		}
		if request, set := r.Requests[name]; set && request.Sign() > 0 && request.Cmp(limit) != 0 {
			return false
		}
	}
	return true
}

// isSidecar is true for an init container that keeps running.
func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// sumRequests is what the containers of a pod ask for together: the sum of
// containers and sidecars, or what one init container needs beside the
// sidecars started before it, whichever is more.
func sumRequests(s *corev1.PodSpec) corev1.ResourceList {
	sum, peak, sidecars := corev1.ResourceList{}, corev1.ResourceList{}, corev1.ResourceList{}
	for i := range s.Containers {
		add(sum, s.Containers[i].Resources.Requests)
	}
	for i := range s.InitContainers {
		c := &s.InitContainers[i]
		need := c.Resources.Requests
		if isSidecar(c) {
			add(sum, need)
			add(sidecars, need)
			need = nil
		}
		at := sidecars.DeepCopy()
		add(at, need)
		atLeast(peak, at)
	}
	atLeast(sum, peak)
	return sum
}

func add(sum, more corev1.ResourceList) {
	for name, q := range more {
		total := sum[name].DeepCopy()
		total.Add(q)
		sum[name] = total
	}
}

func atLeast(sum, floor corev1.ResourceList) {
	for name, q := range floor {
		if have, ok := sum[name]; !ok || have.Cmp(q) < 0 {
			sum[name] = q.DeepCopy()
		}
	}
}

// podLevel is true for a resource that spec.resources may name.
func podLevel(name corev1.ResourceName) bool {
	return name == corev1.ResourceCPU || name == corev1.ResourceMemory || strings.HasPrefix(string(name), corev1.ResourceHugePagesPrefix)
}
