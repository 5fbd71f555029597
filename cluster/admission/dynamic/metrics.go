package dynamic

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"sampan/cluster/admission/match"
)

// Metrics are how webhooks answer, under upstream's names.
// (apiserver/pkg/admission/metrics.)
type Metrics struct {
	seconds                       *prometheus.HistogramVec
	requests, rejections, ignored *prometheus.CounterVec
}

// NewMetrics returns metrics in a registry, which may be nil.
func NewMetrics(in prometheus.Registerer) *Metrics {
	const prefix = "apiserver_admission_webhook_"
	of := promauto.With(in)
	return &Metrics{
		seconds: of.NewHistogramVec(prometheus.HistogramOpts{Name: prefix + "admission_duration_seconds", Buckets: []float64{0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10, 25},
			Help: "Admission webhook latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit)."},
			[]string{"name", "type", "operation", "rejected"}),
		requests: of.NewCounterVec(prometheus.CounterOpts{Name: prefix + "request_total",
			Help: "Admission webhook request total, identified by name and broken out for each admission type (validating or admit) and operation, by whether the request was rejected, and by HTTP status code."},
			[]string{"name", "type", "operation", "code", "rejected"}),
		rejections: of.NewCounterVec(prometheus.CounterOpts{Name: prefix + "rejection_count",
			Help: "Admission webhook rejection count, identified by name and broken out for each admission type (validating or admit) and operation, by type of error and by rejection code."},
			[]string{"name", "type", "operation", "error_type", "rejection_code"}),
		ignored: of.NewCounterVec(prometheus.CounterOpts{Name: prefix + "fail_open_count",
			Help: "Admission webhook fail open count, identified by name and broken out for each admission type (validating or admit)."},
			[]string{"name", "type"}),
	}
}

// The types of upstream's labels, and of errors.
const (
	admit      = "admit"
	validating = "validating"

	callingError  = "calling_webhook_error"
	internalError = "apiserver_internal_error"
	noError       = "no_error"

	maxCode = 600 // what is above counts as this, so that a webhook cannot make the metrics grow
)

// count notes how a call that began at a time ended.
func (m *Metrics) count(h *hook, s *match.Subject, typ string, began time.Time, err error) {
	if m == nil {
		return
	}
	operation, code, kind, rejected := string(s.Operation), http.StatusOK, "", true
	var f *failed
	var r *refused
	switch {
	case err == nil:
		rejected = false
	case errors.As(err, &r):
		code, kind = min(int(r.ErrStatus.Code), maxCode), noError
	case errors.As(err, &f):
		code, kind, rejected = http.StatusServiceUnavailable, callingError, !h.ignored()
		if !rejected && !errors.Is(err, context.Canceled) {
			m.ignored.WithLabelValues(h.Name, typ).Inc()
		}
	default:
		code, kind = 0, internalError
	}
	if rejected && !errors.Is(err, context.Canceled) {
		m.rejections.WithLabelValues(h.Name, typ, operation, kind, strconv.Itoa(code)).Inc()
	}
	m.requests.WithLabelValues(h.Name, typ, operation, strconv.Itoa(code), strconv.FormatBool(rejected)).Inc()
	m.seconds.WithLabelValues(h.Name, typ, operation, strconv.FormatBool(rejected)).Observe(time.Since(began).Seconds())
}

// typeOf is the type of a place in the audit log.
func typeOf(place string) string {
	if strings.HasPrefix(place, "mutation.") {
		return admit
	}
	return validating
}
