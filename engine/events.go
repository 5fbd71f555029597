package engine

import (
	"context"
	"errors"
	"sync"

	"sampan/engine/runtime"
	"sampan/internal/fault"
)

// backlogSize bounds how many events wait for the first subscriber, and
// queueSize how many for one that is slow.
const (
	backlogSize = 1024
	queueSize   = 4096
)

// hub hands events to all who subscribed. What happened before anybody did is
// kept for the first: the ends of containers that were found at take-over.
type hub struct {
	mu      sync.Mutex // guards all below
	subs    map[*subscriber]struct{}
	backlog []Event
	closed  bool
}

type subscriber struct {
	mu    sync.Mutex // guards queue
	queue []Event
	lost  bool
	wake  chan struct{} // holds one token when queue has something
}

func (h *hub) emit(ev Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.subs) == 0 {
		if len(h.backlog) == backlogSize {
			h.backlog = append(h.backlog[:0], h.backlog[1:]...)
		}
		h.backlog = append(h.backlog, ev)
		return
	}
	for s := range h.subs {
		s.put(ev)
	}
}

func (s *subscriber) put(ev Event) {
	s.mu.Lock()
	if len(s.queue) < queueSize {
		s.queue = append(s.queue, ev)
	} else {
		s.lost = true
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (h *hub) close() {
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
}

// Events calls fn with each event until ctx ends or fn fails. The first
// subscriber also gets what happened before it came. One that falls 4,096
// events behind gets an Unavailable fault and has to list anew.
func (e *Engine) Events(ctx context.Context, fn func(Event) error) error {
	s := &subscriber{wake: make(chan struct{}, 1)}
	h := &e.events
	h.mu.Lock()
	if h.subs == nil {
		h.subs = map[*subscriber]struct{}{}
	}
	first := h.backlog
	h.backlog = nil
	h.subs[s] = struct{}{}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.subs, s)
		h.mu.Unlock()
	}()
	for _, ev := range first {
		if err := fn(ev); err != nil {
			return err
		}
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.wake:
		}
		s.mu.Lock()
		queue, lost := s.queue, s.lost
		s.queue = nil
		s.mu.Unlock()
		for _, ev := range queue {
			if err := fn(ev); err != nil {
				return err
			}
		}
		if lost {
			return &fault.Error{Class: fault.Unavailable, Op: "follow events", Fix: "list containers anew and subscribe again"}
		}
	}
}

// Run is the daemon's part: it recovers, then writes down the end of each
// container as it happens and tells subscribers, until ctx ends. Commands do
// without it, as they observe what they look at.
func (e *Engine) Run(ctx context.Context) error {
	exits := e.Runtime.Events(ctx)
	err := e.Recover(ctx)
	e.recoveredOnce.Do(func() { close(e.recovered) })
	if err != nil {
		if ctx.Err() != nil {
			return nil // asked to end in the middle; the next start goes on
		}
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev, ok := <-exits:
			if !ok {
				if ctx.Err() != nil {
					return nil
				}
				return &fault.Error{Class: fault.Unavailable, Op: "follow the ends of containers", Err: errors.New("the runtime was closed")}
			}
			e.exited(ctx, ev)
		}
	}
}

// Recovered is closed when Run has recovered for the first time, or tried to:
// what a program that died left half-written is written down then. Whoever
// decides by what runs waits for it.
func (e *Engine) Recovered() <-chan struct{} { return e.recovered }

func (e *Engine) exited(ctx context.Context, ev runtime.Event) {
	ids := []string{ev.Container}
	if ev.Gone {
		list, err := e.ContainersOf(ctx, ev.Pod) // observes each
		if err != nil {
			e.log.Error("cannot read the containers of a sandbox whose monitor is gone", "key", short(ev.Pod), "error", err)
			return
		}
		ids = ids[:0]
		for _, c := range list {
			ids = append(ids, c.ID)
		}
		if s, err := e.sandbox(ev.Pod); err == nil && !s.Standalone && !s.Stopped {
			e.events.emit(Event{Type: EventStopped, Sandbox: ev.Pod, At: s.Created})
		}
	}
	for _, id := range ids {
		if _, err := e.observe(ctx, id); err != nil && fault.ClassOf(err) != fault.NotFound {
			e.log.Error("cannot write down the end of a container", "key", short(id), "error", err)
			continue
		}
		if err := e.Settle(ctx, id); err != nil {
			e.log.Error("cannot give back what a container held", "key", short(id), "error", err)
		}
	}
}
