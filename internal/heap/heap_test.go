package heap

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestPercent(t *testing.T) {
	r := Room{Idle: 50, Busy: 32 << 20}
	for _, tc := range []struct {
		it   string
		live uint64
		busy bool
		want int
	}{
		{"an idle program keeps its heap small", 16 << 20, false, 50},
		{"a busy one has room", 16 << 20, true, 200},
		{"in steps", 15 << 20, true, 200},
		{"a small one does not have all of it", 1 << 20, true, 400},
		{"a large one has what it has idle", 100 << 20, true, 50},
		{"nothing is known yet", 0, true, 50},
	} {
		if got := r.percent(tc.live, tc.busy); got != tc.want {
			t.Errorf("%s: %d, want %d", tc.it, got, tc.want)
		}
	}
}

// The goal follows the collections that there are: it rises while they come
// soon after each other, and falls back when it is over.
func TestKeepFollowsCollections(t *testing.T) {
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	now := func() int {
		p := debug.SetGCPercent(100)
		debug.SetGCPercent(p)
		return p
	}
	k := Keep(Room{Idle: 60, Busy: 256 << 20})
	if p := now(); p != 60 {
		t.Errorf("at first the goal is %d", p)
	}
	until := func(what string, ok func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !ok(); runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the goal is %d", what, now())
			}
			runtime.GC()
		}
	}
	until("busy", func() bool { return now() > 60 })
	k.Change(Room{Idle: 80, Busy: 256 << 20, Calm: time.Hour})
	until("another way", func() bool { return now() == 80 })
	k.Change(Room{Idle: 60, Busy: 256 << 20})
	until("busy again", func() bool { return now() > 80 })
	k.End()
	if p := now(); p != 60 {
		t.Errorf("when it is over the goal is %d", p)
	}
}
