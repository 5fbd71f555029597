package api

import (
	"context"
	"sync/atomic"
	"time"
)

// pace has a watcher written to less often, and more at once, where events come
// in a row: each write costs the server and the client more than the event does,
// and there are as many as watchers. Whoever hears of something now and then
// hears of it at once.
type pace struct {
	waiting *atomic.Int64 // watchers of the server that wait for their next write

	ahead int // writes that were ahead of their time
	every time.Duration
	last  time.Time
	timer *time.Timer
}

const (
	paceAhead = 4                      // writes that may come in a row
	paceLeast = 10 * time.Millisecond  // from one to the next after that
	paceEach  = 500 * time.Microsecond // or so much for each watcher that waits
	paceMost  = 50 * time.Millisecond  // but no more than that
)

// wait returns when the next write may come; false if ctx has ended. now is
// when the last one was done.
func (p *pace) wait(ctx context.Context, now time.Time) bool {
	if p.every == 0 {
		p.every = paceLeast
	}
	if rested := now.Sub(p.last) / p.every; rested > 0 {
		p.ahead = int(max(0, time.Duration(p.ahead)-rested))
		p.last = now
	}
	if p.ahead++; p.ahead <= paceAhead {
		return true
	}
	p.every = min(max(paceLeast, paceEach*time.Duration(p.waiting.Add(1))), paceMost)
	defer p.waiting.Add(-1)
	if p.timer == nil {
		p.timer = time.NewTimer(p.every)
	} else {
		p.timer.Reset(p.every)
	}
	select {
	case <-p.timer.C:
		return true
	case <-ctx.Done():
		p.timer.Stop()
		return false
	}
}
