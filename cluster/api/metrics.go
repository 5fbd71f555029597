package api

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// metrics counts requests. What it counts by are kinds and verbs, so a client
// cannot make it grow.
type metrics struct {
	panics atomic.Int64

	mu    sync.Mutex // guards all below
	total map[series]*tally
}

type series struct {
	verb, group, version, resource, subresource string
	code                                        int
}

type tally struct {
	count   int64
	seconds float64
}

func (m *metrics) count(c *call, took time.Duration) {
	s := series{verb: c.verb, code: c.code}
	if c.route.Resource != "" && c.verb != "" && c.s.cfg.Kinds.ByGVR(c.route.GV.WithResource(c.route.Resource)) != nil && c.code != 404 {
		s.group, s.version, s.resource, s.subresource = c.route.GV.Group, c.route.GV.Version, c.route.Resource, c.route.Subresource
	}
	if s.verb == "" || s.resource == "" && !slices.Contains([]string{"get", "head", "create"}, s.verb) {
		s.verb = "other"
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.total == nil {
		m.total = map[series]*tally{}
	}
	t := m.total[s]
	if t == nil {
		t = &tally{}
		m.total[s] = t
	}
	t.count++
	t.seconds += took.Seconds()
}

// metrics answers /metrics in the Prometheus text format, under upstream's
// names.
func (c *call) metrics() {
	var b bytes.Buffer
	m := &c.s.metrics
	m.mu.Lock()
	keys := slices.SortedFunc(maps.Keys(m.total), func(a, b series) int {
		return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.resource, b.resource), cmp.Compare(a.subresource, b.subresource),
			cmp.Compare(a.verb, b.verb), cmp.Compare(a.version, b.version), cmp.Compare(a.code, b.code))
	})
	labels := func(s series) string {
		return fmt.Sprintf(`{code="%d",group=%q,resource=%q,subresource=%q,verb=%q,version=%q}`,
			s.code, s.group, s.resource, s.subresource, s.verb, s.version)
	}
	b.WriteString("# TYPE apiserver_request_total counter\n")
	for _, k := range keys {
		fmt.Fprintf(&b, "apiserver_request_total%s %d\n", labels(k), m.total[k].count)
	}
	b.WriteString("# TYPE apiserver_request_duration_seconds summary\n")
	for _, k := range keys {
		fmt.Fprintf(&b, "apiserver_request_duration_seconds_sum%s %g\n", labels(k), m.total[k].seconds)
		fmt.Fprintf(&b, "apiserver_request_duration_seconds_count%s %d\n", labels(k), m.total[k].count)
	}
	m.mu.Unlock()
	fmt.Fprintf(&b, "# TYPE apiserver_current_inflight_requests gauge\napiserver_current_inflight_requests %d\n", c.s.inFlight.Load())
	fmt.Fprintf(&b, "# TYPE apiserver_longrunning_requests gauge\napiserver_longrunning_requests %d\n", c.s.long.count())
	fmt.Fprintf(&b, "# TYPE apiserver_panics_total counter\napiserver_panics_total %d\n", m.panics.Load())
	if c.s.cfg.Metrics != nil {
		c.s.cfg.Metrics(&b)
	}
	c.sendBytes(200, "text/plain; version=0.0.4; charset=utf-8", b.Bytes())
}
