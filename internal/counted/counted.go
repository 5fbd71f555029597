// Package counted counts values by bounds, and writes what parts of the program
// have counted as text, in the format of Prometheus. It knows nothing of what is
// counted.
package counted

import (
	"io"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
)

// Write writes the metrics whose names begin with prefix. An error means that
// counters contradict each other, and nothing was written; or it is w's.
func Write(w io.Writer, from prometheus.Gatherer, prefix string) error {
	families, err := from.Gather()
	if err != nil {
		return err
	}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), prefix) {
			continue
		}
		if _, err := expfmt.MetricFamilyToText(w, f); err != nil {
			return err
		}
	}
	return nil
}
