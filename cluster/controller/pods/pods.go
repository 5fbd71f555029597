// Package pods says what controllers ask of a pod's status, so that all of
// them mean the same by "active", "ready" and "available"; and makes and deletes
// pods for those that keep some of a template (control.go).
//
// It knows no controller.
package pods

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Over is true for a pod whose containers will not run again.
func Over(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// Active is true for a pod that counts: it is neither over nor leaving.
func Active(p *corev1.Pod) bool { return !Over(p) && p.DeletionTimestamp == nil }

// Terminating is true for a pod that is leaving and may still run.
func Terminating(p *corev1.Pod) bool { return !Over(p) && p.DeletionTimestamp != nil }

// Ready is true for a pod whose Ready condition is True.
func Ready(p *corev1.Pod) bool {
	c := Condition(p, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

// ReadySince is when a pod became ready, zero if it is not, or if nobody
// wrote it down.
func ReadySince(p *corev1.Pod) time.Time {
	if c := Condition(p, corev1.PodReady); c != nil && c.Status == corev1.ConditionTrue {
		return c.LastTransitionTime.Time
	}
	return time.Time{}
}

// Available is true for a pod that has been ready for minReady. For one that
// is ready but not yet available, in is how long that takes.
func Available(p *corev1.Pod, minReady time.Duration, now time.Time) (ok bool, in time.Duration) {
	switch {
	case !Ready(p):
		return false, 0
	case minReady == 0:
		return true, 0
	}
	since := ReadySince(p)
	if since.IsZero() {
		return false, 0
	}
	in = since.Add(minReady).Sub(now)
	return in <= 0, max(in, 0)
}

// Condition returns a pod's condition, nil if it has none of this type.
func Condition(p *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == t {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}

// Count is n in words, for explanations: "1 pod", "3 pods".
func Count(n int32) string {
	if n == 1 {
		return "1 pod"
	}
	return fmt.Sprintf("%d pods", n)
}
