package scheduler

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func priority(n int32) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.Priority = &n } }

func TestQueue(t *testing.T) {
	start := time.Unix(1000, 0)
	pop := func(t *testing.T, q *queue, now time.Time, want string) *entry {
		t.Helper()
		e := q.Pop(now)
		got := ""
		if e != nil {
			got = e.pod.Name
		}
		if got != want {
			t.Fatalf("popped %q, want %q", got, want)
		}
		return e
	}
	t.Run("important pods come first, then old ones", func(t *testing.T) {
		q := newQueue(NewMetrics(nil))
		q.Add(NewPod(pod("old")), start)
		q.Add(NewPod(pod("young")), start.Add(time.Second))
		q.Add(NewPod(pod("vip", priority(9))), start.Add(2*time.Second))
		for _, want := range []string{"vip", "old", "young", ""} {
			pop(t, q, start, want)
		}
	})
	t.Run("a pod that fits nowhere waits for a change that helps", func(t *testing.T) {
		q := newQueue(NewMetrics(nil))
		q.Add(NewPod(pod("a")), start)
		q.Park(pop(t, q, start, "a"), NodeAdded|PodGone, start)
		later := start.Add(30 * time.Second)
		q.Happened(NodeLabels, later)
		pop(t, q, later, "")
		q.Happened(PodGone, later)
		pop(t, q, later, "a")
	})
	t.Run("a change does not shorten the back-off", func(t *testing.T) {
		q := newQueue(NewMetrics(nil))
		q.Add(NewPod(pod("a")), start)
		q.Park(pop(t, q, start, "a"), NodeAdded, start)
		q.Happened(NodeAdded, start)
		pop(t, q, start.Add(firstBackOff-1), "")
		if next, ok := q.Next(); !ok || !next.Equal(start.Add(firstBackOff)) {
			t.Errorf("next %v %v, want in %v", next, ok, firstBackOff)
		}
		pop(t, q, start.Add(firstBackOff), "a")
	})
	t.Run("a change of the pod's spec is a reason to try again", func(t *testing.T) {
		q := newQueue(NewMetrics(nil))
		q.Add(NewPod(pod("a")), start)
		q.Park(pop(t, q, start, "a"), NodeAdded, start)
		changed := pod("a")
		changed.Generation = 2
		q.Add(NewPod(changed), start.Add(time.Minute))
		pop(t, q, start.Add(time.Minute), "a")
	})
	t.Run("a deleted pod is gone wherever it is", func(t *testing.T) {
		q := newQueue(NewMetrics(nil))
		q.Add(NewPod(pod("a")), start)
		q.Add(NewPod(pod("b")), start.Add(1))
		q.Drop("b")
		e := pop(t, q, start, "a")
		q.Park(e, NodeAdded, start)
		q.Drop("a")
		pop(t, q, start.Add(time.Hour), "")
		if len(q.all)+len(q.waiting)+len(q.active) != 0 {
			t.Errorf("left over: %v", q)
		}
	})
	t.Run("the back-off doubles up to its limit", func(t *testing.T) {
		q := newQueue(NewMetrics(nil))
		q.Add(NewPod(pod("a")), start)
		for _, want := range []time.Duration{1e9, 2e9, 4e9, 8e9, 10e9, 10e9} {
			e := pop(t, q, start, "a")
			q.Retry(e, start)
			if got := e.next.Sub(start); got != want {
				t.Fatalf("attempt %d waits %v, want %v", e.attempts, got, want)
			}
			start = e.next
		}
	})
}
