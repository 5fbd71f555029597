package audit

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// counts are what is recorded and what is lost, under upstream's names.
// (apiserver/pkg/audit/metrics.go.) Nil counts nothing.
type counts struct {
	events, rejected prometheus.Counter
	lost, levels     *prometheus.CounterVec
}

func newCounts(in prometheus.Registerer) *counts {
	of := promauto.With(in)
	return &counts{
		events:   of.NewCounter(prometheus.CounterOpts{Name: "apiserver_audit_event_total", Help: "Counter of audit events generated and sent to the audit backend."}),
		rejected: of.NewCounter(prometheus.CounterOpts{Name: "apiserver_audit_requests_rejected_total", Help: "Counter of apiserver requests rejected due to an error in audit logging backend."}),
		lost: of.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_audit_error_total",
			Help: "Counter of audit events that failed to be audited properly. Plugin identifies the plugin affected by the error."}, []string{"plugin"}),
		levels: of.NewCounterVec(prometheus.CounterOpts{Name: "apiserver_audit_level_total", Help: "Counter of policy levels for audit events (1 per request)."}, []string{"level"}),
	}
}

func (c *counts) level(l auditv1.Level) {
	if c != nil {
		c.levels.WithLabelValues(string(l)).Inc()
	}
}

// staged counts an event; refused says that its request must not go on.
func (c *counts) staged(refused bool) {
	if c == nil {
		return
	}
	c.events.Inc()
	if refused {
		c.rejected.Inc()
	}
}

func (c *counts) lose(plugin string, events int) {
	if c != nil {
		c.lost.WithLabelValues(plugin).Add(float64(events))
	}
}
