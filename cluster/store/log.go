package store

import (
	"slices"
	"sort"
	"time"
)

// eventLog is the changes of one kind, oldest first. Store.mu guards it.
// Slices of it are handed out, so that what was once written to its array is
// never changed.
type eventLog struct {
	events  []*Event
	base    int64 // position of events[0]; positions only grow
	since   int64 // all events after this revision are here
	bytes   int
	dropped int // events before events[0] that its array still holds
	timer   *time.Timer
}

// after returns the position of the first event after a revision; false if
// the log does not reach back that far.
func (l *eventLog) after(revision int64) (int64, bool) {
	if revision < l.since {
		return 0, false
	}
	i := sort.Search(len(l.events), func(i int) bool { return l.events[i].Revision > revision })
	return l.base + int64(i), true
}

// from returns the events from a position on, which is not before base.
func (l *eventLog) from(position int64) []*Event {
	return slices.Clip(l.events[position-l.base:])
}

func (l *eventLog) add(e *Event, w Window) {
	l.events = append(l.events, e)
	l.bytes += e.size
	l.trim(w, e.at)
}

// cut drops all events, so that every position and every revision before is
// one that the log does not reach back to.
func (l *eventLog) cut(revision int64) {
	l.base += int64(len(l.events)) + 1
	l.events, l.bytes, l.dropped = nil, 0, 0
	l.since = max(l.since, revision)
}

// trim drops the events that w does not allow to be kept, and says whether
// others will have to go when they have become older.
func (l *eventLog) trim(w Window, now time.Time) (again bool) {
	n := 0
	for n < len(l.events) {
		e, left := l.events[n], len(l.events)-n
		small := left <= w.Min && l.bytes <= w.MinBytes
		young := left <= w.Max && l.bytes <= w.Bytes && now.Sub(e.at) < w.Age
		if small || young {
			break
		}
		l.bytes -= e.size
		l.since = e.Revision
		n++
	}
	l.events = l.events[n:]
	l.base += int64(n)
	l.dropped += n
	if l.dropped > len(l.events)+w.Min { // the array would keep dropped events alive
		l.events = slices.Clone(l.events)
		l.dropped = 0
	}
	return !l.rests(w)
}

// rests says whether all that is there may stay however old it gets.
func (l *eventLog) rests(w Window) bool {
	return len(l.events) <= w.Min && l.bytes <= w.MinBytes
}
