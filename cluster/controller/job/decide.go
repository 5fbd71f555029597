package job

import (
	"cmp"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"sampan/cluster/controller/pods"
)

// most is how many pods one decision makes or deletes (upstream's
// MaxPodCreateDeletePerSync). The rest follows when these are there.
const most = 500

// decision is what must happen to a job's pods.
type decision struct {
	// end is set when the outcome is settled: FailureTarget, SuccessCriteriaMet,
	// or Failed where FailureTarget was said before.
	end *batchv1.JobCondition

	stop   []*corev1.Pod // because of the end: they are counted, and then let go
	drop   []*corev1.Pod // too many, or suspended: not counted
	create []birth
	again  time.Duration // when time alone will change the decision; 0: never
}

// birth is a pod to be made.
type birth struct {
	index    int         // -1: the job has no indexes
	replaces *corev1.Pod // the one of this index that failed, where failures are counted by index
}

// decide is a pure function of what the cache holds.
func decide(v *view) (d decision) {
	if d.end = ending(v); d.end != nil {
		d.stop = v.active
		return d
	}
	j := v.job
	if limit := j.Spec.ActiveDeadlineSeconds; limit != nil && !v.suspended() {
		d.again = max(time.Duration(*limit)*time.Second-v.now.Sub(started(v)), time.Millisecond)
	}
	switch surplus, want := v.surplus(); {
	case j.DeletionTimestamp != nil:
		// Its pods are the garbage collector's.
	case v.suspended():
		d.drop = v.active
	case len(surplus) > 0:
		// Either too many or too few in one turn: which are missing shows when
		// those too many are gone.
		d.drop = surplus[:min(len(surplus), most)]
	default:
		d.missing(v, want)
	}
	return d
}

// started is when the job began: now, if nobody has written it down yet.
func started(v *view) time.Time {
	if t := v.job.Status.StartTime; t != nil {
		return t.Time
	}
	return v.now
}

// ending is the outcome, if it is settled. The order is upstream's: what was
// said before stays; then failures; then success.
func ending(v *view) *batchv1.JobCondition {
	j := v.job
	say := func(t batchv1.JobConditionType, reason, message string) *batchv1.JobCondition {
		return newCondition(t, corev1.ConditionTrue, reason, message, v.now)
	}
	if c := condition(j, batchv1.JobSuccessCriteriaMet); c != nil {
		return c
	}
	if c := condition(j, batchv1.JobFailureTarget); c != nil {
		return say(batchv1.JobFailed, c.Reason, c.Message)
	}
	const fail = batchv1.JobFailureTarget
	for _, p := range v.pods {
		if v.hasFailed(p) {
			if said := judge(j.Spec.PodFailurePolicy, p); said.action == batchv1.PodFailurePolicyActionFailJob {
				return say(fail, batchv1.JobReasonPodFailurePolicy, said.why)
			}
		}
	}
	switch limit := j.Spec.ActiveDeadlineSeconds; {
	case v.failed > ptr.Deref(j.Spec.BackoffLimit, 6) || restartedTooOften(v):
		return say(fail, batchv1.JobReasonBackoffLimitExceeded, "Job has reached the specified backoff limit")
	case limit != nil && !v.suspended() && v.now.Sub(started(v)) >= time.Duration(*limit)*time.Second && j.Status.StartTime != nil:
		return say(fail, batchv1.JobReasonDeadlineExceeded, "Job was active longer than specified deadline")
	}
	if !indexed(j) {
		return nil
	}
	if lost := v.lost.count(); j.Spec.BackoffLimitPerIndex != nil && lost > 0 {
		switch {
		case j.Spec.MaxFailedIndexes != nil && lost > int(*j.Spec.MaxFailedIndexes):
			return say(fail, batchv1.JobReasonMaxFailedIndexesExceeded, "Job has exceeded the specified maximal number of failed indexes")
		case lost+v.done.count() >= v.completions():
			return say(fail, batchv1.JobReasonFailedIndexes, "Job has failed indexes")
		}
	}
	if why, ok := enough(j.Spec.SuccessPolicy, v.completions(), v.done); ok {
		return say(batchv1.JobSuccessCriteriaMet, batchv1.JobReasonSuccessPolicy, why)
	}
	return nil
}

// restartedTooOften: pods that restart in place do not fail, their containers
// do.
func restartedTooOften(v *view) bool {
	if v.job.Spec.Template.Spec.RestartPolicy != corev1.RestartPolicyOnFailure {
		return false
	}
	var n int32
	for _, p := range v.pods {
		if p.Status.Phase == corev1.PodRunning || p.Status.Phase == corev1.PodPending {
			n += restarts(p)
		}
	}
	limit := ptr.Deref(v.job.Spec.BackoffLimit, 6)
	return n > 0 && n >= limit
}

func restarts(p *corev1.Pod) (n int32) {
	for _, s := range p.Status.InitContainerStatuses {
		n += s.RestartCount
	}
	for _, s := range p.Status.ContainerStatuses {
		n += s.RestartCount
	}
	return n
}

// surplus are the active pods to be deleted, and want is how many there should
// be.
func (v *view) surplus() (all []*corev1.Pod, want int) {
	parallelism := int(ptr.Deref(v.job.Spec.Parallelism, 1))
	switch {
	case v.job.Spec.Completions != nil:
		want = max(0, min(v.completions()-int(v.succeeded), parallelism))
	case v.succeeded > 0:
		want = len(v.active) // a work queue that is empty: those that run may finish
	default:
		want = parallelism
	}
	left := slices.Clone(v.active)
	slices.SortFunc(left, dispensable)
	if indexed(v.job) {
		all, left = v.duplicates(left)
	}
	if n := len(v.active) - want - len(all); n > 0 {
		all = append(all, left[:n]...)
	}
	return all, want
}

// duplicates picks the pods of an indexed job that have no index, or one that
// another, less dispensable pod has too.
func (v *view) duplicates(sorted []*corev1.Pod) (extra, left []*corev1.Pod) {
	best := map[int]*corev1.Pod{}
	for _, p := range sorted {
		best[v.index(p)] = p // the last is the best
	}
	for _, p := range sorted {
		if i := v.index(p); i < 0 || best[i] != p {
			extra = append(extra, p)
		} else {
			left = append(left, p)
		}
	}
	return extra, left
}

// dispensable orders pods so that whoever has come least far is first: not
// scheduled, pending, not ready, ready for less long, more restarts, younger.
func dispensable(a, b *corev1.Pod) int {
	yes := func(b bool) int {
		if b {
			return 0
		}
		return 1
	}
	phase := map[corev1.PodPhase]int{corev1.PodPending: 0, corev1.PodUnknown: 1, corev1.PodRunning: 2}
	return cmp.Or(
		cmp.Compare(yes(a.Spec.NodeName == ""), yes(b.Spec.NodeName == "")),
		cmp.Compare(phase[a.Status.Phase], phase[b.Status.Phase]),
		cmp.Compare(yes(!pods.Ready(a)), yes(!pods.Ready(b))),
		pods.ReadySince(b).Compare(pods.ReadySince(a)),
		cmp.Compare(restarts(b), restarts(a)),
		b.CreationTimestamp.Time.Compare(a.CreationTimestamp.Time),
		cmp.Compare(a.Name, b.Name),
	)
}

// missing adds the pods to be made, and when to look again if it is too early
// for some.
func (d *decision) missing(v *view, want int) {
	n := want - len(v.active)
	if v.replacesEndedOnly() {
		n -= int(v.terminating)
	}
	if n <= 0 {
		return
	}
	n = min(n, most)
	perIndex := v.job.Spec.BackoffLimitPerIndex != nil
	if wait := v.backoff.wait(v.now); wait > 0 && !perIndex {
		d.sooner(wait)
		return
	}
	if !indexed(v.job) {
		for range n {
			d.create = append(d.create, birth{index: -1})
		}
		return
	}
	taken := v.done.withEach(v.indexesOf(v.active)).with(v.lost...)
	if v.replacesEndedOnly() {
		for _, p := range v.pods {
			if pods.Terminating(p) && index(p) >= 0 {
				taken = taken.withEach([]int{index(p)})
			}
		}
	}
	for _, i := range taken.missing(n, v.completions()) {
		b := birth{index: i, replaces: v.postponed[i].pod}
		if b.replaces != nil {
			failed := backoff{failures: failures(b.replaces) + ignored(b.replaces) + 1, last: finishedAt(b.replaces)}
			if wait := failed.wait(v.now); wait > 0 {
				d.sooner(wait)
				continue
			}
		}
		d.create = append(d.create, b)
	}
}

func (d *decision) sooner(wait time.Duration) {
	if d.again == 0 || wait < d.again {
		d.again = wait
	}
}

func newCondition(t batchv1.JobConditionType, status corev1.ConditionStatus, reason, message string, now time.Time) *batchv1.JobCondition {
	at := metav1.NewTime(now).Rfc3339Copy()
	return &batchv1.JobCondition{Type: t, Status: status, Reason: reason, Message: message, LastProbeTime: at, LastTransitionTime: at}
}
