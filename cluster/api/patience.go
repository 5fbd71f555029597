package api

import (
	"net/http"
	"sync"
	"time"
)

// patience breaks the stream of a client that does not take what is written to
// it: what waits for it is bounded by the connection's windows and the store's
// log, but not for ever. There is one timer for all writes: the deadline of a
// stream is the connection's goroutine's to set, which would be woken twice for
// each event.
type patience struct {
	c       *call
	control *http.ResponseController
	timer   *time.Timer
	limit   time.Duration

	mu   sync.Mutex // guards over, and is held while the stream is broken
	over bool
}

func newPatience(c *call, control *http.ResponseController) *patience {
	p := &patience{c: c, control: control, limit: c.s.cfg.Limits.Write}
	p.timer = time.AfterFunc(p.limit, p.lost)
	p.timer.Stop()
	return p
}

func (p *patience) start() { p.timer.Reset(p.limit) }

func (p *patience) stop() { p.timer.Stop() }

// end is called before the handler returns: the stream is not its own then.
func (p *patience) end() {
	p.timer.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
}

func (p *patience) lost() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	p.c.s.metrics.slow.Add(1)
	p.c.s.cfg.Log.Info("watch closed: its client does not read", "user", p.c.user.Name, "client", p.c.r.RemoteAddr,
		"path", p.c.r.URL.Path, "agent", p.c.r.UserAgent(), "waited", p.limit)
	p.control.SetWriteDeadline(time.Unix(1, 0)) // fails only where the connection has gone
}
