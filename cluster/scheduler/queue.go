package scheduler

import (
	"cmp"
	"container/heap"
	"math/bits"
	"time"

	"k8s.io/apimachinery/pkg/types"
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
	waiting waitingHeap // backing off or fitting nowhere
	all     map[types.UID]*entry
	parked  [16]int // how many wait for each Change
	asleep  int     // how many are parked
	count   *Metrics
}

type entry struct {
	pod      *Pod
	added    time.Time // when the pod came first
	first    time.Time // when it was first tried
	tried    time.Time // when it was last tried
	attempts int
	next     time.Time // not before this time
	parked   bool      // fits nowhere: waits for a change in wakes until next
	ready    time.Time // end of the back-off, for when it is woken
	wakes    Change
	at       int // index in active, -1 outside
	due      int // index in waiting, -1 outside
}

func newQueue(count *Metrics) *queue { return &queue{all: map[types.UID]*entry{}, count: count} }

// Add puts pod into the queue, or replaces it there; a parked pod whose spec
// changed is tried again.
func (q *queue) Add(pod *Pod, now time.Time) {
	e := q.all[pod.UID]
	if e == nil {
		e = &entry{pod: pod, added: now, at: -1, due: -1}
		q.all[pod.UID] = e
		heap.Push(&q.active, e)
		q.count.came(inActive, podAdded)
		return
	}
	changed := e.pod.Generation != pod.Generation
	e.pod = pod
	switch {
	case e.at >= 0:
		heap.Fix(&q.active, e.at)
	case e.parked && changed:
		q.wake(e, podUpdated, now)
	}
}

// Has says whether a pod is in the queue, or being tried.
func (q *queue) Has(uid types.UID) bool { return q.all[uid] != nil }

// Drop forgets a pod.
func (q *queue) Drop(uid types.UID) {
	e := q.all[uid]
	if e == nil {
		return
	}
	delete(q.all, uid)
	q.unpark(e)
	if e.due >= 0 {
		heap.Remove(&q.waiting, e.due)
	}
	if e.at >= 0 {
		heap.Remove(&q.active, e.at)
	}
}

// Pop takes the next pod to try out of the active ones, or returns nil. It
// stays known: Park, Retry or Drop follow.
func (q *queue) Pop(now time.Time) *entry {
	for len(q.waiting) > 0 && !now.Before(q.waiting[0].next) {
		why := backOffOver
		if q.waiting[0].parked {
			why = parkedLong
		}
		q.activate(q.waiting[0], why)
	}
	if len(q.active) == 0 {
		return nil
	}
	e := heap.Pop(&q.active).(*entry)
	e.attempts++
	e.tried = now
	if e.first.IsZero() {
		e.first = now
	}
	return e
}

// Next is when the next waiting pod is due; false if none waits.
func (q *queue) Next() (t time.Time, ok bool) {
	if len(q.waiting) == 0 {
		return t, false
	}
	return q.waiting[0].next, true
}

// Park keeps a pod that fits nowhere until one of wakes happens.
func (q *queue) Park(e *entry, wakes Change, now time.Time) {
	e.ready, e.next = now.Add(e.backOff()), now.Add(unschedulableLimit)
	e.parked, e.wakes = true, wakes
	q.asleep++
	q.tell(wakes, 1)
	heap.Push(&q.waiting, e)
	q.count.came(inParked, attemptFails)
}

// Wait keeps a pod until something that is being done for it has come about:
// the first of wakes has it tried again at once.
func (q *queue) Wait(e *entry, wakes Change, now time.Time) {
	e.attempts = 0
	q.Park(e, wakes, now)
	e.ready = now
}

// Retry tries a pod again after its back-off: the attempt failed for a reason
// that is not the pod's.
func (q *queue) Retry(e *entry, now time.Time) {
	if q.all[e.pod.UID] != e {
		return
	}
	e.next = now.Add(e.backOff())
	heap.Push(&q.waiting, e)
	q.count.came(inBackOff, attemptFails)
}

// Happened wakes the parked pods that c may help.
func (q *queue) Happened(c Change, now time.Time) {
	if !q.awaited(c) {
		return
	}
	var helped []*entry
	for _, e := range q.waiting {
		if e.parked && e.wakes&c != 0 {
			helped = append(helped, e)
		}
	}
	for _, e := range helped {
		q.wake(e, (c & e.wakes).label(), now)
	}
}

// Wake has a parked pod tried again, for a reason of its own.
func (q *queue) Wake(uid types.UID, now time.Time) {
	if e := q.all[uid]; e != nil && e.parked {
		q.wake(e, roomLost, now)
	}
}

// Again tries a parked pod again after its back-off: what was to be done for it
// has failed.
func (q *queue) Again(uid types.UID, now time.Time) {
	if e := q.all[uid]; e != nil && e.parked {
		q.unpark(e)
		e.next = now.Add(e.backOff())
		heap.Fix(&q.waiting, e.due)
		q.count.came(inBackOff, attemptFails)
	}
}

// awaited says whether some pod is parked until something of c happens.
func (q *queue) awaited(c Change) bool {
	for c := uint16(c); c != 0; c &= c - 1 {
		if q.parked[bits.TrailingZeros16(c)] > 0 {
			return true
		}
	}
	return false
}

func (q *queue) tell(wakes Change, d int) {
	for c := uint16(wakes); c != 0; c &= c - 1 {
		q.parked[bits.TrailingZeros16(c)] += d
	}
}

func (q *queue) unpark(e *entry) {
	if e.parked {
		e.parked = false
		q.asleep--
		q.tell(e.wakes, -1)
	}
}

func (q *queue) wake(e *entry, why string, now time.Time) {
	q.unpark(e)
	if e.next = e.ready; now.Before(e.next) {
		heap.Fix(&q.waiting, e.due)
		q.count.came(inBackOff, why)
	} else {
		q.activate(e, why)
	}
}

func (q *queue) activate(e *entry, why string) {
	q.count.came(inActive, why)
	q.unpark(e)
	heap.Remove(&q.waiting, e.due)
	heap.Push(&q.active, e)
}

func (e *entry) backOff() time.Duration {
	return min(maxBackOff, firstBackOff<<min(max(e.attempts-1, 0), 10))
}

// activeHeap orders by priority, then by age.
type activeHeap []*entry

func (h activeHeap) Len() int { return len(h) }
func (h activeHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	return cmp.Or(cmp.Compare(b.pod.priority(), a.pod.priority()), a.added.Compare(b.added)) < 0
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

// waitingHeap orders by when a pod is due.
type waitingHeap []*entry

func (h waitingHeap) Len() int           { return len(h) }
func (h waitingHeap) Less(i, j int) bool { return h[i].next.Before(h[j].next) }
func (h waitingHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].due, h[j].due = i, j }
func (h *waitingHeap) Push(x any)        { e := x.(*entry); e.due = len(*h); *h = append(*h, e) }
func (h *waitingHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	e.due = -1
	return e
}
