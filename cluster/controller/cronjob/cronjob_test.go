package cronjob

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/controller/controllertest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/batch"
	"sampan/cluster/kind/core"
)

func run(t *testing.T, test func(t *testing.T, w *clienttest.Fake), objs ...kind.Object) {
	synctest.Test(t, func(t *testing.T) {
		w := controllertest.New(t, kind.NewTable(core.Kinds(), batch.Kinds()), objs...)
		w.Start(New(Config{Client: w, Log: slog.New(slog.DiscardHandler)}))
		test(t, w.Fake)
	})
}

func jobs(t *testing.T, w client.Reader) []*batchv1.Job {
	t.Helper()
	all, err := client.List[*batchv1.Job](t.Context(), w, client.Query{Namespace: "default"})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func ticking(t *testing.T, w client.Reader) *batchv1.CronJob {
	t.Helper()
	c, err := client.Get[*batchv1.CronJob](t.Context(), w, "default", "tick")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func finish(w *clienttest.Fake, j *batchv1.Job) {
	j = j.DeepCopy()
	now := metav1.Now()
	j.Status.StartTime, j.Status.CompletionTime = &now, &now
	j.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobSuccessCriteriaMet, Status: corev1.ConditionTrue}, {Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
	w.Put(j)
	synctest.Wait()
}

// new is made when the bubble's time begins: 2000-01-01 00:00.
func fresh(schedule string) *batchv1.CronJob {
	c := tick()
	c.CreationTimestamp, c.Status = metav1.NewTime(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)), batchv1.CronJobStatus{}
	c.Spec.Schedule = schedule
	return c
}

func TestJobsAreMadeOnTimeAndTheOldOnesGo(t *testing.T) {
	run(t, func(t *testing.T, w *clienttest.Fake) {
		if n := len(jobs(t, w)); n != 0 {
			t.Fatalf("%d jobs at once", n)
		}
		time.Sleep(5*time.Minute + time.Second)
		synctest.Wait()
		all := jobs(t, w)
		if len(all) != 1 || !metav1.IsControlledBy(all[0], ticking(t, w)) || all[0].Labels["a"] != "b" ||
			all[0].Annotations[batchv1.CronJobScheduledTimestampAnnotation] != "2000-01-01T00:05:00Z" || all[0].Name != "tick-15778085" {
			t.Fatalf("made %+v", all)
		}
		if s := ticking(t, w).Status; len(s.Active) != 1 || s.Active[0].UID != all[0].UID || !s.LastScheduleTime.Time.Equal(time.Date(2000, 1, 1, 0, 5, 0, 0, time.UTC)) {
			t.Errorf("status %+v", s)
		}
		finish(w, all[0])
		if s := ticking(t, w).Status; len(s.Active) != 0 || s.LastSuccessfulTime == nil {
			t.Errorf("status %+v", s)
		}
		for range 5 {
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			for _, j := range jobs(t, w) {
				if outcome(j) == "" {
					finish(w, j)
				}
			}
		}
		if n := len(jobs(t, w)); n != 3 {
			t.Errorf("%d jobs are kept, want 3", n)
		}
	}, fresh("*/5 * * * *"))
}

func TestARunningJobIsReplaced(t *testing.T) {
	c := fresh("* * * * *")
	c.Spec.ConcurrencyPolicy = batchv1.ReplaceConcurrent
	run(t, func(t *testing.T, w *clienttest.Fake) {
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		first := jobs(t, w)
		time.Sleep(time.Minute)
		synctest.Wait()
		if all := jobs(t, w); len(first) != 1 || len(all) != 1 || all[0].Name == first[0].Name {
			t.Errorf("%d jobs, then %d", len(first), len(all))
		}
	}, c)
}

func TestANewScheduleOwesNothing(t *testing.T) {
	run(t, func(t *testing.T, w *clienttest.Fake) {
		time.Sleep(30 * time.Minute)
		c := ticking(t, w).DeepCopy()
		c.Spec.Schedule = "*/20 * * * *" // 00:20 has been
		c.Generation++
		w.Put(c)
		synctest.Wait()
		if n := len(jobs(t, w)); n != 0 {
			t.Errorf("%d jobs for times before the schedule", n)
		}
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		if n := len(jobs(t, w)); n != 1 {
			t.Errorf("%d jobs after its first time", n)
		}
	}, fresh("0 12 * * *"))
}
