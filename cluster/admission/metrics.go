package admission

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/internal/counted"
)

// Metrics are how long admission takes, under upstream's names: as a whole and
// for each plugin. (apiserver/pkg/admission/metrics.) Every write passes dozens
// of plugins, most of which do nothing, and looking at the clock takes longer
// than they do: so only those that wait for somebody (Waiter) are measured each,
// and the time of those between is shared among them alike. It is a
// prometheus.Collector; the chain that it is given to fills it.
type Metrics struct {
	steps, plugins []*timer
}

// Waiter is a plugin that may wait for another program.
type Waiter interface{ Waits() }

var (
	admissionSeconds = counted.Seconds(0.005, 0.025, 0.1, 0.5, 1.0, 2.5)
	stepDesc         = prometheus.NewDesc("apiserver_admission_step_admission_duration_seconds",
		"Admission sub-step latency histogram in seconds, broken out for each operation and API resource and step type (validate or admit).",
		[]string{"type", "operation", "rejected"}, nil)
	pluginDesc = prometheus.NewDesc("apiserver_admission_controller_admission_duration_seconds",
		"Admission controller latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).",
		[]string{"name", "type", "operation", "rejected"}, nil)
)

// The types of steps.
const (
	admit    = "admit"
	validate = "validate"
)

var operations = [...]Operation{Create, Update, Delete, Connect}

// timer has the times of a plugin, or of a whole step, of one type. A nil timer
// measures nothing.
type timer struct {
	labels []string     // before the operation: name and type, or type alone
	counts [2]durations // the second of what was rejected
	run    *durations   // of a run that it is in; nil: it is in none
}

func newTimer(run *durations, labels ...string) *timer {
	return &timer{labels: labels, counts: [2]durations{newDurations(), newDurations()}, run: run}
}

// durations are those of each of operations.
type durations [len(operations)]*counted.Values

func newDurations() (all durations) {
	for i := range all {
		all[i] = admissionSeconds.Values()
	}
	return all
}

func (all *durations) add(o Operation, d time.Duration) {
	if i := slices.Index(operations[:], o); i >= 0 {
		all[i].Add(int64(d))
	}
}

func (t *timer) took(o Operation, d time.Duration, err error) {
	switch {
	case t == nil:
	case err != nil:
		t.counts[1].add(o, d)
	default:
		t.counts[0].add(o, d)
	}
}

// timed returns a timer of a plugin in a run; nil for what has no name of
// upstream's.
func (m *Metrics) timed(name, typ string, run *durations) *timer {
	if m == nil || name == "" {
		return nil
	}
	t := newTimer(run, name, typ)
	m.plugins = append(m.plugins, t)
	return t
}

func (m *Metrics) step(typ string) *timer {
	if m == nil {
		return nil
	}
	t := newTimer(nil, typ)
	m.steps = append(m.steps, t)
	return t
}

// run is plugins that are measured as one.
type run[P any] struct {
	plugins []P
	timers  []*timer
	shared  durations // of each, when none refused
}

// runs are plugins in order, put together as they are measured.
type runs[P any] []*run[P]

// add puts a plugin at the end.
func (all *runs[P]) add(p P, name, typ string, m *Metrics) {
	_, waits := any(p).(Waiter)
	if n := len(*all); waits || n == 0 || waiting((*all)[n-1]) {
		*all = append(*all, &run[P]{shared: newDurations()})
	}
	last := (*all)[len(*all)-1]
	last.plugins = append(last.plugins, p)
	last.timers = append(last.timers, m.timed(name, typ, &last.shared))
}

func waiting[P any](r *run[P]) bool {
	_, waits := any(r.plugins[0]).(Waiter)
	return waits
}

// took shares the time of a run among its plugins, of which the last refused
// if err is not nil.
func (r *run[P]) took(o Operation, d time.Duration, last int, err error) {
	share := d / time.Duration(last+1)
	if err == nil {
		r.shared.add(o, share)
		return
	}
	for i, t := range r.timers[:last+1] {
		if i < last {
			t.took(o, share, nil)
		} else {
			t.took(o, share, err)
		}
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(to chan<- *prometheus.Desc) {
	to <- stepDesc
	to <- pluginDesc
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	type series struct {
		desc   *prometheus.Desc
		labels string
	}
	// Several plugins may share a name.
	values, sums := map[series][]string{}, map[series]counted.Histogram{}
	add := func(desc *prometheus.Desc, t *timer, rejected bool, from *durations) {
		for i := range from {
			h := from[i].Histogram()
			if h.Count == 0 {
				continue
			}
			labels := append(slices.Clone(t.labels), string(operations[i]), strconv.FormatBool(rejected))
			s := series{desc, strings.Join(labels, " ")}
			values[s], sums[s] = labels, sums[s].Plus(h)
		}
	}
	for desc, timers := range map[*prometheus.Desc][]*timer{stepDesc: m.steps, pluginDesc: m.plugins} {
		for _, t := range timers {
			add(desc, t, false, &t.counts[0])
			add(desc, t, true, &t.counts[1])
			if t.run != nil {
				add(desc, t, false, t.run)
			}
		}
	}
	for s, h := range sums {
		to <- prometheus.MustNewConstHistogram(s.desc, uint64(h.Count), h.Sum, h.Buckets(), values[s]...)
	}
}
