// Package resource is about what pods may use of the machine: quality of
// service, kernel limits of a container, cgroup parents, and what the node has
// to give.
//
// It decides with values; the runtime applies them. Eviction under pressure
// and device plugins are not there yet.
package resource

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// QOS is the pod's quality of service class: Guaranteed when every container
// has cpu and memory limits equal to its requests, BestEffort when none has
// any, else Burstable. A class in the status counts: it never changes
// (k8s.io/design-proposals: resource-qos).
func QOS(pod *corev1.Pod) corev1.PodQOSClass {
	if pod.Status.QOSClass != "" {
		return pod.Status.QOSClass
	}
	if r := pod.Spec.Resources; r != nil && (len(r.Requests) > 0 || len(r.Limits) > 0) {
		return classOf([]corev1.ResourceRequirements{*r})
	}
	var all []corev1.ResourceRequirements
	for i := range pod.Spec.InitContainers {
		all = append(all, pod.Spec.InitContainers[i].Resources)
	}
	for i := range pod.Spec.Containers {
		all = append(all, pod.Spec.Containers[i].Resources)
	}
	return classOf(all)
}

func classOf(all []corev1.ResourceRequirements) corev1.PodQOSClass {
	any, guaranteed := false, true
	for _, r := range all {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			limit, request := r.Limits[name], r.Requests[name]
			if request.IsZero() && !limit.IsZero() {
				request = limit // the API's default
			}
			any = any || !limit.IsZero() || !request.IsZero()
			guaranteed = guaranteed && !limit.IsZero() && limit.Cmp(request) == 0
		}
	}
	switch {
	case !any:
		return corev1.PodQOSBestEffort
	case guaranteed:
		return corev1.PodQOSGuaranteed
	}
	return corev1.PodQOSBurstable
}

// OOMScoreAdj is how ready the kernel should be to kill a container: -997 for
// Guaranteed and node-critical pods, 1000 for BestEffort, and for Burstable less
// the more memory it asks for.
func OOMScoreAdj(pod *corev1.Pod, c *corev1.Container, machineMemory int64) int64 {
	const critical = 2000000000 // system priority classes begin here
	if p := pod.Spec.Priority; p != nil && *p >= critical {
		return -997
	}
	switch QOS(pod) {
	case corev1.PodQOSGuaranteed:
		return -997
	case corev1.PodQOSBestEffort:
		return 1000
	}
	request := quantity(c.Resources.Requests, corev1.ResourceMemory)
	score := int64(1000)
	if machineMemory > 0 {
		score = 1000 - 1000*request.Value()/machineMemory
	}
	// Never better than a guaranteed pod, nor as bad as one without requests.
	return min(max(score, 3), 999)
}

func quantity(l corev1.ResourceList, name corev1.ResourceName) resource.Quantity {
	if q, ok := l[name]; ok {
		return q
	}
	return resource.Quantity{}
}
