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

// TokenMetrics are which tokens of service accounts are used, under upstream's
// names. (pkg/serviceaccount/metrics.go.)
type TokenMetrics struct {
	legacy, asked, generated, invalid prometheus.Counter // out of Secrets
	valid, stale                      prometheus.Counter // of pods that are to read them again
}

// NewTokenMetrics returns metrics in a registry, which may be nil.
func NewTokenMetrics(in prometheus.Registerer) *TokenMetrics {
	of := func(name, help string) prometheus.Counter {
		return promauto.With(in).NewCounter(prometheus.CounterOpts{Name: "serviceaccount_" + name, Help: help})
	}
	return &TokenMetrics{
		legacy:    of("legacy_tokens_total", "Cumulative legacy service account tokens used"),
		asked:     of("legacy_manual_token_uses_total", "Cumulative manually created legacy tokens used"),
		generated: of("legacy_auto_token_uses_total", "Cumulative auto-generated legacy tokens used"),
		invalid:   of("invalid_legacy_auto_token_uses_total", "Cumulative invalid auto-generated legacy tokens used"),
		valid:     of("valid_tokens_total", "Cumulative valid projected service account tokens used"),
		stale:     of("stale_tokens_total", "Cumulative stale projected service account tokens used"),
	}
}
