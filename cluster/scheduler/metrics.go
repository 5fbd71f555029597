package scheduler

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Metrics are what the scheduler does, under upstream's names.
// (pkg/scheduler/metrics.)
type Metrics struct {
	scheduled, unschedulable, failed outcome

	algorithm, victims prometheus.Observer
	preemptions        prometheus.Counter
	attempts           prometheus.Observer    // that a pod took
	latency            prometheus.ObserverVec // since the first of them
	incoming           *prometheus.CounterVec

	active, backOff, parked, gated prometheus.Gauge
}

// outcome is found once: what is counted for each attempt is not looked up.
type outcome struct {
	count   prometheus.Counter
	seconds prometheus.Observer
}

// Upstream's words for what brings a pod into a part of the queue. What wakes a
// parked one is a Change.
const (
	podAdded     = "UnscheduledPodAdd"
	podUpdated   = "UnscheduledPodUpdate"
	attemptFails = "ScheduleAttemptFailure"
	backOffOver  = "BackoffComplete"
	parkedLong   = "UnschedulableTimeout"
	roomLost     = "ForceActivate" // it was to be made for the pod, and is not
)

// label is upstream's word for a change; of several at once, for the first.
func (c Change) label() string {
	for _, l := range []struct {
		is   Change
		text string
	}{
		{NodeAdded, "NodeAdd"}, {NodeGone, "NodeDelete"}, {NodeRoom, "NodeUpdateNodeAllocatable"}, {NodeLabels, "NodeUpdateNodeLabel"},
		{NodeTaints, "NodeUpdateNodeTaint"}, {PodGone, "AssignedPodDelete"}, {PodPlaced, "AssignedPodAdd"}, {SpaceLabels, "NamespaceUpdate"},
	} {
		if c&l.is != 0 {
			return l.text
		}
	}
	return "PersistentVolumeClaimUpdate"
}

// The parts of the queue by upstream's names.
const (
	inActive  = "active"
	inBackOff = "backoff"
	inParked  = "unschedulable"
)

// NewMetrics returns metrics in a registry, which may be nil.
func NewMetrics(in prometheus.Registerer) *Metrics {
	auto := promauto.With(in)
	histogram := func(name, help string, buckets []float64) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Name: "scheduler_" + name, Help: help, Buckets: buckets}
	}
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Name: "scheduler_" + name, Help: help}
	}
	short := prometheus.ExponentialBuckets(0.001, 2, 15)
	counts := auto.NewCounterVec(counter("schedule_attempts_total",
		"Number of attempts to schedule pods, by the result. 'unschedulable' means a pod could not be scheduled, while 'error' means an internal scheduler problem."),
		[]string{"result", "profile"})
	seconds := auto.NewHistogramVec(histogram("scheduling_attempt_duration_seconds", "Scheduling attempt latency in seconds (scheduling algorithm + binding)", short),
		[]string{"result", "profile"})
	of := func(result string) outcome {
		return outcome{counts.WithLabelValues(result, Name), seconds.WithLabelValues(result, Name)}
	}
	pending := auto.NewGaugeVec(prometheus.GaugeOpts{Name: "scheduler_pending_pods", Help: "Number of pending pods, by the queue type."}, []string{"queue"})
	return &Metrics{
		scheduled: of("scheduled"), unschedulable: of("unschedulable"), failed: of("error"),
		algorithm:   auto.NewHistogram(histogram("scheduling_algorithm_duration_seconds", "Scheduling algorithm latency in seconds", short)),
		victims:     auto.NewHistogram(histogram("preemption_victims", "Number of selected preemption victims for preemption initiated by a single pod", prometheus.ExponentialBuckets(1, 2, 7))),
		preemptions: auto.NewCounter(counter("preemption_attempts_total", "Total preemption attempts in the cluster till now")),
		attempts:    auto.NewHistogram(histogram("pod_scheduling_attempts", "Number of attempts to successfully schedule a pod.", prometheus.ExponentialBuckets(1, 2, 5))),
		latency: auto.NewHistogramVec(histogram("pod_scheduling_sli_duration_seconds",
			"E2e latency for a pod being scheduled, from the time the pod enters the scheduling queue and might involve multiple scheduling attempts.",
			prometheus.ExponentialBuckets(0.01, 2, 20)), []string{"attempts"}),
		incoming: auto.NewCounterVec(counter("queue_incoming_pods_total", "Number of pods added to scheduling queues by event and queue type."), []string{"queue", "event"}),
		active:   pending.WithLabelValues(inActive), backOff: pending.WithLabelValues(inBackOff), parked: pending.WithLabelValues(inParked), gated: pending.WithLabelValues("gated"),
	}
}

func (m *Metrics) came(queue, event string) { m.incoming.WithLabelValues(queue, event).Inc() }

// ended notes an attempt that began when e was last taken out of the queue.
func (m *Metrics) ended(o outcome, e *entry, now time.Time) {
	o.count.Inc()
	o.seconds.Observe(now.Sub(e.tried).Seconds())
}

// bound notes that a pod has its node.
func (m *Metrics) bound(e *entry, now time.Time) {
	m.ended(m.scheduled, e, now)
	tries := strconv.Itoa(e.attempts)
	if e.attempts >= 15 {
		tries = "15+"
	}
	m.attempts.Observe(float64(e.attempts))
	m.latency.WithLabelValues(tries).Observe(now.Sub(e.first).Seconds())
}

// waits notes how many pods wait, and where.
func (m *Metrics) waits(q *queue, gated int) {
	m.active.Set(float64(len(q.active)))
	m.backOff.Set(float64(len(q.waiting) - q.asleep))
	m.parked.Set(float64(q.asleep))
	m.gated.Set(float64(gated))
}
