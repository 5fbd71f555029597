package api

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// writes is how many writes there are in a time of events without end.
func writes(t *testing.T, p *pace, during time.Duration) (n int) {
	t.Helper()
	for end := time.Now().Add(during); time.Now().Before(end); n++ {
		if !p.wait(t.Context(), time.Now()) {
			t.Fatal("it ended")
		}
	}
	return n
}

func TestPaceOfAWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waiting atomic.Int64
		p := &pace{waiting: &waiting}
		for i := range 1000 { // now and then: at once
			began := time.Now()
			if !p.wait(t.Context(), began) || time.Since(began) != 0 {
				t.Fatalf("event %d had to wait", i)
			}
			time.Sleep(paceLeast)
		}
		if n := writes(t, p, time.Second); n < 100 || n > 100+paceAhead {
			t.Errorf("alone: %d writes in a second", n)
		}
		time.Sleep(time.Second) // rested
		for i := range paceAhead - 1 {
			if began := time.Now(); !p.wait(t.Context(), began) || time.Since(began) != 0 {
				t.Fatalf("event %d after a rest had to wait", i)
			}
		}
		waiting.Store(50)
		if n := writes(t, p, time.Second); n < 35 || n > 45+paceAhead {
			t.Errorf("among 50: %d writes in a second", n)
		}
		waiting.Store(10_000)
		if n := writes(t, p, time.Second); n < 20 || n > 25 {
			t.Errorf("among many: %d writes in a second", n)
		}
		if n := waiting.Load(); n != 10_000 {
			t.Errorf("%d wait", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for p.wait(ctx, time.Now()) {
		}
		if n := waiting.Load(); n != 10_000 {
			t.Errorf("%d wait after the end", n)
		}
	})
}
