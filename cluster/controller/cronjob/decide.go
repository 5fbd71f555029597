package cronjob

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"sampan/cluster/kind/batch"
)

const (
	// manyMissed is how many missed times are worth a warning: a job that is
	// due every hour and could not start over a weekend has missed fewer.
	manyMissed = 100

	// late is added to the time of the next look, for clocks that differ.
	late = 100 * time.Millisecond
)

// decision is what must happen to a cron job.
type decision struct {
	status  batchv1.CronJobStatus // but for the job to be created
	surplus []*batchv1.Job        // finished, and more than the history keeps
	replace []*batchv1.Job        // still running, and to make place for the next
	start   *time.Time            // the time that a job is to be created for
	again   time.Duration         // when it is due next; 0: never
	events  []said
}

// said is an event.
type said struct{ kind, reason, message string }

func (d *decision) say(kind, reason, format string, args ...any) {
	d.events = append(d.events, said{kind, reason, fmt.Sprintf(format, args...)})
}

// decide is a pure function of what the cache holds. jobs are those that the
// cron job controls. Before hold nothing is started: the schedule was changed,
// and times that the new one would have had in the past are not due.
func decide(c *batchv1.CronJob, jobs []*batchv1.Job, now, hold time.Time) (d decision) {
	d.status = *c.Status.DeepCopy()
	d.history(c, jobs)
	d.follow(jobs)
	if c.DeletionTimestamp != nil {
		return d
	}
	const warning = corev1.EventTypeWarning
	if zone := c.Spec.TimeZone; zone != nil {
		if _, err := time.LoadLocation(*zone); err != nil {
			d.say(warning, "UnknownTimeZone", "invalid timeZone: %q: %s", *zone, err)
			return d
		}
	}
	if ptr.Deref(c.Spec.Suspend, false) {
		return d
	}
	if strings.Contains(c.Spec.Schedule, "TZ") {
		d.say(warning, "UnsupportedSchedule", "CRON_TZ or TZ used in schedule %q is not officially supported, "+
			"see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details", c.Spec.Schedule)
	}
	schedule, err := parse(c)
	if err != nil {
		d.say(warning, "UnparseableSchedule", "unparseable schedule: %q : %s", c.Spec.Schedule, err)
		return d
	}
	at, missed, err := due(c, now, schedule, true)
	switch {
	case err != nil:
		d.say(warning, "InvalidSchedule", "invalid schedule: %s : %s", c.Spec.Schedule, err)
		return d
	case at != nil && missed > manyMissed:
		d.say(warning, "TooManyMissedTimes", "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew")
	}
	d.again = next(c, now, schedule)
	if now.Before(hold) {
		d.again = hold.Sub(now)
	} else if at != nil {
		d.begin(c, jobs, *at, now)
	}
	return d
}

// history picks the finished jobs to be deleted, the oldest of each outcome.
func (d *decision) history(c *batchv1.CronJob, jobs []*batchv1.Job) {
	keep := func(t batchv1.JobConditionType, limit *int32) {
		var all []*batchv1.Job
		for _, j := range jobs {
			if outcome(j) == t {
				all = append(all, j)
			}
		}
		if limit == nil || len(all) <= int(*limit) {
			return
		}
		slices.SortFunc(all, byStart)
		d.surplus = append(d.surplus, all[:len(all)-int(*limit)]...)
	}
	keep(batchv1.JobComplete, c.Spec.SuccessfulJobsHistoryLimit)
	keep(batchv1.JobFailed, c.Spec.FailedJobsHistoryLimit)
}

// byStart orders jobs by when they started; those that never did are last.
func byStart(a, b *batchv1.Job) int {
	x, y := a.Status.StartTime, b.Status.StartTime
	switch {
	case x == nil && y != nil:
		return 1
	case x != nil && y == nil:
		return -1
	case x != nil && !x.Equal(y):
		return x.Time.Compare(y.Time)
	}
	return cmp.Compare(a.Name, b.Name)
}

// outcome is Complete or Failed, or empty for a job that has not ended.
func outcome(j *batchv1.Job) batchv1.JobConditionType {
	for _, c := range j.Status.Conditions {
		if (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue {
			return c.Type
		}
	}
	return ""
}

// follow keeps the list of running jobs true.
func (d *decision) follow(jobs []*batchv1.Job) {
	mine := map[types.UID]bool{}
	for _, j := range jobs {
		mine[j.UID] = true
		end := outcome(j)
		if listed := d.active(j.UID); end == "" {
			if !listed {
				d.say(corev1.EventTypeWarning, "UnexpectedJob", "Saw a job that the controller did not create or forgot: %s", j.Name)
			}
			continue
		} else if listed {
			d.drop(j.UID)
			d.say(corev1.EventTypeNormal, "SawCompletedJob", "Saw completed job: %s, condition: %v", j.Name, end)
		}
		if at := j.Status.CompletionTime; end == batchv1.JobComplete && at != nil &&
			(d.status.LastSuccessfulTime == nil || at.After(d.status.LastSuccessfulTime.Time)) {
			d.status.LastSuccessfulTime = at
		}
	}
	for _, ref := range slices.Clone(d.status.Active) {
		if !mine[ref.UID] {
			d.say(corev1.EventTypeNormal, "MissingJob", "Active job went missing: %v", ref.Name)
			d.drop(ref.UID)
		}
	}
}

func (d *decision) active(uid types.UID) bool {
	return slices.ContainsFunc(d.status.Active, func(r corev1.ObjectReference) bool { return r.UID == uid })
}

func (d *decision) drop(uid types.UID) {
	d.status.Active = slices.DeleteFunc(d.status.Active, func(r corev1.ObjectReference) bool { return r.UID == uid })
}

// begin starts the job of a time, unless that is too late, done, or not to be
// while another runs.
func (d *decision) begin(c *batchv1.CronJob, jobs []*batchv1.Job, at, now time.Time) {
	if n := c.Spec.StartingDeadlineSeconds; n != nil && at.Add(time.Duration(*n)*time.Second).Before(now) {
		d.say(corev1.EventTypeWarning, "MissSchedule", "Missed scheduled time to start a job: %s", at.UTC().Format(time.RFC1123Z))
		return
	}
	name := jobName(c, at)
	if d.status.LastScheduleTime.Equal(&metav1.Time{Time: at}) ||
		slices.ContainsFunc(d.status.Active, func(r corev1.ObjectReference) bool { return r.Name == name }) {
		return
	}
	switch c.Spec.ConcurrencyPolicy {
	case batchv1.ForbidConcurrent:
		if len(d.status.Active) > 0 {
			d.say(corev1.EventTypeNormal, "JobAlreadyActive", "Not starting job because prior execution is running and concurrency policy is Forbid")
			return
		}
	case batchv1.ReplaceConcurrent:
		for _, j := range jobs {
			if d.active(j.UID) {
				d.replace = append(d.replace, j)
				d.drop(j.UID)
			}
		}
	}
	d.start = &at
}

// jobName is the same for the same time, so that a job cannot be made twice.
func jobName(c *batchv1.CronJob, at time.Time) string {
	return fmt.Sprintf("%s-%d", c.Name, at.Unix()/60)
}

func parse(c *batchv1.CronJob) (cron.Schedule, error) {
	text := c.Spec.Schedule
	if zone := c.Spec.TimeZone; zone != nil && !strings.Contains(text, "TZ") {
		text = "TZ=" + *zone + " " + text
	}
	return batch.ParseSchedule(text)
}

// since is the time from which on a cron job owes jobs.
func since(c *batchv1.CronJob) time.Time {
	if t := c.Status.LastScheduleTime; t != nil {
		return t.Time
	}
	return c.CreationTimestamp.Time
}

// due is the latest time in the schedule that has come and was not served, nil
// if there is none, and about how many there were. With the deadline, those
// that are too late do not count.
func due(c *batchv1.CronJob, now time.Time, s cron.Schedule, deadline bool) (at *time.Time, missed int64, err error) {
	from := since(c)
	if n := c.Spec.StartingDeadlineSeconds; deadline && n != nil {
		if t := now.Add(-time.Duration(*n) * time.Second); t.After(from) {
			from = t
		}
	}
	first := s.Next(from)
	if now.Before(first) || first.IsZero() {
		return nil, 0, nil
	}
	second := s.Next(first)
	if now.Before(second) {
		return &first, 0, nil
	}
	// A day that no month has makes the library return the zero time.
	step := int64(second.Sub(first).Round(time.Second).Seconds())
	if step < 1 {
		return nil, 0, fmt.Errorf("time difference between two schedules is less than 1 second")
	}
	// Schedules may be uneven ("30 6-16/4 * * 1-5"): the estimate is one step
	// early, and the library counts the rest.
	missed = int64(now.Sub(first).Seconds())/step + 1
	for t := s.Next(first.Add(time.Duration((missed-2)*step) * time.Second)); !t.After(now) && !t.IsZero(); t = s.Next(t) {
		at = &t
	}
	return at, missed, nil
}

// next is how long it takes until the schedule's next time.
func next(c *batchv1.CronJob, now time.Time, s cron.Schedule) time.Duration {
	from := now
	switch at, missed, err := due(c, now, s, false); {
	case err == nil && at != nil:
		from = *at
	case err == nil && missed == 0:
		from = since(c)
	}
	t := s.Next(from)
	if t.IsZero() {
		return 0 // never
	}
	return max(t.Add(late).Sub(now), late)
}
