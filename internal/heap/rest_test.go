package heap

import (
	"runtime"
	"testing"
	"time"
)

func TestGivingBackIsWorthwhile(t *testing.T) {
	for _, tc := range []struct {
		it   string
		use  use
		want bool
	}{
		{"not in a small program", use{live: 20 << 20, has: 50 << 20}, false},
		{"after a burst", use{live: 20 << 20, has: 60 << 20}, true},
		{"not for an eighth of a large heap", use{live: 800 << 20, has: 900 << 20}, false},
		{"for the room of a large heap", use{live: 400 << 20, has: 600 << 20}, true},
	} {
		if got := tc.use.worthwhile(); got != tc.want {
			t.Errorf("%s: %v", tc.it, got)
		}
	}
	for since, want := range map[time.Duration]time.Duration{time.Hour: quiet, time.Minute: 2 * time.Minute, seldom: quiet} {
		if got := wait(since); got != want {
			t.Errorf("%s after the last time it waits %s, want %s", since, got, want)
		}
	}
}

func TestWhatABurstNeededGoesBack(t *testing.T) {
	burst := make([][]byte, 200)
	for i := range burst {
		burst[i] = make([]byte, 1<<20)
	}
	runtime.KeepAlive(burst)
	burst = nil
	runtime.GC()
	var r rest
	defer func() { r.timer.Stop() }()
	if r.collected(time.Now(), usage()); r.timer == nil {
		t.Fatalf("%+v is not given back", usage())
	}
	r.give()
	if u := usage(); u.worthwhile() || r.gave.Load() == 0 {
		t.Errorf("%+v is left", u)
	}
}
