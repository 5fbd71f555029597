package counted_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/internal/counted"
)

func counter(name string, labels prometheus.Labels) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: "h", ConstLabels: labels})
}

func TestWrite(t *testing.T) {
	r := prometheus.NewRegistry()
	a, b := counter("a_total", nil), counter("b_total", nil)
	r.MustRegister(a, b)
	b.Inc()
	for prefix, want := range map[string]string{
		"b_": "# HELP b_total h\n# TYPE b_total counter\nb_total 1\n",
		"c":  "",
		"":   "# HELP a_total h\n# TYPE a_total counter\na_total 0\n# HELP b_total h\n# TYPE b_total counter\nb_total 1\n",
	} {
		var got strings.Builder
		if err := counted.Write(&got, r, prefix); err != nil || got.String() != want {
			t.Errorf("prefix %q: %v\n%s\nwant\n%s", prefix, err, got.String(), want)
		}
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errBroken }

var errBroken = errors.New("broken")

func TestWriteSaysWhatIsWrong(t *testing.T) {
	r := prometheus.NewRegistry()
	r.MustRegister(counter("a_total", nil))
	if err := counted.Write(broken{}, r, ""); !errors.Is(err, errBroken) {
		t.Errorf("a writer that fails: %v", err)
	}
	both := prometheus.Gatherers{r, r} // the same twice
	var got strings.Builder
	if err := counted.Write(&got, both, ""); err == nil || got.Len() > 0 {
		t.Errorf("counters that contradict each other: %v, %q", err, got.String())
	}
}
