package auth

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are how an Authorizer decides, under upstream's names.
// (apiserver/pkg/endpoints/filters/metrics.go.)
type Metrics struct {
	allowed, denied, silent, failed outcome
}

// outcome is found once: what is counted for each request is not looked up.
type outcome struct {
	count   prometheus.Counter
	seconds prometheus.Observer
}

// NewMetrics returns metrics in a registry, which may be nil.
func NewMetrics(in prometheus.Registerer) *Metrics {
	counts := promauto.With(in).NewCounterVec(prometheus.CounterOpts{Name: "authorization_attempts_total",
		Help: "Counter of authorization attempts broken down by result. It can be either 'allowed', 'denied', 'no-opinion' or 'error'."}, []string{"result"})
	seconds := promauto.With(in).NewHistogramVec(prometheus.HistogramOpts{Name: "authorization_duration_seconds",
		Help: "Authorization duration in seconds broken out by result.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 15)}, []string{"result"})
	of := func(result string) outcome {
		return outcome{counts.WithLabelValues(result), seconds.WithLabelValues(result)}
	}
	return &Metrics{of("allowed"), of("denied"), of("no-opinion"), of("error")}
}

// count notes a decision that was asked for at a time.
func (m *Metrics) count(d Decision, err error, began time.Time) {
	o := &m.silent
	switch {
	case d == Allow:
		o = &m.allowed
	case err != nil:
		o = &m.failed
	case d == Deny:
		o = &m.denied
	}
	o.count.Inc()
	o.seconds.Observe(time.Since(began).Seconds())
}
