// Package heap has garbage collected as often as it is worth: an idle program's
// heap is kept small, and a busy one's is not collected for every few megabytes
// that requests leave behind.
package heap

import (
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

// Room says how large the heap may become between two collections.
type Room struct {
	// Idle is the percentage of what lives, as GOGC has it.
	Idle int
	// Busy is how many bytes there may be beside what lives, if that is more,
	// while collections follow each other within a second. It takes a row of
	// them: what a short burst leaves alive, as the start of a program does, would
	// lie scattered over all the room it was given, and keep it.
	Busy uint64
}

// Keep sets the collector's goal now, and after each collection anew; nothing is
// done while there is none. When a burst is over, what it needed goes back to
// the kernel (rest.go). The return value ends that, with the goal of an idle
// program.
func (r Room) Keep() (end func()) {
	k := &keeper{room: r, last: time.Now(), live: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}}
	k.set(r.Idle)
	k.watch()
	return func() { k.over.Store(true) }
}

// keeper follows the collections. Its fields are those of the goroutine that
// runs cleanups, which runs one at a time, but for over.
type keeper struct {
	room    Room
	over    atomic.Bool
	last    time.Time // of the collection before
	row     int       // collections that came soon after each other
	percent int
	live    []metrics.Sample
	rest    rest
}

// watch is called for each collection: by what is left of an object that nobody
// holds.
func (k *keeper) watch() { runtime.SetFinalizer(&sign{keeper: k}, (*sign).collected) }

type sign struct{ keeper *keeper }

func (s *sign) collected() {
	k := s.keeper
	if k.over.Load() {
		k.set(k.room.Idle)
		return
	}
	now := time.Now()
	metrics.Read(k.live)
	if k.row++; now.Sub(k.last) > soon {
		k.row = 0
	}
	k.set(k.room.percent(k.live[0].Value.Uint64(), k.row))
	k.last = now
	k.rest.collected(now)
	runtime.SetFinalizer(s, (*sign).collected)
}

func (k *keeper) set(percent int) {
	if percent != k.percent { // it stops the world
		k.percent = percent
		debug.SetGCPercent(percent)
	}
}

// soon is how close collections are to each other in a busy program, and burst
// how many of them in a row it takes to be one.
const (
	soon  = time.Second
	burst = 16
)

// percent is the goal after a collection that left live bytes and was one of so
// many in a row. It is in steps, so that it is seldom set.
func (r Room) percent(live uint64, row int) int {
	const step, most = 25, 400
	if row < burst || live == 0 {
		return r.Idle
	}
	wanted := math.Min(float64(r.Busy)/float64(live)*100, most)
	return max(r.Idle, int(wanted)/step*step)
}
