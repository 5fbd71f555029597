package loop

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are what the loops do that run under a context of With, by their
// names, under upstream's names of work queues.
// (component-base/metrics/prometheus/workqueue.) It is a prometheus.Collector;
// the zero value is ready.
type Metrics struct {
	mu    sync.Mutex // guards all below
	loops map[string]*work
}

// work is what loops of one name have done, since the first began.
type work struct {
	mu      sync.Mutex // guards all below
	adds    uint64
	retries uint64
	waited  prometheus.Histogram
	worked  prometheus.Histogram
	depth   int
	nextJob uint64
	began   map[uint64]time.Time // of what is worked on
}

type metricsKey struct{}

// With returns a context whose loops are counted in m.
func (m *Metrics) With(ctx context.Context) context.Context {
	return context.WithValue(ctx, metricsKey{}, m)
}

// of returns the work of a loop; nil if nobody counts.
func metricsOf(ctx context.Context, name string) *work {
	m, _ := ctx.Value(metricsKey{}).(*Metrics)
	if m == nil || name == "" {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.loops == nil {
		m.loops = map[string]*work{}
	}
	w := m.loops[name]
	if w == nil {
		buckets := prometheus.ExponentialBuckets(10e-9, 10, 10)
		labels := prometheus.Labels{"name": name}
		w = &work{began: map[uint64]time.Time{},
			waited: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "workqueue_queue_duration_seconds", ConstLabels: labels, Buckets: buckets,
				Help: "How long in seconds an item stays in workqueue before being requested."}),
			worked: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "workqueue_work_duration_seconds", ConstLabels: labels, Buckets: buckets,
				Help: "How long in seconds processing an item from workqueue takes."})}
		m.loops[name] = w
	}
	return w
}

// added counts keys that wait.
func (w *work) added(n int) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.adds += uint64(n)
	w.depth += n
}

// taken counts a key that waits no longer, and returns what tells the end.
func (w *work) taken(since, now time.Time) (done func(failed bool)) {
	if w == nil {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.depth--
	w.nextJob++
	job := w.nextJob
	w.began[job] = now
	w.waited.Observe(now.Sub(since).Seconds())
	return func(failed bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.began, job)
		if failed {
			w.retries++
		}
		w.worked.Observe(time.Since(now).Seconds())
	}
}

// left counts keys that nobody will take any more.
func (w *work) left(n int) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.depth -= n
}

func desc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("workqueue_"+name, help, []string{"name"}, nil)
}

var (
	addsDesc       = desc("adds_total", "Total number of adds handled by workqueue")
	depthDesc      = desc("depth", "Current depth of workqueue")
	retriesDesc    = desc("retries_total", "Total number of retries handled by workqueue")
	unfinishedDesc = desc("unfinished_work_seconds",
		"How many seconds of work has done that is in progress and hasn't been observed by work_duration. Large values indicate stuck threads. One can deduce the number of stuck threads by observing the rate at which this increases.")
	longestDesc = desc("longest_running_processor_seconds", "How many seconds has the longest running processor for workqueue been running.")
)

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{addsDesc, depthDesc, retriesDesc, unfinishedDesc, longestDesc} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(to chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	for name, w := range m.loops {
		w.mu.Lock()
		var unfinished, longest time.Duration
		for _, began := range w.began {
			unfinished += now.Sub(began)
			longest = max(longest, now.Sub(began))
		}
		for _, one := range []struct {
			desc  *prometheus.Desc
			typ   prometheus.ValueType
			value float64
		}{
			{addsDesc, prometheus.CounterValue, float64(w.adds)}, {depthDesc, prometheus.GaugeValue, float64(w.depth)},
			{retriesDesc, prometheus.CounterValue, float64(w.retries)},
			{unfinishedDesc, prometheus.GaugeValue, unfinished.Seconds()}, {longestDesc, prometheus.GaugeValue, longest.Seconds()},
		} {
			to <- prometheus.MustNewConstMetric(one.desc, one.typ, one.value, name)
		}
		w.mu.Unlock()
		to <- w.waited
		to <- w.worked
	}
}
