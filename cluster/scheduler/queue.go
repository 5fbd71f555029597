package scheduler

import (
	"cmp"
	"container/heap"
	"time"

	"k8s.io/apimachinery/pkg/types"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
)

// Upstream's defaults.
const (
	firstBackOff = time.Second
	maxBackOff   = 10 * time.Second
	// A pod that nothing woke is tried again after this time, in case a
	// change was judged not worth it wrongly.
	unschedulableLimit = 5 * time.Minute
)

// queue holds the pods that wait for a node: those to be tried now, by
// priority and age; those that wait for their back-off; those that fit nowhere
// until something changes. It is for one goroutine.
type queue struct {
	active  activeHeap
	waiting map[types.UID]*entry // backing off or fitting nowhere
	all     map[types.UID]*entry
}

type entry struct {
	pod      *Pod
	added    time.Time // when the pod came first
	attempts int
	next     time.Time // not before this time
	parked   bool      // fits nowhere: waits for a change in wakes until next
	ready    time.Time // end of the back-off, for when it is woken
	wakes    Change
	at       int // index in active, -1 outside
}

func newQueue() *queue {
	return &queue{waiting: map[types.UID]*entry{}, all: map[types.UID]*entry{}}
}

// Add puts pod into the queue, or replaces it there; a parked pod whose spec
// changed is tried again.
func (q *queue) Add(pod *Pod, now time.Time) {
	e := q.all[pod.UID]
	if e == nil {
		e = &entry{pod: pod, added: now, at: -1}
		q.all[pod.UID] = e
		heap.Push(&q.active, e)
		return
	}
	changed := e.pod.Generation != pod.Generation
	e.pod = pod
	switch {
	case e.at >= 0:
		heap.Fix(&q.active, e.at)
	case e.parked && changed:
		q.wake(e, now)
	}
}

// Drop forgets a pod.
func (q *queue) Drop(uid types.UID) {
	e := q.all[uid]
	if e == nil {
		return
	}
	delete(q.all, uid)
	delete(q.waiting, uid)
	if e.at >= 0 {
		heap.Remove(&q.active, e.at)
	}
}

// Pop takes the next pod to try out of the active ones, or returns nil. It
// stays known: Park, Retry or Drop follow.
func (q *queue) Pop(now time.Time) *entry {
	for _, e := range q.waiting {
		if !now.Before(e.next) {
			q.activate(e)
		}
	}
	if len(q.active) == 0 {
		return nil
	}
	e := heap.Pop(&q.active).(*entry)
	e.attempts++
	return e
}

// Next is when the next waiting pod is due; false if none waits.
func (q *queue) Next() (t time.Time, ok bool) {
	for _, e := range q.waiting {
		if !ok || e.next.Before(t) {
			t, ok = e.next, true
		}
	}
	return t, ok
}

// Park keeps a pod that fits nowhere until one of wakes happens.
func (q *queue) Park(e *entry, wakes Change, now time.Time) {
	e.ready, e.next = now.Add(e.backOff()), now.Add(unschedulableLimit)
	e.parked, e.wakes = true, wakes
	q.waiting[e.pod.UID] = e
}

// Retry tries a pod again after its back-off: the attempt failed for a reason
// that is not the pod's.
func (q *queue) Retry(e *entry, now time.Time) {
	if q.all[e.pod.UID] != e {
		return
	}
	e.next, e.parked = now.Add(e.backOff()), false
	q.waiting[e.pod.UID] = e
}

// Happened wakes the parked pods that c may help.
func (q *queue) Happened(c Change, now time.Time) {
	if c == nothing {
		return
	}
	for _, e := range q.waiting {
		if e.parked && e.wakes&c != 0 {
			q.wake(e, now)
		}
	}
}

func (q *queue) wake(e *entry, now time.Time) {
	e.parked = false
	e.next = e.ready
	if !now.Before(e.next) {
		q.activate(e)
	}
}

func (q *queue) activate(e *entry) {
	delete(q.waiting, e.pod.UID)
	e.parked = false
	heap.Push(&q.active, e)
}

func (e *entry) backOff() time.Duration {
	return min(maxBackOff, firstBackOff<<min(e.attempts-1, 10))
}

// activeHeap orders by priority, then by age.
type activeHeap []*entry

func (h activeHeap) Len() int { return len(h) }
func (h activeHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	return cmp.Or(
		cmp.Compare(corev1helpers.PodPriority(b.pod.Pod), corev1helpers.PodPriority(a.pod.Pod)),
		a.added.Compare(b.added),
	) < 0
}
func (h activeHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i]; h[i].at, h[j].at = i, j }
func (h *activeHeap) Push(x any)   { e := x.(*entry); e.at = len(*h); *h = append(*h, e) }
func (h *activeHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.at = -1
	return e
}
