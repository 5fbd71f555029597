package job

import (
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/controller/controllertest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/batch"
	"sampan/cluster/kind/core"
	metrictext "sampan/internal/counted"
)

func TestWhatBecomesOfJobsIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		once := fresh(2, 1, func(j *batchv1.Job) { j.Spec.BackoffLimit = new(int32(1)) })
		broken := fresh(1, 1, func(j *batchv1.Job) { j.Name, j.UID, j.Spec.BackoffLimit = "broken", "b", new(int32(0)) })
		w := world{World: controllertest.New(t, kind.NewTable(core.Kinds(), batch.Kinds()), once, broken)}
		defer w.Start(New(Config{Client: w, Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(registry)}))()
		synctest.Wait()
		end := func(owner string, phase corev1.PodPhase) {
			for _, p := range w.active() {
				if p.OwnerReferences[0].Name == owner {
					w.end(p, phase, 1)
				}
			}
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		end("broken", corev1.PodFailed)
		end("pi", corev1.PodSucceeded)
		end("pi", corev1.PodFailed)
		end("pi", corev1.PodSucceeded)

		var text strings.Builder
		if err := metrictext.Write(&text, registry, "job_controller_"); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(text.String(), "\n")
		for _, want := range []string{
			`job_controller_jobs_finished_total{completion_mode="NonIndexed",reason="CompletionsReached",result="succeeded"} 1`,
			`job_controller_jobs_finished_total{completion_mode="NonIndexed",reason="BackoffLimitExceeded",result="failed"} 1`,
			`job_controller_job_pods_finished_total{completion_mode="NonIndexed",result="succeeded"} 2`,
			`job_controller_job_pods_finished_total{completion_mode="NonIndexed",result="failed"} 2`,
			`job_controller_job_syncs_total{action="pods_created",completion_mode="NonIndexed",result="success"} 4`,
			`job_controller_job_sync_duration_seconds_count{action="pods_created",completion_mode="NonIndexed",result="success"} 4`,
		} {
			if !slices.Contains(lines, want) {
				t.Errorf("there is no line %s in\n%s", want, text.String())
			}
		}
	})
}
