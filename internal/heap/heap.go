// Package heap has garbage collected as often as it is worth: an idle program's
// heap is kept small, and a busy one's is not collected for every few megabytes
// that requests leave behind.
package heap

import (
	"math"
	"runtime"
	"runtime/debug"
	"sync"
	"time"
)

// Room says how large the heap may become between two collections.
type Room struct {
	// Idle is the percentage of what lives, as GOGC has it.
	Idle int
	// Busy is how many bytes there may be beside what lives, if that is more,
	// in a program that is busy: collections follow each other within a second.
	Busy uint64
	// Calm is for how long a program is taken to be idle at first, whatever it does.
	// What comes to stay meanwhile would lie scattered over all the room there
	// was, and keep it.
	Calm time.Duration
}

// Keeper has the collector follow a Room.
type Keeper struct {
	mu      sync.Mutex // guards all below
	rest    rest
	room    Room
	over    bool
	since   time.Time // of the room
	last    time.Time // of the collection before
	percent int
}

// Keep sets the collector's goal now, and after each collection anew; nothing is
// done while there is none. When a burst is over, what it needed goes back to
// the kernel (rest.go).
func Keep(r Room) *Keeper {
	k := &Keeper{}
	k.Change(r)
	runtime.SetFinalizer(&sign{keeper: k}, (*sign).collected)
	return k
}

// Change is for a program whose life goes on in another way: it is taken to be
// idle at first.
func (k *Keeper) Change(r Room) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	k.room, k.since, k.last = r, now, now
	k.setLocked(r.Idle)
}

// End leaves the collector with the goal of an idle program.
func (k *Keeper) End() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.over = true
	k.setLocked(k.room.Idle)
}

// sign is a thing that nobody holds: a collection finds it, and has collected
// called.
type sign struct{ keeper *Keeper }

func (s *sign) collected() {
	if s.keeper.collected(time.Now()) {
		runtime.SetFinalizer(s, (*sign).collected)
	}
}

// collected says whether the next collection is to be told of.
func (k *Keeper) collected(now time.Time) bool {
	u := usage()
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over {
		return false
	}
	busy := now.Sub(k.last) <= soon && now.Sub(k.since) >= k.room.Calm
	k.setLocked(k.room.percent(u.live, busy))
	k.last = now
	k.rest.collected(now, u)
	return true
}

func (k *Keeper) setLocked(percent int) {
	if percent != k.percent { // it stops the world
		k.percent = percent
		debug.SetGCPercent(percent)
	}
}

// soon is how close collections are to each other in a busy program.
const soon = time.Second

// percent is the goal after a collection that left live bytes. It is in steps,
// so that it is seldom set.
func (r Room) percent(live uint64, busy bool) int {
	const step, most = 25, 400
	if !busy || live == 0 {
		return r.Idle
	}
	wanted := math.Min(float64(r.Busy)/float64(live)*100, most)
	return max(r.Idle, int(wanted)/step*step)
}
