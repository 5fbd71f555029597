package cronjob

import (
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/kind/batch"
)

// noon is a Saturday.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// tick is a cron job for every five minutes, made at ten, last run at 11:50.
func tick(change ...func(*batchv1.CronJob)) *batchv1.CronJob {
	c := &batchv1.CronJob{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "tick", UID: "tick-uid", CreationTimestamp: metav1.NewTime(noon.Add(-2 * time.Hour))},
		Spec: batchv1.CronJobSpec{Schedule: "*/5 * * * *", JobTemplate: batchv1.JobTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}},
			Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever,
				Containers: []corev1.Container{{Name: "c", Image: "a:1"}}}}}}},
		Status: batchv1.CronJobStatus{LastScheduleTime: new(metav1.NewTime(noon.Add(-10 * time.Minute)))}}
	for _, f := range change {
		f(c)
	}
	batch.CronJob().Default(c)
	return c
}

func running(names ...string) func(*batchv1.CronJob) {
	return func(c *batchv1.CronJob) {
		for _, n := range names {
			c.Status.Active = append(c.Status.Active, corev1.ObjectReference{Namespace: "default", Name: n, UID: types.UID(n)})
		}
	}
}

// job is one of the cron job's; started that long ago, ended as said.
func job(name string, ago time.Duration, end batchv1.JobConditionType) *batchv1.Job {
	at := metav1.NewTime(noon.Add(-ago))
	j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}, Status: batchv1.JobStatus{StartTime: &at}}
	if end != "" {
		j.Status.Conditions = []batchv1.JobCondition{{Type: end, Status: corev1.ConditionTrue}}
	}
	if end == batchv1.JobComplete {
		j.Status.CompletionTime = &at
	}
	return j
}

func (d decision) String() string {
	var s []string
	for _, j := range d.surplus {
		s = append(s, "delete "+j.Name)
	}
	for _, j := range d.replace {
		s = append(s, "replace "+j.Name)
	}
	if d.start != nil {
		s = append(s, "start "+d.start.Format("15:04"))
	}
	for _, e := range d.events {
		s = append(s, e.reason)
	}
	if n := len(d.status.Active); n > 0 {
		s = append(s, fmt.Sprintf("%d active", n))
	}
	if d.again > 0 {
		s = append(s, "again "+d.again.String())
	}
	return strings.Join(s, "; ")
}

func TestDecide(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse("15:04:05", s)
		if err != nil {
			t.Fatal(err)
		}
		return noon.Truncate(24 * time.Hour).Add(time.Duration(v.Hour())*time.Hour + time.Duration(v.Minute())*time.Minute + time.Duration(v.Second())*time.Second)
	}
	policy := func(p batchv1.ConcurrencyPolicy) func(*batchv1.CronJob) {
		return func(c *batchv1.CronJob) { c.Spec.ConcurrencyPolicy = p }
	}
	deadline := func(n int64) func(*batchv1.CronJob) {
		return func(c *batchv1.CronJob) { c.Spec.StartingDeadlineSeconds = &n }
	}
	for _, c := range []struct {
		it   string
		cron *batchv1.CronJob
		jobs []*batchv1.Job
		now  time.Time
		hold time.Time
		want string
	}{
		{it: "waits for its time", cron: tick(), now: at("11:53:00"), want: "again 2m0.1s"},
		{it: "starts at its time", cron: tick(), now: at("11:55:00"), want: "start 11:55; again 5m0.1s"},
		{it: "starts a little late", cron: tick(), now: at("11:56:00"), want: "start 11:55; again 4m0.1s"},
		{it: "starts once for all that it missed", cron: tick(), now: at("12:17:00"), want: "start 12:15; again 3m0.1s"},
		{it: "says if it missed many", cron: tick(func(c *batchv1.CronJob) { c.Status.LastScheduleTime.Time = noon.Add(-24 * time.Hour) }), now: at("12:00:30"), want: "start 12:00; TooManyMissedTimes; again 4m30.1s"},
		{it: "does not start what is too late", cron: tick(deadline(30)), now: at("11:56:00"), want: "again 4m0.1s"},
		{it: "starts what is not too late", cron: tick(deadline(90)), now: at("11:56:00"), want: "start 11:55; again 4m0.1s"},
		{it: "does not start twice for one time", cron: tick(running("tick-" + fmt.Sprint(at("11:55:00").Unix()/60))), jobs: []*batchv1.Job{job("tick-"+fmt.Sprint(at("11:55:00").Unix()/60), 0, "")},
			now: at("11:55:30"), want: "1 active; again 4m30.1s"},
		{it: "runs beside itself", cron: tick(running("a")), jobs: []*batchv1.Job{job("a", 0, "")}, now: at("11:55:00"), want: "start 11:55; 1 active; again 5m0.1s"},
		{it: "or does not", cron: tick(running("a"), policy(batchv1.ForbidConcurrent)), jobs: []*batchv1.Job{job("a", 0, "")}, now: at("11:55:00"), want: "JobAlreadyActive; 1 active; again 5m0.1s"},
		{it: "or instead", cron: tick(running("a"), policy(batchv1.ReplaceConcurrent)), jobs: []*batchv1.Job{job("a", 0, "")}, now: at("11:55:00"), want: "replace a; start 11:55; again 5m0.1s"},
		{it: "sees that a job has ended", cron: tick(running("a"), policy(batchv1.ForbidConcurrent)), jobs: []*batchv1.Job{job("a", 0, batchv1.JobFailed)}, now: at("11:55:00"), want: "start 11:55; SawCompletedJob; again 5m0.1s"},
		{it: "sees that a job is gone", cron: tick(running("a")), now: at("11:53:00"), want: "MissingJob; again 2m0.1s"},
		{it: "wonders about a job that it does not know", cron: tick(), jobs: []*batchv1.Job{job("a", 0, "")}, now: at("11:53:00"), want: "UnexpectedJob; again 2m0.1s"},
		{it: "keeps the last of each outcome", cron: tick(func(c *batchv1.CronJob) { c.Spec.SuccessfulJobsHistoryLimit = new(int32(1)) }), now: at("11:53:00"),
			jobs: []*batchv1.Job{job("a", 3*time.Hour, batchv1.JobComplete), job("b", 2*time.Hour, batchv1.JobComplete), job("c", 2*time.Hour, batchv1.JobFailed), job("d", time.Hour, batchv1.JobFailed)},
			want: "delete a; delete c; again 2m0.1s"},
		{it: "sleeps while suspended", cron: tick(func(c *batchv1.CronJob) { c.Spec.Suspend = new(true) }), now: at("11:55:00")},
		{it: "starts nothing while it is deleted", cron: tick(func(c *batchv1.CronJob) { c.DeletionTimestamp = new(metav1.NewTime(noon)) }), now: at("11:55:00")},
		{it: "knows zones", cron: tick(func(c *batchv1.CronJob) {
			c.Spec.Schedule, c.Spec.TimeZone = "0 20 * * *", new("Asia/Shanghai") // 12:00 UTC
		}), now: at("12:00:01"), want: "start 12:00; again 23h59m59.1s"},
		{it: "owes nothing to a new schedule", cron: tick(), now: at("11:56:00"), hold: at("12:00:00"), want: "again 4m0s"},
		{it: "a day that no month has never comes", cron: tick(func(c *batchv1.CronJob) { c.Spec.Schedule = "59 23 31 2 *" }), now: at("11:55:00")},
		{it: "an uneven schedule may skip what is long past, as upstream", cron: tick(func(c *batchv1.CronJob) {
			c.Spec.Schedule = "30 6-16/4 * * 1-5"
			c.Status.LastScheduleTime.Time = time.Date(2026, 11, 20, 6, 30, 0, 0, time.UTC)
		}), now: at("12:00:00"), want: "again 42h30m0.1s"},
	} {
		t.Run(c.it, func(t *testing.T) {
			if got := decide(c.cron, c.jobs, c.now, c.hold).String(); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestTheLastSuccessIsWrittenDown(t *testing.T) {
	c := tick()
	jobs := []*batchv1.Job{job("a", 2*time.Hour, batchv1.JobComplete), job("b", time.Hour, batchv1.JobComplete), job("c", time.Minute, batchv1.JobFailed)}
	if got := decide(c, jobs, noon.Add(-7*time.Minute), time.Time{}).status.LastSuccessfulTime; got == nil || !got.Time.Equal(noon.Add(-time.Hour)) {
		t.Errorf("got %v", got)
	}
}
