package disruption

import (
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func pod(name string, words ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{"app": "web"}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	for _, w := range words {
		switch w {
		case "ready":
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
		case "leaving":
			p.DeletionTimestamp = new(metav1.NewTime(noon))
		}
	}
	return p
}

func budget(least, most string) *policyv1.PodDisruptionBudget {
	b := &policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "b", Generation: 3},
		Spec: policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}}
	if least != "" {
		b.Spec.MinAvailable = new(intstr.Parse(least))
	}
	if most != "" {
		b.Spec.MaxUnavailable = new(intstr.Parse(most))
	}
	return b
}

func TestDecide(t *testing.T) {
	three := []*corev1.Pod{pod("a", "ready"), pod("b", "ready"), pod("c", "ready")}
	for _, c := range []struct {
		it          string
		least, most string
		pods        []*corev1.Pod
		scale       int32
		disrupted   map[string]time.Duration // evicted that long ago
		want        string                   // allowed, healthy, desired, expected, why
		again       time.Duration
	}{
		{it: "more than the least may go", least: "2", pods: three, want: "1 3 2 3 SufficientPods"},
		{it: "the least may not", least: "3", pods: three, want: "0 3 3 3 InsufficientPods"},
		{it: "a share is of what is asked for, rounded up", least: "50%", pods: three, scale: 5, want: "0 3 3 5 InsufficientPods"},
		{it: "the most is of what is asked for", most: "1", pods: three, scale: 3, want: "1 3 2 3 SufficientPods"},
		{it: "a share of the most is rounded up", most: "10%", pods: three, scale: 3, want: "1 3 2 3 SufficientPods"},
		{it: "no less than none is wanted", most: "5", pods: three, scale: 3, want: "3 3 0 3 SufficientPods"},
		{it: "those that leave count as gone", least: "1", pods: []*corev1.Pod{pod("a", "ready"), pod("b", "ready", "leaving"), pod("c")}, want: "0 1 1 3 InsufficientPods"},
		{it: "those that were evicted too, for a while", least: "1", pods: three, disrupted: map[string]time.Duration{"a": time.Minute, "gone": time.Second}, want: "1 2 1 3 SufficientPods", again: time.Minute},
		{it: "and no longer", least: "1", pods: three, disrupted: map[string]time.Duration{"a": 3 * time.Minute}, want: "2 3 1 3 SufficientPods"},
		{it: "of nothing nothing may go", least: "0", want: "0 0 0 0 InsufficientPods"},
	} {
		t.Run(c.it, func(t *testing.T) {
			b := budget(c.least, c.most)
			b.Status.DisruptedPods = map[string]metav1.Time{}
			for name, ago := range c.disrupted {
				b.Status.DisruptedPods[name] = metav1.NewTime(noon.Add(-ago))
			}
			e, err := expect(b, len(c.pods), c.scale)
			if err != nil {
				t.Fatal(err)
			}
			d := decide(b, c.pods, e, noon)
			s := d.status
			if got := fmt.Sprint(s.DisruptionsAllowed, s.CurrentHealthy, s.DesiredHealthy, s.ExpectedPods, " ", s.Conditions[0].Reason); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			if d.again != c.again || s.ObservedGeneration != 3 {
				t.Errorf("again %v, generation %d", d.again, s.ObservedGeneration)
			}
			if _, ok := s.DisruptedPods["gone"]; ok {
				t.Error("a pod that is gone is still written down")
			}
			if late := len(c.disrupted) == 1 && c.again == 0; late != (len(d.notDeleted) == 1) {
				t.Errorf("not deleted: %d", len(d.notDeleted))
			}
		})
	}
}

func TestWhatCannotBeWorkedOutAllowsNothing(t *testing.T) {
	b := budget("", "1")
	b.Status.DisruptionsAllowed = 2
	s := failsafe(b, errors.New("jobs.batch does not implement the scale subresource"))
	if s.DisruptionsAllowed != 0 || s.Conditions[0].Reason != policyv1.SyncFailedReason || s.Conditions[0].Message != "jobs.batch does not implement the scale subresource" {
		t.Errorf("status %+v", s)
	}
}

func TestAMarkThatNothingFollowsGoes(t *testing.T) {
	mark := func(reason string, ago time.Duration, words ...string) *corev1.Pod {
		p := pod("a", words...)
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason, LastTransitionTime: metav1.NewTime(noon.Add(-ago))})
		return p
	}
	for _, c := range []struct {
		it   string
		pod  *corev1.Pod
		left time.Duration
		is   bool
	}{
		{"none", pod("a", "ready"), 0, false},
		{"fresh", mark("EvictionByEvictionAPI", time.Minute), time.Minute, true},
		{"stale", mark("EvictionByEvictionAPI", time.Hour), 0, true},
		{"the node's own", mark(corev1.PodReasonTerminationByKubelet, time.Hour), 0, false},
		{"of a pod that goes", mark("EvictionByEvictionAPI", time.Hour, "leaving"), 0, false},
	} {
		if left, is := targeted(c.pod, noon); left != c.left || is != c.is {
			t.Errorf("%s: %v %v", c.it, left, is)
		}
	}
}
