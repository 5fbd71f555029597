package bootstrap

import (
	"io"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"k8s.io/component-base/metrics/legacyregistry"
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
	gather(w, r.metrics, "")
	gather(w, legacyregistry.DefaultGatherer, libraryMetrics)
}

// gather writes the metrics whose names begin with a prefix.
func gather(w io.Writer, from prometheus.Gatherer, prefix string) {
	families, err := from.Gather()
	if err != nil {
		return // what was gathered is not to be trusted
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), prefix) {
			continue
		}
		if _, err := expfmt.MetricFamilyToText(w, f); err != nil {
			return // who asks has gone
		}
	}
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
