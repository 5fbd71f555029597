package webhook

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are how webhooks answer, under the names that upstream's client
// counts its calls by. (component-base/metrics/prometheus/restclient.)
type Metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

// NewMetrics returns metrics in a registry, which may be nil.
func NewMetrics(in prometheus.Registerer) *Metrics {
	auto := promauto.With(in)
	return &Metrics{
		requests: auto.NewCounterVec(prometheus.CounterOpts{Name: "rest_client_requests_total",
			Help: "Number of HTTP requests, partitioned by status code, method, and host."}, []string{"code", "method", "host"}),
		seconds: auto.NewHistogramVec(prometheus.HistogramOpts{Name: "rest_client_request_duration_seconds",
			Help:    "Request latency in seconds. Broken down by verb, and host.",
			Buckets: []float64{0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60}}, []string{"verb", "host"}),
	}
}

// asked notes a request that was sent at a time; resp is nil if nobody answered.
func (m *Metrics) asked(req *http.Request, resp *http.Response, began time.Time) {
	code := "<error>" // upstream's word
	if resp != nil {
		code = strconv.Itoa(resp.StatusCode)
	}
	m.requests.WithLabelValues(code, req.Method, req.URL.Host).Inc()
	m.seconds.WithLabelValues(req.Method, req.URL.Host).Observe(time.Since(began).Seconds())
}
