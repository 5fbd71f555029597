package audit

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// batch collects events and hands them on, so that no request waits. It sleeps
// while there are none.
type batch struct {
	name string
	to   backend
	log  *slog.Logger
	Delivery
	counts *counts // nil: nothing is counted

	in      chan *auditv1.Event
	limit   *rate.Limiter // nil: none
	sending chan struct{} // has room for as many batches as are sent at once

	mu      sync.Mutex // guards all below
	dropped int        // since it was last said
}

// sendsAtOnce bounds the batches that wait for a slow receiver.
const sendsAtOnce = 15

var errFull = errors.New("audit buffer queue blocked")

func newBatch(name string, to backend, d Delivery, log *slog.Logger) *batch {
	b := &batch{name: name, to: to, log: log, Delivery: d, in: make(chan *auditv1.Event, d.Buffer), sending: make(chan struct{}, sendsAtOnce)}
	if d.Throttle {
		b.limit = rate.NewLimiter(rate.Limit(d.Rate), d.Burst)
	}
	return b
}

func (b *batch) strict() bool { return false }

// take never waits. What finds the buffer full is lost, which is said once
// per batch.
func (b *batch) take(events []*auditv1.Event) error {
	for i, e := range events {
		select {
		case b.in <- e:
		default:
			b.mu.Lock()
			defer b.mu.Unlock()
			b.dropped += len(events) - i
			return errFull
		}
	}
	return nil
}

func (b *batch) run(ctx context.Context) {
	var sends sync.WaitGroup
	defer sends.Wait()
	for ctx.Err() == nil {
		events := b.collect(ctx)
		if len(events) == 0 {
			continue
		}
		if b.limit != nil && b.limit.Wait(ctx) != nil {
			b.send(ctx, events) // the end: nothing is throttled any more
			break
		}
		b.sending <- struct{}{}
		sends.Go(func() {
			defer func() { <-b.sending }()
			b.send(ctx, events)
		})
	}
	for { // what is left
		var events []*auditv1.Event
		for len(events) < b.Most && len(b.in) > 0 {
			events = append(events, <-b.in)
		}
		if len(events) == 0 {
			return
		}
		b.send(ctx, events)
	}
}

// collect waits for the first event, and then until the batch is full or its
// time is over.
func (b *batch) collect(ctx context.Context) []*auditv1.Event {
	var events []*auditv1.Event
	select {
	case e := <-b.in:
		events = append(events, e)
	case <-ctx.Done():
		return nil
	}
	var over <-chan time.Time
	if b.Wait > 0 {
		timer := time.NewTimer(b.Wait)
		defer timer.Stop()
		over = timer.C
	}
	for len(events) < b.Most {
		if over == nil { // no longer than there are events
			select {
			case e := <-b.in:
				events = append(events, e)
				continue
			default:
				return events
			}
		}
		select {
		case e := <-b.in:
			events = append(events, e)
		case <-over:
			return events
		case <-ctx.Done():
			return events
		}
	}
	return events
}

func (b *batch) send(ctx context.Context, events []*auditv1.Event) {
	b.mu.Lock()
	dropped := b.dropped
	b.dropped = 0
	b.mu.Unlock()
	if dropped > 0 {
		b.counts.lose(b.name, dropped)
		b.log.Error("audit events are lost: the buffer was full", "to", b.name, "events", dropped)
	}
	if err := b.to.write(ctx, events); err != nil {
		b.counts.lose(b.name, len(events))
		b.log.Error("audit events are lost", "to", b.name, "events", len(events), "err", err)
	}
}
