package api

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// closing is how far the end of the server has come.
type closing struct {
	began   atomic.Bool // /readyz fails
	refuse  atomic.Bool // what comes is answered with 429
	watches atomic.Bool // those that last are ended
}

// refuses says whether a request comes too late. (Upstream: WithRetryAfter,
// which also goes on to answer probes and scrapers.)
func (c *closing) refuses(path string) bool {
	if !c.refuse.Load() {
		return false
	}
	for _, p := range []string{"/readyz", "/livez", "/healthz", "/metrics"} {
		if strings.HasPrefix(path, p) {
			return false
		}
	}
	return true
}

// longRunning are the requests that last: watches and streams. They end when
// the server does.
type longRunning struct {
	paced atomic.Int64 // watches that wait for their next write

	mu     sync.Mutex // guards all below
	closed bool
	next   uint64
	ends   map[uint64]lasting
}

type lasting struct {
	end context.CancelFunc
	of  series // for metrics
}

// lasting is the context of a request that lasts, and what to call when it is
// done.
func (c *call) lasting() (context.Context, context.CancelFunc) {
	return c.s.long.begin(c.r.Context(), c.seriesOf())
}

// begin returns a context that ends with the request or the server, and what
// to call when the request is done.
func (l *longRunning) begin(parent context.Context, of series) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		cancel()
		return ctx, cancel
	}
	if l.ends == nil {
		l.ends = map[uint64]lasting{}
	}
	l.next++
	id := l.next
	l.ends[id] = lasting{cancel, of}
	return ctx, func() {
		cancel()
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.ends, id)
	}
}

// write says how many there are, for metrics.
func (l *longRunning) write(b *bytes.Buffer, head func(name, typ, help string)) {
	counts := map[series]int{}
	l.mu.Lock()
	for _, one := range l.ends {
		if one.of != (series{}) { // else it does not last, but ends with the server
			counts[one.of]++
		}
	}
	l.mu.Unlock()
	head("apiserver_longrunning_requests", "gauge", "Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component. Not all requests are tracked this way.")
	for _, s := range slices.SortedFunc(maps.Keys(counts), compareSeries) {
		fmt.Fprintf(b, "apiserver_longrunning_requests{%s} %d\n", s.labels(false, true), counts[s])
	}
}

// close ends all of them within a time, each at random, so that not all
// clients ask the next server at the same moment; and those still to come at
// once.
func (l *longRunning) close(within time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for _, one := range l.ends {
		if within <= 0 {
			one.end()
			continue
		}
		time.AfterFunc(rand.N(within), one.end)
	}
}

// requests counts those under way.
type requests struct {
	count   atomic.Int64
	closing atomic.Bool
	none    chan struct{} // has room for one
}

func (r *requests) enter() { r.count.Add(1) }

func (r *requests) leave() {
	if r.count.Add(-1) == 0 && r.closing.Load() {
		r.signal()
	}
}

func (r *requests) signal() {
	select {
	case r.none <- struct{}{}:
	default:
	}
}

// drain waits until no request is under way. It is called by one goroutine at
// a time.
func (r *requests) drain(ctx context.Context) error {
	r.closing.Store(true)
	if r.count.Load() == 0 {
		r.signal()
	}
	select {
	case <-r.none:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
