package api

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/request"
	"sampan/internal/counted"
)

// metrics counts requests. What it counts by are kinds and verbs, so a client
// cannot make it grow.
type metrics struct {
	panics  atomic.Int64
	dropped atomic.Int64 // with 429
	slow    atomic.Int64 // watches whose client did not read
	tls     atomic.Int64 // handshakes that failed

	mu      sync.Mutex // guards all below
	total   map[answered]int64
	seconds map[series]*counted.Values
	sizes   map[series]*counted.Values  // of answers to reads
	events  map[watched]*counted.Values // sizes of those sent to the watchers of one resource

	deprecated map[deprecatedAPI]bool // that were asked for
}

// series is what requests are counted by, under upstream's labels.
type series struct{ verb, dryRun, group, version, resource, subresource, scope string }

type answered struct {
	series
	code int
}

// Upstream's buckets.
var (
	requestSeconds = counted.Seconds(0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60)
	answerSizes    = counted.Bytes(1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9)
	eventSizes     = counted.Bytes(1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
)

// watched is what events are counted by.
type watched struct{ group, version, resource string }

// eventsOf returns the counter of a resource's events.
func (m *metrics) eventsOf(r request.Request) *counted.Values {
	key := watched{group: r.GVK.Group, version: r.GVK.Version, resource: r.Kind.Plural}
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.events[key]
	if e == nil {
		if m.events == nil {
			m.events = map[watched]*counted.Values{}
		}
		e = eventSizes.Values()
		m.events[key] = e
	}
	return e
}

// seriesOf gives a request upstream's labels. What nobody serves is counted
// without its name, which is the client's to choose.
func (c *call) seriesOf() series {
	var s series
	if c.route.Resource != "" && c.verb != "" && c.code != http.StatusNotFound && c.s.cfg.Kinds.ByGVR(c.route.GV.WithResource(c.route.Resource)) != nil {
		s.group, s.version, s.resource, s.subresource = c.route.GV.Group, c.route.GV.Version, c.route.Resource, c.route.Subresource
		switch {
		case c.route.Name != "" || c.asked == "create":
			s.scope = "resource"
		case c.route.Namespace != "":
			s.scope = "namespace"
		default:
			s.scope = "cluster"
		}
	}
	if c.query.Has("dryRun") {
		s.dryRun = "All"
	}
	s.verb = "other"
	switch {
	case s.resource == "":
		if m := c.r.Method; slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}, m) {
			s.verb = m
		}
	case slices.Contains(streams, s.subresource):
		s.verb = "CONNECT"
	case c.asked == "patch" && strings.HasPrefix(c.r.Header.Get("Content-Type"), string(types.ApplyYAMLPatchType)):
		s.verb = "APPLY"
	case c.asked == "create":
		s.verb = "POST"
	case c.asked == "update":
		s.verb = "PUT"
	case c.asked != "":
		s.verb = strings.ToUpper(c.asked)
	}
	return s
}

func (m *metrics) count(c *call, took time.Duration) {
	s := c.seriesOf()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.total == nil {
		m.total, m.seconds, m.sizes = map[answered]int64{}, map[series]*counted.Values{}, map[series]*counted.Values{}
	}
	m.total[answered{s, c.code}]++
	if old := c.usedDeprecated(); old != nil && !m.deprecated[*old] {
		if m.deprecated == nil {
			m.deprecated = map[deprecatedAPI]bool{}
		}
		m.deprecated[*old] = true
	}
	add(m.seconds, s, requestSeconds, int64(took))
	if s.verb == "GET" || s.verb == "LIST" {
		s.dryRun = ""
		add(m.sizes, s, answerSizes, int64(c.size))
	}
}

func add(to map[series]*counted.Values, s series, by *counted.Scale, value int64) {
	v := to[s]
	if v == nil {
		v = by.Values()
		to[s] = v
	}
	v.Add(value)
}

func (s series) labels(dryRun, component bool) string {
	var b strings.Builder
	if component {
		b.WriteString(`component="apiserver",`)
	}
	if dryRun {
		fmt.Fprintf(&b, "dry_run=%q,", s.dryRun)
	}
	fmt.Fprintf(&b, "group=%q,resource=%q,scope=%q,subresource=%q,verb=%q,version=%q", s.group, s.resource, s.scope, s.subresource, s.verb, s.version)
	return b.String()
}

func compareSeries(a, b series) int {
	return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.resource, b.resource), cmp.Compare(a.subresource, b.subresource),
		cmp.Compare(a.verb, b.verb), cmp.Compare(a.version, b.version), cmp.Compare(a.scope, b.scope), cmp.Compare(a.dryRun, b.dryRun))
}

// metrics answers /metrics in the Prometheus text format, under upstream's
// names.
func (c *call) metrics() {
	var b bytes.Buffer
	head := func(name, typ, help string) { fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, typ) }
	one := func(name, typ, help string, value int64) {
		head(name, typ, help)
		fmt.Fprintf(&b, "%s %d\n", name, value)
	}
	m := &c.s.metrics
	m.write(&b, head)
	c.s.strangers.write(&b, head)
	head("apiserver_current_inflight_requests", "gauge", "Maximal number of currently used inflight request limit of this apiserver per request kind in last second.")
	fmt.Fprintf(&b, "apiserver_current_inflight_requests{request_kind=\"mutating\"} %d\n", c.s.inFlight.writing.Load())
	fmt.Fprintf(&b, "apiserver_current_inflight_requests{request_kind=\"readOnly\"} %d\n", c.s.inFlight.reading.Load())
	c.s.long.write(&b, head)
	one("apiserver_panics_total", "counter", "Requests that ended with a panic of the program.", m.panics.Load())
	one("apiserver_tls_handshake_errors_total", "counter", "Number of requests dropped with 'TLS handshake error from' error", m.tls.Load())
	one("apiserver_terminated_watchers_total", "counter", "Counter of watchers closed due to unresponsiveness.", m.slow.Load())
	c.s.storageMetrics(&b, head)
	c.s.etcdMetrics(&b, head)
	v := c.s.cfg.Version
	head("kubernetes_build_info", "gauge", "A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.")
	fmt.Fprintf(&b, "kubernetes_build_info{build_date=%q,compiler=%q,git_commit=%q,git_tree_state=%q,git_version=%q,go_version=%q,major=%q,minor=%q,platform=%q} 1\n",
		v.BuildDate, v.Compiler, v.GitCommit, v.GitTreeState, v.GitVersion, v.GoVersion, v.Major, v.Minor, v.Platform)
	if f := c.s.cfg.Limits.Flow; f != nil {
		f.WriteMetrics(&b)
	}
	if c.s.cfg.Metrics != nil {
		c.s.cfg.Metrics(&b)
	}
	processMetrics(&b, head)
	c.sendBytes(http.StatusOK, "text/plain; version=0.0.4; charset=utf-8", b.Bytes())
}

func (m *metrics) write(b *bytes.Buffer, head func(name, typ, help string)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	head("apiserver_request_total", "counter", "Counter of apiserver requests broken out for each verb, dry run value, group, version, resource, scope, component, and HTTP response code.")
	for _, k := range slices.SortedFunc(maps.Keys(m.total), func(x, y answered) int {
		return cmp.Or(compareSeries(x.series, y.series), cmp.Compare(x.code, y.code))
	}) {
		fmt.Fprintf(b, "apiserver_request_total{code=\"%d\",%s} %d\n", k.code, k.labels(true, true), m.total[k])
	}
	head("apiserver_request_duration_seconds", "histogram", "Response latency distribution in seconds for each verb, dry run value, group, version, resource, subresource, scope and component.")
	for _, k := range slices.SortedFunc(maps.Keys(m.seconds), compareSeries) {
		m.seconds[k].Histogram().Write(b, "apiserver_request_duration_seconds", k.labels(true, true))
	}
	head("apiserver_response_sizes", "histogram", "Response size distribution in bytes for each group, version, verb, resource, subresource, scope and component.")
	for _, k := range slices.SortedFunc(maps.Keys(m.sizes), compareSeries) {
		m.sizes[k].Histogram().Write(b, "apiserver_response_sizes", k.labels(false, true))
	}
	head("apiserver_request_terminations_total", "counter", "Number of requests which apiserver terminated in self-defense.")
	fmt.Fprintf(b, "apiserver_request_terminations_total{code=\"429\",component=\"apiserver\"} %d\n", m.dropped.Load())
	m.writeDeprecatedLocked(b, head)
	resources := slices.SortedFunc(maps.Keys(m.events), func(x, y watched) int {
		return cmp.Or(cmp.Compare(x.group, y.group), cmp.Compare(x.resource, y.resource), cmp.Compare(x.version, y.version))
	})
	labels := func(k watched) string {
		return fmt.Sprintf("group=%q,resource=%q,version=%q", k.group, k.resource, k.version)
	}
	head("apiserver_watch_events_total", "counter", "Number of events sent in watch clients")
	for _, k := range resources {
		fmt.Fprintf(b, "apiserver_watch_events_total{%s} %d\n", labels(k), m.events[k].Histogram().Count)
	}
	head("apiserver_watch_events_sizes", "histogram", "Watch event size distribution in bytes")
	for _, k := range resources {
		m.events[k].Histogram().Write(b, "apiserver_watch_events_sizes", labels(k))
	}
}
