package pod

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// conditions sets those that belong to the node and leaves the others.
func conditions(in *Input, s *corev1.PodStatus) {
	sandbox := condition(corev1.PodReadyToStartContainers, in.Seen.ready(in.Pod.Spec.HostNetwork), "", "")
	initialized := initializedCondition(in.Pod, s)
	containers := containersReady(in.Pod, s)
	ready := podReady(in.Pod, s, containers)
	set := []corev1.PodCondition{sandbox, initialized, ready, containers}
	if lookup(s, corev1.PodScheduled) == nil || lookup(s, corev1.PodScheduled).Status != corev1.ConditionTrue {
		set = append(set, condition(corev1.PodScheduled, true, "", ""))
	}
	for _, c := range set {
		put(in, s, c)
	}
	resizeConditions(in, s)
}

func condition(t corev1.PodConditionType, ok bool, reason, message string) corev1.PodCondition {
	c := corev1.PodCondition{Type: t, Status: corev1.ConditionFalse, Reason: reason, Message: message}
	if ok {
		c.Status = corev1.ConditionTrue
	}
	return c
}

func put(in *Input, s *corev1.PodStatus, c corev1.PodCondition) {
	c.ObservedGeneration = in.observed()
	old := lookup(s, c.Type)
	if old == nil {
		c.LastTransitionTime = metav1.NewTime(in.Now.Truncate(1e9))
		s.Conditions = append(s.Conditions, c)
		return
	}
	c.LastTransitionTime, c.LastProbeTime = old.LastTransitionTime, old.LastProbeTime
	if old.Status != c.Status {
		c.LastTransitionTime = metav1.NewTime(in.Now.Truncate(1e9))
	}
	*old = c
}

func lookup(s *corev1.PodStatus, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == t {
			return &s.Conditions[i]
		}
	}
	return nil
}

func initializedCondition(pod *corev1.Pod, s *corev1.PodStatus) corev1.PodCondition {
	var incomplete, unknown []string
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		st := find(s.InitContainerStatuses, c.Name)
		switch {
		case st == nil:
			unknown = append(unknown, c.Name)
		case sidecar(c):
			if !begun(s) && (st.Started == nil || !*st.Started) {
				incomplete = append(incomplete, c.Name)
			}
		case !st.Ready && !begun(s):
			incomplete = append(incomplete, c.Name)
		}
	}
	if s.Phase == corev1.PodSucceeded && len(unknown) == 0 {
		return condition(corev1.PodInitialized, true, "PodCompleted", "")
	}
	message := listed("containers with unknown status", unknown, "containers with incomplete status", incomplete)
	if message == "" {
		return condition(corev1.PodInitialized, true, "", "")
	}
	return condition(corev1.PodInitialized, false, "ContainersNotInitialized", message)
}

func containersReady(pod *corev1.Pod, s *corev1.PodStatus) corev1.PodCondition {
	switch s.Phase {
	case corev1.PodFailed:
		return condition(corev1.ContainersReady, false, "PodFailed", "")
	case corev1.PodSucceeded:
		return condition(corev1.ContainersReady, false, "PodCompleted", "")
	}
	var unready, unknown []string
	check := func(name string, list []corev1.ContainerStatus) {
		if st := find(list, name); st == nil {
			unknown = append(unknown, name)
		} else if !st.Ready {
			unready = append(unready, name)
		}
	}
	for i := range pod.Spec.InitContainers {
		if sidecar(&pod.Spec.InitContainers[i]) {
			check(pod.Spec.InitContainers[i].Name, s.InitContainerStatuses)
		}
	}
	for i := range pod.Spec.Containers {
		check(pod.Spec.Containers[i].Name, s.ContainerStatuses)
	}
	message := listed("containers with unknown status", unknown, "containers with unready status", unready)
	if message == "" {
		return condition(corev1.ContainersReady, true, "", "")
	}
	return condition(corev1.ContainersReady, false, "ContainersNotReady", message)
}

// podReady adds the readiness gates (KEP-580).
func podReady(pod *corev1.Pod, s *corev1.PodStatus, containers corev1.PodCondition) corev1.PodCondition {
	if containers.Status != corev1.ConditionTrue {
		return condition(corev1.PodReady, false, containers.Reason, containers.Message)
	}
	var unmet []string
	for _, g := range pod.Spec.ReadinessGates {
		c := lookup(s, g.ConditionType)
		switch {
		case c == nil:
			unmet = append(unmet, fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", string(g.ConditionType)))
		case c.Status != corev1.ConditionTrue:
			unmet = append(unmet, fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", string(g.ConditionType), c.Status))
		}
	}
	if len(unmet) > 0 {
		return condition(corev1.PodReady, false, "ReadinessGatesNotReady", strings.Join(unmet, ", "))
	}
	return condition(corev1.PodReady, true, "", "")
}

func listed(a string, as []string, b string, bs []string) string {
	var parts []string
	if len(as) > 0 {
		parts = append(parts, fmt.Sprintf("%s: %s", a, as))
	}
	if len(bs) > 0 {
		parts = append(parts, fmt.Sprintf("%s: %s", b, bs))
	}
	return strings.Join(parts, ", ")
}

// sandboxWord is the newest sandbox's state in words, for Explain.
func sandboxWord(s *runtimeapi.PodSandboxStatus) string {
	if s == nil {
		return "none"
	}
	return strings.ToLower(strings.TrimPrefix(s.State.String(), "SANDBOX_"))
}
