package encrypt

import (
	"bytes"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// metrics are what is sealed and opened, under upstream's names.
// (apiserver/pkg/storage/value/metrics.go.)
type metrics struct {
	operations *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
}

func newMetrics(in prometheus.Registerer) *metrics {
	return &metrics{
		operations: promauto.With(in).NewCounterVec(prometheus.CounterOpts{Name: "apiserver_storage_transformation_operations_total",
			Help: "Total number of transformations. Successful transformation will have a status 'OK' and a varied status string when the transformation fails."},
			[]string{"resource", "status", "transformation_type", "transformer_prefix"}),
		seconds: promauto.With(in).NewHistogramVec(prometheus.HistogramOpts{Name: "apiserver_storage_transformation_duration_seconds",
			Help: "Latencies in seconds of value transformation operations.", Buckets: prometheus.ExponentialBuckets(5e-6, 2, 25)},
			[]string{"transformation_type", "transformer_prefix"}),
	}
}

// The types of transformations.
const (
	sealing = "to_storage"
	opening = "from_storage"
)

func (m *metrics) count(typ string, resource schema.GroupResource, prefix string, began time.Time, err error) {
	m.operations.WithLabelValues(resource.String(), status.Code(err).String(), typ, prefix).Inc()
	if err == nil {
		m.seconds.WithLabelValues(typ, prefix).Observe(time.Since(began).Seconds())
	}
}

// prefixOf is that of the provider which reads what is stored.
func (c *chain) prefixOf(stored []byte) string {
	for _, p := range c.providers {
		if bytes.HasPrefix(stored, []byte(p.prefix)) && (p.prefix != "" || !bytes.HasPrefix(stored, []byte(reserved))) {
			return p.prefix
		}
	}
	return "unknown"
}
