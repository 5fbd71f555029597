package bootstrap

import (
	"io"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/component-base/metrics/legacyregistry"

	"sampan/internal/counted"
)

// registry has metrics.
type registry interface {
	prometheus.Registerer
	prometheus.Gatherer
}

// libraryMetrics begin the names of what k8s.io/apiserver's libraries count of
// themselves: how long expressions in CEL take.
const libraryMetrics = "apiserver_cel_"

// writeMetrics appends to /metrics what parts of the program have counted.
func (r *running) writeMetrics(w io.Writer) {
	for _, write := range r.counted {
		write(w)
	}
	// An error says that who asks has gone, or that counters are not to be trusted.
	_ = counted.Write(w, r.metrics, "")
	_ = counted.Write(w, legacyregistry.DefaultGatherer, libraryMetrics)
}

// managed says whether the controller runs of which upstream's controller
// manager says it, the one of the ranges of nodes.
// (component-base/metrics/prometheus/controllers.)
func managed(down *outages) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "running_managed_controllers", Help: "Indicates where instances of a controller are currently running",
		ConstLabels: prometheus.Labels{"manager": "kube-controller-manager", "name": "nodeipam"}}, func() float64 {
		if down.of("nodeipam") != nil {
			return 0
		}
		return 1
	})
}
