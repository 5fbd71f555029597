package pod

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	helper "k8s.io/component-helpers/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
)

// Admit says why a node cannot take a pod beside those it has, nil if it can. A
// pod that the scheduler placed fits; one with spec.nodeName set by hand may
// not. Reasons and messages are upstream's.
func Admit(pod *corev1.Pod, node *corev1.Node, others []*corev1.Pod) *Verdict {
	if v := sysctlForbidden(pod); v != nil {
		return v
	}
	if pod.Spec.OS != nil && pod.Spec.OS.Name != corev1.Linux {
		return &Verdict{"PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"}
	}
	if v := fits(pod, node, others); v != nil {
		return v
	}
	if ok, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node); err != nil || !ok {
		return &Verdict{"NodeAffinity", "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"}
	}
	if conflict(pod, others) {
		return &Verdict{"NodePorts", "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"}
	}
	for i := range node.Spec.Taints {
		t := &node.Spec.Taints[i]
		if t.Effect == corev1.TaintEffectNoExecute && !tolerated(pod, t) {
			return &Verdict{"TaintToleration", "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"}
		}
	}
	return nil
}

func fits(pod *corev1.Pod, node *corev1.Node, others []*corev1.Pod) *Verdict {
	if pods := node.Status.Allocatable.Pods(); !pods.IsZero() && int64(len(others))+1 > pods.Value() {
		return outOf(corev1.ResourcePods, 1, int64(len(others)), pods.Value())
	}
	wants := helper.PodRequests(pod, helper.PodResourcesOptions{})
	for _, name := range order(wants) {
		want := wants[name]
		amount := value(name, want.MilliValue(), want.Value())
		have, ok := node.Status.Allocatable[name]
		if amount == 0 || !ok && strings.Contains(string(name), "/") {
			continue // extended resources that the node lacks are not its business
		}
		used := int64(0)
		for _, o := range others {
			r := helper.PodRequests(o, helper.PodResourcesOptions{})
			q := r[name]
			used += value(name, q.MilliValue(), q.Value())
		}
		if capacity := value(name, have.MilliValue(), have.Value()); used+amount > capacity {
			return outOf(name, amount, used, capacity)
		}
	}
	return nil
}

// order names cpu and memory first, so that the reason is the same each time.
func order(l corev1.ResourceList) []corev1.ResourceName {
	names := []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage}
	for name := range l {
		if name != names[0] && name != names[1] && name != names[2] {
			names = append(names, name)
		}
	}
	return names
}

func value(name corev1.ResourceName, milli, whole int64) int64 {
	if name == corev1.ResourceCPU {
		return milli
	}
	return whole
}

func outOf(name corev1.ResourceName, requested, used, capacity int64) *Verdict {
	return &Verdict{"OutOf" + string(name), fmt.Sprintf("Node didn't have enough resource: %s, requested: %d, used: %d, capacity: %d", name, requested, used, capacity)}
}

// conflict says whether a host port is taken. The unspecified address takes
// it on all.
func conflict(pod *corev1.Pod, others []*corev1.Pod) bool {
	wanted := hostPorts(pod)
	for _, o := range others {
		for _, have := range hostPorts(o) {
			for _, want := range wanted {
				if want.HostPort == have.HostPort && want.Protocol == have.Protocol &&
					(want.HostIP == have.HostIP || anywhere(want.HostIP) || anywhere(have.HostIP)) {
					return true
				}
			}
		}
	}
	return false
}

func anywhere(ip string) bool { return ip == "" || ip == "0.0.0.0" || ip == "::" }

func hostPorts(pod *corev1.Pod) []corev1.ContainerPort {
	var all []corev1.ContainerPort
	add := func(c *corev1.Container) {
		for _, p := range c.Ports {
			if p.HostPort > 0 {
				if p.Protocol == "" {
					p.Protocol = corev1.ProtocolTCP
				}
				all = append(all, p)
			}
		}
	}
	for i := range pod.Spec.Containers {
		add(&pod.Spec.Containers[i])
	}
	for i := range pod.Spec.InitContainers {
		if sidecar(&pod.Spec.InitContainers[i]) {
			add(&pod.Spec.InitContainers[i])
		}
	}
	return all
}

func tolerated(pod *corev1.Pod, taint *corev1.Taint) bool {
	for i := range pod.Spec.Tolerations {
		t := &pod.Spec.Tolerations[i]
		if (t.Effect == "" || t.Effect == taint.Effect) && (t.Key == "" || t.Key == taint.Key) &&
			(t.Operator == corev1.TolerationOpExists || (t.Operator == "" || t.Operator == corev1.TolerationOpEqual) && t.Value == taint.Value) {
			return true
		}
	}
	return false
}
