package heap

import (
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

// rest gives memory back to the kernel when a program that needed much of it
// has come to rest. The runtime does it too, but leaves half as much again as
// lives, and takes minutes: the next collection in an idle program is the one
// that comes after two of them.
//
// Nothing wakes up for it in a program that stays small: the timer is set by
// collections, and only while there is much to give.
type rest struct {
	timer *time.Timer
	gave  atomic.Int64 // when, in nanoseconds since the epoch
}

const (
	worth  = 32 << 20         // bytes beside what lives, and a quarter of that, are worth another collection
	quiet  = 30 * time.Second // is how long there was no collection in a program at rest
	seldom = 3 * time.Minute  // between one time and the next
)

// collected is called after each collection, one at a time, with what the heap
// consists of then.
func (r *rest) collected(now time.Time, u use) {
	if !u.worthwhile() {
		if r.timer != nil {
			r.timer.Stop()
		}
		return
	}
	in := wait(now.Sub(time.Unix(0, r.gave.Load())))
	if r.timer == nil {
		r.timer = time.AfterFunc(in, r.give)
		return
	}
	r.timer.Reset(in)
}

// wait is how long to wait for the next collection, if memory was given back
// that long ago.
func wait(since time.Duration) time.Duration { return max(quiet, seldom-since) }

func (r *rest) give() {
	if !usage().worthwhile() {
		return
	}
	r.gave.Store(time.Now().UnixNano())
	debug.FreeOSMemory()
}

// use is what a heap consists of, in bytes.
type use struct {
	live uint64 // after the last collection
	has  uint64 // is in memory
}

func usage() (u use) {
	all := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"}}
	metrics.Read(all)
	u.live = all[0].Value.Uint64()
	for _, s := range all[1:] {
		u.has += s.Value.Uint64()
	}
	return u
}

func (u use) worthwhile() bool { return u.has > u.live+max(worth, u.live/4) }
