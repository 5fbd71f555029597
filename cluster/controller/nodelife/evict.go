package nodelife

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
)

// judge says how long a pod may stay on a node with these taints: bounded is
// false if for ever. The time counts from when the pod met the taints.
func judge(pod *corev1.Pod, taints []corev1.Taint) (stay time.Duration, bounded bool) {
	for i := range taints {
		t := &taints[i]
		if t.Effect != corev1.TaintEffectNoExecute {
			continue
		}
		by := tolerating(pod.Spec.Tolerations, t)
		if by == nil {
			return 0, true
		}
		if by.TolerationSeconds == nil {
			continue
		}
		d := max(0, time.Duration(*by.TolerationSeconds)*time.Second)
		if !bounded || d < stay {
			stay, bounded = d, true
		}
	}
	return stay, bounded
}

// tolerating is the first toleration that tolerates t, as upstream chooses it.
func tolerating(all []corev1.Toleration, t *corev1.Taint) *corev1.Toleration {
	for i := range all {
		if all[i].ToleratesTaint(klog.Logger{}, t, false) {
			return &all[i]
		}
	}
	return nil
}

// quarantine is how long pods wait for their node to come back after it was
// deleted (upstream's pod garbage collector).
const quarantine = 40 * time.Second

// withCondition returns a copy of pod with the condition c, and false if it
// has it already.
func withCondition(pod *corev1.Pod, c corev1.PodCondition) (*corev1.Pod, bool) {
	c.ObservedGeneration = pod.Generation
	for i, have := range pod.Status.Conditions {
		if have.Type != c.Type {
			continue
		}
		if have.Status == c.Status && have.Reason == c.Reason && have.Message == c.Message {
			return pod, false
		}
		if have.Status == c.Status {
			c.LastTransitionTime = have.LastTransitionTime
		}
		pod = pod.DeepCopy()
		pod.Status.Conditions[i] = c
		return pod, true
	}
	pod = pod.DeepCopy()
	pod.Status.Conditions = append(pod.Status.Conditions, c)
	return pod, true
}
