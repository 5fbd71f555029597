package runtime

import (
	"context"
	"sync"
	"syscall"
	"time"

	"sampan/engine/monitor"
	"sampan/engine/monitor/wire"
	"sampan/internal/fault"
)

// proc is a container's process or an exec's, as this side knows it.
type proc struct {
	state State
	exec  bool
	cfg   *ContainerConfig // of a container; read from disk when first needed
	done  chan struct{}    // closed at its end; state.Exit is set before
}

// subscriber is one reader of events. Its queue is bounded by the number of
// containers, each of which ends once.
type subscriber struct {
	mu    sync.Mutex // guards all below
	queue []Event
	wake  chan struct{} // has room for one
}

func (s *subscriber) put(e Event) {
	s.mu.Lock()
	s.queue = append(s.queue, e)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Events delivers the exits of all opened pods until ctx ends. Exits seen
// while nobody was connected are delivered when the pod is opened.
func (r *Runtime) Events(ctx context.Context) <-chan Event {
	s := &subscriber{wake: make(chan struct{}, 1)}
	out := make(chan Event)
	r.mu.Lock()
	r.subs[s] = struct{}{}
	r.mu.Unlock()
	go func() {
		defer close(out)
		defer func() {
			r.mu.Lock()
			delete(r.subs, s)
			r.mu.Unlock()
		}()
		for {
			s.mu.Lock()
			batch := s.queue
			s.queue = nil
			s.mu.Unlock()
			for _, e := range batch {
				select {
				case out <- e:
				case <-ctx.Done():
					return
				}
			}
			select {
			case <-s.wake:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func (r *Runtime) publish(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for s := range r.subs {
		s.put(e)
	}
}

// pushed handles what the monitor says unasked. It runs on the client's
// goroutine; the zero reply is the connection's end.
func (p *Pod) pushed(m wire.Reply) {
	if m.Type == wire.Exited {
		p.ended(m)
		return
	}
	if m.Type != 0 {
		return
	}
	if p.reconnect() {
		return
	}
	p.mu.Lock()
	p.gone = true
	quiet, child := p.closed, p.child
	now := time.Now()
	procs := p.procs
	if p.left {
		procs = nil // they run on
	}
	for _, pr := range procs {
		select {
		case <-pr.done:
		default:
			// The kernel kills what a monitor leaves behind; how it would have
			// ended nobody knows.
			pr.state.Status, pr.state.Pid = Exited, 0
			pr.state.Exit = Exit{Code: 255, Signal: syscall.SIGKILL, At: now}
			close(pr.done)
		}
	}
	p.mu.Unlock()
	if child != 0 {
		if err := monitor.Reap(child); err != nil {
			p.r.log.Warn("wait for monitor", "key", p.cfg.ID, "err", err)
		}
	}
	if !quiet {
		p.r.publish(Event{Pod: p.cfg.ID, Gone: true})
	}
}

// reconnect says whether the monitor lives and has been dialled again: it
// hangs up on whoever does not read in time, and keeps all there is to know.
func (p *Pod) reconnect() bool {
	p.mu.Lock()
	wanted := !p.closed && p.client != nil
	p.mu.Unlock()
	if !wanted {
		return false
	}
	return p.connect(context.Background(), false) == nil
}

// ended records the end of a process and tells whoever waits.
func (p *Pod) ended(m wire.Reply) {
	exit := Exit{Code: int(m.Code), Signal: syscall.Signal(m.Signal), At: time.Unix(0, m.EndedAt)}
	p.mu.Lock()
	pr := p.procs[m.ID]
	if pr == nil {
		pr = &proc{exec: m.Exec, done: make(chan struct{})}
		p.procs[m.ID] = pr
	}
	p.mu.Unlock()
	if !m.Exec {
		if cfg := p.config(m.ID, pr); cfg != nil && cfg.Cgroup != "" {
			exit.OOMKilled = p.r.cgs.Group(cfg.Cgroup).OOMKills() > 0
		}
	}
	p.mu.Lock()
	select {
	case <-pr.done:
		p.mu.Unlock()
		return
	default:
	}
	pr.state.ID, pr.state.Status, pr.state.Pid, pr.state.Exit = m.ID, Exited, 0, exit
	pr.state.StartTime, pr.state.StartedAt = m.StartTime, time.Unix(0, m.StartedAt)
	close(pr.done)
	if m.Exec {
		delete(p.procs, m.ID)
	}
	p.mu.Unlock()
	if !m.Exec && m.ID != reaperID {
		p.r.publish(Event{Pod: p.cfg.ID, Container: m.ID, Exit: exit})
	}
}

// refresh asks the monitor for all it knows.
func (p *Pod) refresh(ctx context.Context) error { return p.learn(ctx, p.conn()) }

func (p *Pod) learn(ctx context.Context, c *monitor.Client) error {
	list, err := c.List(ctx)
	if err != nil {
		return err
	}
	for _, m := range list {
		if m.Ended {
			p.ended(m)
			continue
		}
		p.mu.Lock()
		if p.procs[m.ID] == nil {
			p.procs[m.ID] = &proc{exec: m.Exec, done: make(chan struct{}),
				state: State{ID: m.ID, Status: Running, Pid: int(m.Pid), StartTime: m.StartTime, StartedAt: time.Unix(0, m.StartedAt)}}
		}
		p.mu.Unlock()
	}
	return nil
}

// find returns a container's entry, asking the monitor if another process may
// have started it.
func (p *Pod) find(ctx context.Context, id string) (*proc, error) {
	for try := 0; ; try++ {
		p.mu.Lock()
		pr := p.procs[id]
		gone := p.gone
		p.mu.Unlock()
		if pr != nil && !pr.exec && id != reaperID {
			return pr, nil
		}
		if gone || try > 0 {
			return nil, &fault.Error{Class: fault.NotFound, Op: "find container", On: id}
		}
		if err := p.refresh(ctx); err != nil {
			return nil, err
		}
	}
}
