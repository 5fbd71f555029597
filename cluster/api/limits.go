package api

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sampan/cluster/auth"
	"sampan/cluster/flow"
	"sampan/internal/fault"
)

// Limits are what one client, or all together, may ask of the server. The zero
// value has upstream's defaults, but for Flow.
type Limits struct {
	// Flow says whose turn it is. Nil: the two below are the limits instead.
	Flow *flow.Flow
	// Reading and Writing are how many requests, other than watches and streams,
	// are worked on at once without Flow. Default: 400 and 200. Negative: any.
	Reading, Writing int

	// Request is the longest that a request other than a watch or a stream may
	// take. Default: 60 s.
	Request time.Duration
	// Watch is how long a watch without timeoutSeconds lasts at least; it ends at
	// random before twice that. Default: 30 minutes.
	Watch time.Duration
	// Write is how long a watcher may take to accept what is written to it.
	// Default: 30 s.
	Write time.Duration

	// Goaway is the part of HTTP/2 requests after which the client is asked to
	// connect again, maybe to another server: 0 to 0.02.
	Goaway float64

	// ShutdownDelay is how long the server goes on as usual when it is to end;
	// only /readyz fails.
	ShutdownDelay time.Duration
	// ShutdownWatches is the time over which watches end then, each at random.
	// Default: none, they end at once.
	ShutdownWatches time.Duration
	// ShutdownRetryAfter: what comes while the last requests are worked on is
	// answered with 429, instead of that nobody listens any more.
	ShutdownRetryAfter bool
}

func (l Limits) withDefaults() (Limits, error) {
	for _, d := range []struct {
		field *time.Duration
		name  string
		value time.Duration
	}{{&l.Request, "request-timeout", time.Minute}, {&l.Watch, "min-request-timeout", 30 * time.Minute}, {&l.Write, "write timeout", 30 * time.Second},
		{&l.ShutdownDelay, "shutdown-delay-duration", 0}, {&l.ShutdownWatches, "shutdown-watch-termination-grace-period", 0}} {
		if *d.field < 0 {
			return l, &fault.Error{Class: fault.Invalid, Op: "limit requests", Err: fmt.Errorf("--%s can not be negative value", d.name)}
		}
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if l.Goaway < 0 || l.Goaway > 0.02 {
		return l, &fault.Error{Class: fault.Invalid, Op: "limit requests", Err: errors.New("--goaway-chance can not be less than 0 or greater than 0.02")}
	}
	limit := func(n *int, value int) {
		if *n == 0 {
			*n = value
		}
		if *n < 0 {
			*n = math.MaxInt
		}
	}
	limit(&l.Reading, 400)
	limit(&l.Writing, 200)
	return l, nil
}

// inFlight counts requests that are worked on, other than watches and streams.
type inFlight struct{ reading, writing atomic.Int64 }

// begin finds out what is asked for and how long that may take. False: it was
// answered.
func (c *call) begin() bool {
	limits := &c.s.cfg.Limits
	if limits.Goaway > 0 && c.r.ProtoMajor == 2 && rand.Float64() < limits.Goaway {
		c.w.Header().Set("Connection", "close") // net/http sends GOAWAY for it
	}
	if c.s.closing.refuses(c.route.Path) {
		c.w.Header().Set("Connection", "close")
		c.w.Header().Set("Retry-After", "5")
		c.sendText(http.StatusTooManyRequests, "The apiserver is shutting down, please try again later.")
		return false
	}
	if c.r.URL.RawQuery != "" {
		c.query = c.r.URL.Query()
	}
	c.asked = strings.ToLower(c.r.Method)
	if c.route.Resource != "" {
		c.asked = c.route.verb(c.r.Method, c.query)
	}
	if c.lasts() {
		return true
	}
	limit, err := timeout(c.query, limits.Request)
	if err != nil {
		c.fail(err)
		return false
	}
	c.deadline = c.began.Add(limit)
	ctx, cancel := context.WithDeadline(c.r.Context(), c.deadline)
	c.r, c.cancel = c.r.WithContext(ctx), cancel
	if c.r.ContentLength != 0 {
		// A half-sent body would hold its connection for ever, even if nobody
		// here reads it: net/http does, before the answer. What comes after
		// this request gets deadlines of its own.
		http.NewResponseController(c.w).SetReadDeadline(c.deadline) // fails only where there is no connection
	}
	return true
}

// lasts says whether the request is of those that go on until somebody ends
// them. (Upstream: BasicLongRunningRequestCheck.)
func (c *call) lasts() bool {
	if c.route.Resource == "" {
		return strings.HasPrefix(c.route.Path, "/debug/pprof/")
	}
	return c.asked == "watch" || slices.Contains(streams, c.route.Subresource)
}

var streams = []string{"attach", "exec", "proxy", "log", "portforward"}

// timeout is how long the request may take, by ?timeout=.
func timeout(q url.Values, most time.Duration) (time.Duration, error) {
	given := q.Get("timeout")
	if given == "" {
		return most, nil
	}
	d, err := time.ParseDuration(given)
	if err != nil {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("invalid timeout specified in the request URL - %s", err))
	}
	if d <= 0 || d > most {
		return most, nil
	}
	return d, nil
}

// admit waits until it is the request's turn. False: it was answered.
func (c *call) admit() bool {
	if c.lasts() && c.asked != "watch" {
		return true
	}
	limits := &c.s.cfg.Limits
	if limits.Flow == nil {
		return c.asked == "watch" || c.admitBelow(limits)
	}
	r := flow.Request{User: c.user, Verb: c.asked, Path: c.r.URL.Path, Group: c.route.GV.Group, Version: c.route.GV.Version,
		Resource: c.route.Resource, Subresource: c.route.Subresource, Namespace: c.route.Namespace, Name: c.route.Name}
	if c.asked == "list" || c.asked == "watch" && beginsWithAll(c.query) {
		r.Objects = c.objects
	}
	wait := limits.Request / 4
	if !c.deadline.IsZero() {
		wait = c.deadline.Sub(c.began) / 4
	}
	turn, ok := limits.Flow.Begin(c.r.Context(), r, min(wait, time.Minute))
	h := c.w.Header()
	h["X-Kubernetes-Pf-Flowschema-Uid"] = turn.SchemaUID()
	h["X-Kubernetes-Pf-Prioritylevel-Uid"] = turn.LevelUID()
	if !ok {
		c.tooMany(turn.RetryAfter())
		return false
	}
	c.turn = turn
	if c.asked != "watch" {
		n := c.count()
		n.Add(1)
		c.counted = n
	}
	return true
}

// admitBelow is admit without priorities: so many, and no more. Administrators
// always get an answer.
func (c *call) admitBelow(limits *Limits) bool {
	n, most := c.count(), limits.Reading
	if n == &c.s.inFlight.writing {
		most = limits.Writing
	}
	if n.Add(1) > int64(most) && !slices.Contains(c.user.Groups, auth.Masters) {
		n.Add(-1)
		c.tooMany(1)
		return false
	}
	c.counted = n
	return true
}

// count is where the request counts as one of those worked on.
func (c *call) count() *atomic.Int64 {
	switch c.asked {
	case "get", "list", "watch", "head", "options":
		return &c.s.inFlight.reading
	}
	return &c.s.inFlight.writing
}

// end gives back what the request had. It may be called more than once.
func (c *call) end() {
	if c.counted != nil {
		c.counted.Add(-1)
		c.counted = nil
	}
	c.settled()
	if c.cancel != nil {
		c.cancel()
	}
}

// settled gives back the request's seats: a watch has begun, or all is done.
func (c *call) settled() {
	if c.turn != nil {
		c.turn.End()
		c.turn = nil
	}
}

// beginsWithAll says whether a watch starts with what there is.
func beginsWithAll(q url.Values) bool {
	rv := q.Get("resourceVersion")
	return rv == "" || rv == "0" || isTrue(q, "sendInitialEvents")
}

// objects is how many objects a list may have to go through.
func (c *call) objects() int {
	if strings.HasPrefix(c.query.Get("fieldSelector"), "metadata.name=") || c.route.Name != "" {
		return 1
	}
	k := c.s.cfg.Kinds.ByGVR(c.route.GV.WithResource(c.route.Resource))
	if k == nil {
		return 1
	}
	n := c.s.cfg.Verbs.Store.Count(k)
	if limit, err := strconv.Atoi(c.query.Get("limit")); err == nil && limit > 0 && c.asked == "list" {
		n = min(n, limit)
	}
	return n
}

// tooMany is upstream's answer to a request that it is too much.
func (c *call) tooMany(after int) {
	c.s.metrics.dropped.Add(1)
	c.w.Header().Set("Retry-After", strconv.Itoa(after))
	c.sendText(http.StatusTooManyRequests, "Too many requests, please try again later.")
}

// sendText answers as http.Error does, which upstream uses where it does not
// know about objects.
func (c *call) sendText(code int, text string) {
	c.w.Header().Set("X-Content-Type-Options", "nosniff")
	c.sendBytes(code, "text/plain; charset=utf-8", []byte(text+"\n"))
}
