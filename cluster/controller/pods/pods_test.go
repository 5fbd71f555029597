package pods

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func ready(status corev1.ConditionStatus, since time.Time) *corev1.Pod {
	return &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{
		{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
		{Type: corev1.PodReady, Status: status, LastTransitionTime: metav1.NewTime(since)}}}}
}

func TestAvailable(t *testing.T) {
	for _, c := range []struct {
		it   string
		pod  *corev1.Pod
		min  time.Duration
		want bool
		in   time.Duration
	}{
		{it: "not without a condition", pod: &corev1.Pod{}},
		{it: "not when it is not ready", pod: ready(corev1.ConditionFalse, noon)},
		{it: "not when nobody knows", pod: ready(corev1.ConditionUnknown, noon)},
		{it: "at once", pod: ready(corev1.ConditionTrue, noon), want: true},
		{it: "not yet", pod: ready(corev1.ConditionTrue, noon.Add(-4*time.Second)), min: 10 * time.Second, in: 6 * time.Second},
		{it: "to the second", pod: ready(corev1.ConditionTrue, noon.Add(-10*time.Second)), min: 10 * time.Second, want: true},
		{it: "not when nobody knows since when", pod: ready(corev1.ConditionTrue, time.Time{}), min: time.Second},
	} {
		t.Run(c.it, func(t *testing.T) {
			if got, in := Available(c.pod, c.min, noon); got != c.want || in != c.in {
				t.Errorf("available %v in %v, want %v in %v", got, in, c.want, c.in)
			}
		})
	}
}

func TestLife(t *testing.T) {
	now := metav1.NewTime(noon)
	for phase, over := range map[corev1.PodPhase]bool{corev1.PodPending: false, corev1.PodRunning: false, corev1.PodUnknown: false, corev1.PodSucceeded: true, corev1.PodFailed: true} {
		p := &corev1.Pod{Status: corev1.PodStatus{Phase: phase}}
		if Over(p) != over || Active(p) == over || Terminating(p) {
			t.Errorf("%s: over %v, active %v, terminating %v", phase, Over(p), Active(p), Terminating(p))
		}
		p.DeletionTimestamp = &now
		if Active(p) || Terminating(p) == over {
			t.Errorf("%s and leaving: active %v, terminating %v", phase, Active(p), Terminating(p))
		}
	}
}
