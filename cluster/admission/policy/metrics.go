package policy

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are what validating policies found, under upstream's names.
// (apiserver/pkg/admission/plugin/policy/validating/metrics.)
type Metrics struct {
	checks  *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

// NewMetrics returns metrics in a registry, which may be nil.
func NewMetrics(in prometheus.Registerer) *Metrics {
	labels := []string{"policy", "policy_binding", "error_type", "enforcement_action"}
	return &Metrics{
		checks: promauto.With(in).NewCounterVec(prometheus.CounterOpts{Name: "apiserver_validating_admission_policy_check_total",
			Help: "Validation admission policy check total, labeled by policy and further identified by binding and enforcement action taken."}, labels),
		seconds: promauto.With(in).NewHistogramVec(prometheus.HistogramOpts{Name: "apiserver_validating_admission_policy_check_duration_seconds",
			Buckets: []float64{0.0000005, 0.001, 0.01, 0.1, 1.0},
			Help:    "Validation admission latency for individual validation expressions in seconds, labeled by policy and further including binding and enforcement action taken."}, labels),
	}
}

// count notes a validation that did not hold, or an error, and what was made
// of it: "deny", "audit", "warn", or "allow" where the policy ignores errors.
func (m *Metrics) count(policy, binding, action, text string, took time.Duration) {
	if m == nil {
		return
	}
	kind := "invalid_error" // upstream's word for all that is none of the others
	switch {
	case strings.HasPrefix(text, "compilation"):
		kind = "compile_error"
	case strings.HasPrefix(text, "validation failed due to running out of cost budget"):
		kind = "out_of_budget"
	}
	m.checks.WithLabelValues(policy, binding, kind, action).Inc()
	m.seconds.WithLabelValues(policy, binding, kind, action).Observe(took.Seconds())
}
