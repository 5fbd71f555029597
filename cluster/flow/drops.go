package flow

import "time"

// mostRetry is the longest that a client is asked to stay away, in seconds.
const mostRetry = 32

// drops follows how many requests a level rejects, and says when to come
// again: twice as late while many are rejected, sooner bit by bit when it gets
// better. (Upstream: dropped_requests_tracker.go.)
type drops struct {
	seconds [2 * mostRetry]struct {
		at    int64 // the second
		count int
	}
	now     int64
	after   int64 // 0: 1
	changed int64
}

// add counts a rejected request and returns after how many seconds it may come
// again.
func (d *drops) add(at time.Time) int {
	second := at.Unix()
	d.after = max(d.after, 1)
	slot := &d.seconds[second%int64(len(d.seconds))]
	if slot.at != second {
		slot.at, slot.count = second, 0
	}
	slot.count++
	if second == d.now {
		return int(d.after)
	}
	d.now = second
	recent := int64(0)
	for back := int64(1); back <= d.after; back++ {
		if s := d.seconds[(second-back)%int64(len(d.seconds))]; s.at == second-back {
			recent += int64(s.count)
		}
	}
	switch {
	case recent >= 3*d.after && second-d.changed >= d.after:
		d.after, d.changed = min(2*d.after, mostRetry), second
	case recent < d.after && d.after > 1:
		d.after--
	}
	return int(d.after)
}
