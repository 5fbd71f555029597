package flow

import (
	"math"
	"slices"
	"sync"
	"time"

	flowv1 "k8s.io/api/flowcontrol/v1"
)

// service is how long a request is taken to need until it is known. Upstream's
// figure.
const service = 0.003 // seconds

// level is a priority level at work: seats, those who have one, and queues of
// those who wait. It has no goroutine: whoever comes or goes does the work.
type level struct {
	name string

	mu     sync.Mutex // guards all below, and what turns, queues and tallies say is the level's
	spec   *flowv1.PriorityLevelConfiguration
	uid    []string // of spec, as a header has it
	exempt bool
	gone   bool // its object is deleted; it lives on until nobody uses it
	bounds
	seats int // how many there are now

	queues    []queue // made when first needed
	count     int     // queues that are dealt; there may be more until those are empty
	hand      int
	longest   int
	next      int // the queue that is looked at first
	dealt     int // flows dealt, so that not always the same card of a hand comes first
	active    int // queues with anybody in them
	virtual   float64
	virtualAt time.Time

	executing  turns
	waiting    int
	taken      int // seats in use
	asked      int // seats waited for
	demand     demand
	dispatched int
	rejected   int
	timedOut   int
	cancelled  int
	tallies    map[string]*tally // by schema
	targets    float64           // what lend last wished for, for metrics
	drops      drops
	noRoom     int // times that the next in line was too wide for what is free
}

// queue holds requests of a few flows, first come, first served. In virtual
// time, which passes as fast as each queue with somebody in it is served if all
// are served alike, start is when its next request begins.
type queue struct {
	waiting   []*Turn
	executing int
	seats     int // of those that execute
	asked     int // of those that wait
	start     float64
}

func newLevel(name string, now time.Time) *level {
	return &level{name: name, tallies: map[string]*tally{}, demand: demand{at: now, since: now}, virtualAt: now}
}

// configureLocked takes over a configuration. Requests that wait go on waiting.
func (l *level) configureLocked(spec *flowv1.PriorityLevelConfiguration) {
	l.spec, l.uid, l.gone = spec, []string{string(spec.UID)}, false
	l.exempt = spec.Spec.Type == flowv1.PriorityLevelEnablementExempt
	l.count, l.hand, l.longest = 0, 0, 0
	if q := queuing(spec); q != nil {
		l.count, l.hand, l.longest = int(q.Queues), int(q.HandSize), int(q.QueueLengthLimit)
	}
	l.trimLocked()
}

// trimLocked drops queues that are no longer dealt and that nobody is in.
func (l *level) trimLocked() {
	for n := len(l.queues); n > l.count && l.queues[n-1].executing == 0 && len(l.queues[n-1].waiting) == 0; n-- {
		l.queues = l.queues[:n-1]
	}
}

func (l *level) idleLocked() bool { return l.executing.count == 0 && l.waiting == 0 }

// fitsLocked says whether a request that is seats wide may go now. One that is
// wider than all seats there are goes alone.
func (l *level) fitsLocked(seats int) bool {
	switch {
	case l.exempt:
		return true
	case seats > l.seats:
		return l.executing.count == 0
	}
	return l.taken+seats <= l.seats
}

// passLocked lets virtual time go on to now.
func (l *level) passLocked(now time.Time) {
	if took := now.Sub(l.virtualAt).Seconds(); took > 0 && l.active > 0 {
		l.virtual += took * float64(min(l.taken+l.asked, l.seats)) / float64(l.active)
	}
	l.virtualAt = now
	if l.active == 0 {
		l.virtual = 0 // nobody is there to remember it
	}
}

// enter takes t in: it executes or waits afterwards, or else is rejected for
// the reason that is returned.
func (l *level) enter(t *Turn, now time.Time) (why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t.arrived = now
	if l.exempt || l.count == 0 {
		if !l.fitsLocked(t.seats) {
			l.rejectLocked(t, "concurrency-limit", now)
			return "concurrency-limit"
		}
		t.queue = -1
		l.executeLocked(t, now)
		return ""
	}
	l.passLocked(now)
	if len(l.queues) < l.count {
		l.queues = slices.Grow(l.queues, l.count-len(l.queues))[:l.count]
	}
	t.queue = l.chooseLocked(hashOf(t.schema.Name, t.flow))
	q := &l.queues[t.queue]
	if l.taken >= l.seats && len(q.waiting) >= l.longest {
		l.rejectLocked(t, "queue-full", now)
		return "queue-full"
	}
	if len(q.waiting) == 0 && q.executing == 0 {
		q.start = l.virtual
		l.active++
	}
	t.virtual = l.virtual
	if l.waiting == 0 && l.fitsLocked(t.seats) {
		l.executeLocked(t, now)
		return ""
	}
	t.may = make(chan struct{})
	q.waiting = append(q.waiting, t)
	q.asked += t.seats
	l.waiting++
	l.asked += t.seats
	t.tally.waiting++
	t.tally.waitingSeats += t.seats
	t.tally.length.add(float64(len(q.waiting)))
	l.demand.set(now, l.taken+l.asked)
	l.dispatchLocked(now)
	return ""
}

// chooseLocked deals a hand of queues and takes the one with least to do.
func (l *level) chooseLocked(hash uint64) int {
	var cards [maxHand]int
	hand := deal(hash, l.count, l.hand, cards[:])
	best, least := -1, math.MaxInt
	l.dealt++
	for i := range hand {
		card := hand[(i+l.dealt)%len(hand)]
		if work := l.queues[card].asked; work < least {
			best, least = card, work
		}
	}
	return best
}

// executeLocked gives t its seats.
func (l *level) executeLocked(t *Turn, now time.Time) {
	t.began = now
	l.executing.add(t)
	l.taken += t.seats
	l.dispatched++
	if t.queue >= 0 {
		q := &l.queues[t.queue]
		q.executing++
		q.seats += t.seats
		q.start += float64(t.seats) * service
	}
	l.demand.set(now, l.taken+l.asked)
	t.tally.executing++
	t.tally.seats += t.seats
	t.tally.dispatched++
	t.tally.estimated.add(float64(t.seats))
	if !l.exempt {
		t.tally.waited.add(now.Sub(t.arrived).Seconds())
	}
}

func (l *level) rejectLocked(t *Turn, why string, now time.Time) {
	l.rejected++
	t.tally.reject(why)
	t.retry = l.drops.add(now)
	if !l.exempt {
		t.tally.refused.add(now.Sub(t.arrived).Seconds())
	}
}

// dispatchLocked lets go whom it can.
func (l *level) dispatchLocked(now time.Time) {
	for l.waiting > 0 && l.taken < l.seats {
		i := l.nextLocked()
		q := &l.queues[i]
		t := q.waiting[0]
		if !l.fitsLocked(t.seats) {
			l.noRoom++
			return // until it fits: else the narrow would always overtake the wide
		}
		l.unqueueLocked(t, 0)
		l.executeLocked(t, now)
		l.boundLocked(q)
		l.next = (i + 1) % len(l.queues)
		close(t.may)
	}
}

// nextLocked is the queue whose first request would be done first, were each
// queue served alike.
func (l *level) nextLocked() int {
	best, first := -1, math.Inf(1)
	for i := range l.queues {
		at := (l.next + i) % len(l.queues)
		if q := &l.queues[at]; len(q.waiting) > 0 {
			if end := q.start + float64(q.waiting[0].seats)*service; end < first {
				best, first = at, end
			}
		}
	}
	return best
}

// boundLocked: a queue that did not use what it was given must not save it up.
func (l *level) boundLocked(q *queue) {
	if len(q.waiting) > 0 {
		q.start = max(q.start, q.waiting[0].virtual)
	}
}

func (l *level) unqueueLocked(t *Turn, at int) {
	q := &l.queues[t.queue]
	q.waiting = slices.Delete(q.waiting, at, at+1)
	if len(q.waiting) == 0 {
		q.waiting = nil
	}
	q.asked -= t.seats
	l.waiting--
	l.asked -= t.seats
	t.tally.waiting--
	t.tally.waitingSeats -= t.seats
}

// give up takes t out of its queue. False: it executes already.
func (l *level) giveUp(t *Turn, timedOut bool, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.passLocked(now)
	q := &l.queues[t.queue]
	at := slices.Index(q.waiting, t)
	if at < 0 {
		return false
	}
	l.unqueueLocked(t, at)
	l.leftLocked(q)
	if timedOut {
		l.timedOut++
		l.rejectLocked(t, "time-out", now)
	} else {
		l.cancelled++
		l.rejectLocked(t, "cancelled", now)
	}
	l.demand.set(now, l.taken+l.asked)
	l.dispatchLocked(now) // it may have been the wide one that all waited for
	return true
}

// leave takes back the seats of t.
func (l *level) leave(t *Turn, now time.Time) (done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.passLocked(now)
	l.executing.remove(t)
	l.taken -= t.seats
	took := now.Sub(t.began).Seconds()
	if t.queue >= 0 {
		q := &l.queues[t.queue]
		q.executing--
		q.seats -= t.seats
		q.start -= float64(t.seats) * (service - took)
		l.boundLocked(q)
		l.leftLocked(q)
	}
	t.tally.executing--
	t.tally.seats -= t.seats
	t.tally.took(t).add(took)
	l.demand.set(now, l.taken+l.asked)
	l.dispatchLocked(now)
	return l.gone && l.idleLocked()
}

// leftLocked follows somebody's leaving q.
func (l *level) leftLocked(q *queue) {
	if len(q.waiting) == 0 && q.executing == 0 {
		l.active--
		if len(l.queues) > l.count {
			l.trimLocked()
		}
	}
}

// resize changes how many seats there are.
func (l *level) resize(seats int, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.passLocked(now)
	l.seats = seats
	l.dispatchLocked(now)
}
