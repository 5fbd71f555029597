package pod

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Annotations on containers, upstream's, so that a kubelet can take over.
const (
	restartCountAnnotation = "io.kubernetes.container.restartCount"
	definitionAnnotation   = "sampan.node.definition"
	messagePathAnnotation  = "io.kubernetes.container.terminationMessagePath"
	messagePolicy          = "io.kubernetes.container.terminationMessagePolicy"
	graceAnnotation        = "io.kubernetes.pod.terminationGracePeriod"
)

func sidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func terminal(phase corev1.PodPhase) bool {
	return phase == corev1.PodSucceeded || phase == corev1.PodFailed
}

// restarts says whether a container that exited should run again. A
// container's own policy and rules come before the pod's (KEP-753, KEP-5307).
func restarts(pod *corev1.Pod, c *corev1.Container, init bool, exit int32) bool {
	if init && sidecar(c) {
		return true
	}
	for _, rule := range c.RestartPolicyRules {
		if rule.Action != corev1.ContainerRestartRuleActionRestart || rule.ExitCodes == nil {
			continue
		}
		in := slices.Contains(rule.ExitCodes.Values, exit)
		if in == (rule.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn) {
			return true
		}
	}
	policy := pod.Spec.RestartPolicy
	if c.RestartPolicy != nil {
		policy = corev1.RestartPolicy(*c.RestartPolicy)
	}
	switch policy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return exit != 0
	}
	return !(init && exit == 0)
}

func restartCount(c *Container) uint32 {
	if n, err := strconv.ParseUint(c.Annotations[restartCountAnnotation], 10, 32); err == nil {
		return uint32(n)
	}
	return c.GetMetadata().GetAttempt()
}

// definition identifies what a running container cannot take on: its name
// and image.
func definition(c *corev1.Container) string {
	h := fnv.New32a()
	fmt.Fprintf(h, "%q %q", c.Name, c.Image)
	return strconv.FormatUint(uint64(h.Sum32()), 16)
}

func changed(c *corev1.Container, now *Container) bool {
	was, ok := now.Annotations[definitionAnnotation]
	return ok && was != definition(c)
}

// grace is how long containers of a pod may take to stop.
func grace(pod *corev1.Pod) time.Duration {
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return 30 * time.Second
}

// endGrace is grace as the deletion request has it, if there is one.
func endGrace(pod *corev1.Pod) time.Duration {
	if s := pod.DeletionGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return grace(pod)
}

func probeGrace(p *corev1.Probe, otherwise time.Duration) time.Duration {
	if p != nil && p.TerminationGracePeriodSeconds != nil {
		return time.Duration(*p.TerminationGracePeriodSeconds) * time.Second
	}
	return otherwise
}

// deadline is when spec.activeDeadlineSeconds are over.
func deadline(pod *corev1.Pod) (time.Time, bool) {
	if pod.Spec.ActiveDeadlineSeconds == nil || pod.Status.StartTime == nil {
		return time.Time{}, false
	}
	return pod.Status.StartTime.Add(time.Duration(*pod.Spec.ActiveDeadlineSeconds) * time.Second), true
}
