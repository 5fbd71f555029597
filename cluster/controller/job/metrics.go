package job

import (
	"cmp"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	batchv1 "k8s.io/api/batch/v1"
)

// Metrics are what becomes of jobs, under upstream's names.
// (pkg/controller/job/metrics.)
type Metrics struct {
	syncs       *prometheus.CounterVec
	syncSeconds *prometheus.HistogramVec
	jobs, pods  *prometheus.CounterVec
}

// NewMetrics returns metrics in a registry, which may be nil.
func NewMetrics(in prometheus.Registerer) *Metrics {
	auto := promauto.With(in)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return auto.NewCounterVec(prometheus.CounterOpts{Name: "job_controller_" + name, Help: help}, labels)
	}
	return &Metrics{
		syncs: counter("job_syncs_total", "The number of job syncs", "completion_mode", "result", "action"),
		syncSeconds: auto.NewHistogramVec(prometheus.HistogramOpts{Name: "job_controller_job_sync_duration_seconds", Help: "The time it took to sync a job",
			Buckets: prometheus.ExponentialBuckets(0.004, 2, 15)}, []string{"completion_mode", "result", "action"}),
		jobs: counter("jobs_finished_total", "The number of finished jobs", "completion_mode", "result", "reason"),
		pods: counter("job_pods_finished_total", "The number of finished Pods that are fully tracked", "completion_mode", "result"),
	}
}

// mode is upstream's label of how a job is complete.
func mode(j *batchv1.Job) string {
	if indexed(j) {
		return string(batchv1.IndexedCompletion)
	}
	return string(batchv1.NonIndexedCompletion)
}

// synced notes one turn of a job, which began at a time.
func (m *Metrics) synced(j *batchv1.Job, d decision, err error, began time.Time) {
	result, action := "success", "tracking"
	if err != nil {
		result = "error"
	}
	switch {
	case len(d.create) > 0:
		action = "pods_created"
	case len(d.drop)+len(d.stop) > 0:
		action = "pods_deleted"
	}
	m.syncs.WithLabelValues(mode(j), result, action).Inc()
	m.syncSeconds.WithLabelValues(mode(j), result, action).Observe(time.Since(began).Seconds())
}

// counted notes the pods that a job's status counts now and did not before.
func (m *Metrics) counted(now *batchv1.Job, before batchv1.JobStatus) {
	for result, n := range map[string]int32{"succeeded": now.Status.Succeeded - before.Succeeded, "failed": now.Status.Failed - before.Failed} {
		if n > 0 { // it is less for a job whose indexes became fewer
			m.pods.WithLabelValues(mode(now), result).Add(float64(n))
		}
	}
}

// ended notes the end of a job.
func (m *Metrics) ended(j *batchv1.Job, end *batchv1.JobCondition) {
	if end.Type != batchv1.JobComplete {
		m.jobs.WithLabelValues(mode(j), "failed", end.Reason).Inc()
		return
	}
	m.jobs.WithLabelValues(mode(j), "succeeded", cmp.Or(end.Reason, batchv1.JobReasonCompletionsReached)).Inc()
}
