package scheduler

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/core"
	"sampan/internal/counted"
)

func TestWhatTheSchedulerCounts(t *testing.T) {
	registry := prometheus.NewRegistry()
	says := func(t *testing.T, want ...string) {
		t.Helper()
		var text strings.Builder
		if err := counted.Write(&text, registry, "scheduler_"); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(text.String(), "\n")
		for _, line := range want {
			if !slices.Contains(lines, "scheduler_"+line) {
				t.Errorf("there is no line %s in\n%s", line, text.String())
			}
		}
	}
	refused := false
	before := func(a clienttest.Action) error {
		if a.Sub == "binding" && a.Name == "unlucky" && !refused {
			refused = true
			return errNotNow
		}
		return nil
	}
	gated := pod("gated", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "wait"}} })
	elsewhere := pod("elsewhere", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "fast"} })
	objs := []kind.Object{node("n1"), pod("a"), pod("unlucky"), elsewhere, gated}
	scheduleCounted(t, kind.NewTable(core.Kinds(), apps.Kinds()), NewMetrics(registry), before, objs, func(c *cluster) {
		says(t, `pending_pods{queue="active"} 0`, `pending_pods{queue="backoff"} 1`, `pending_pods{queue="unschedulable"} 1`, `pending_pods{queue="gated"} 1`,
			`schedule_attempts_total{profile="default-scheduler",result="scheduled"} 1`,
			`schedule_attempts_total{profile="default-scheduler",result="error"} 1`,
			`schedule_attempts_total{profile="default-scheduler",result="unschedulable"} 1`,
			`preemption_attempts_total 1`, `preemption_victims_count 0`,
			`queue_incoming_pods_total{event="UnscheduledPodAdd",queue="active"} 3`,
			`queue_incoming_pods_total{event="ScheduleAttemptFailure",queue="backoff"} 1`,
			`queue_incoming_pods_total{event="ScheduleAttemptFailure",queue="unschedulable"} 1`)

		time.Sleep(2 * time.Second) // past the back-off
		fast := node("n2")
		fast.Labels = map[string]string{"disk": "fast"}
		c.fake.Put(fast)
		c.on("elsewhere", "n2")
		free := c.pod("gated").DeepCopy()
		free.Spec.SchedulingGates = nil
		c.fake.Put(free)
		synctest.Wait()
		says(t, `pending_pods{queue="backoff"} 0`, `pending_pods{queue="unschedulable"} 0`, `pending_pods{queue="gated"} 0`,
			`schedule_attempts_total{profile="default-scheduler",result="scheduled"} 4`,
			`scheduling_attempt_duration_seconds_count{profile="default-scheduler",result="scheduled"} 4`,
			`scheduling_algorithm_duration_seconds_count 6`,
			`pod_scheduling_attempts_sum 6`, `pod_scheduling_attempts_count 4`,
			`pod_scheduling_sli_duration_seconds_count{attempts="1"} 2`, `pod_scheduling_sli_duration_seconds_count{attempts="2"} 2`,
			`pod_scheduling_sli_duration_seconds_sum{attempts="1"} 0`,
			`queue_incoming_pods_total{event="BackoffComplete",queue="active"} 1`,
			`queue_incoming_pods_total{event="NodeAdd",queue="active"} 1`)
	})
}
