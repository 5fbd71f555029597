package api

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
)

// slis counts what /healthz, /livez and /readyz found, for /metrics/slis.
// (KEP-3466; component-base/metrics/prometheus/slis.) The checks are few, and
// their names the program's.
type slis struct {
	mu     sync.Mutex // guards all below
	totals map[sli]int64
	last   map[sli]bool // of a check, with an empty status
}

type sli struct{ name, kind, status string }

func (s *slis) count(check, kind string, err error) {
	status := "success"
	if err != nil {
		status = "error"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.totals == nil {
		s.totals, s.last = map[sli]int64{}, map[sli]bool{}
	}
	s.totals[sli{check, kind, status}]++
	s.last[sli{check, kind, ""}] = err == nil
}

func compareSLIs(a, b sli) int {
	return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.status, b.status), cmp.Compare(a.kind, b.kind))
}

// slis answers /metrics/slis.
func (c *call) slis() {
	var b bytes.Buffer
	s := &c.s.slis
	s.mu.Lock()
	b.WriteString("# HELP kubernetes_healthcheck This metric records the result of a single healthcheck.\n# TYPE kubernetes_healthcheck gauge\n")
	for _, k := range slices.SortedFunc(maps.Keys(s.last), compareSLIs) {
		value := 0
		if s.last[k] {
			value = 1
		}
		fmt.Fprintf(&b, "kubernetes_healthcheck{name=%q,type=%q} %d\n", k.name, k.kind, value)
	}
	b.WriteString("# HELP kubernetes_healthchecks_total This metric records the results of all healthcheck.\n# TYPE kubernetes_healthchecks_total counter\n")
	for _, k := range slices.SortedFunc(maps.Keys(s.totals), compareSLIs) {
		fmt.Fprintf(&b, "kubernetes_healthchecks_total{name=%q,status=%q,type=%q} %d\n", k.name, k.status, k.kind, s.totals[k])
	}
	s.mu.Unlock()
	c.sendBytes(http.StatusOK, "text/plain; version=0.0.4; charset=utf-8", b.Bytes())
}
