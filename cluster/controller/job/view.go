package job

import (
	"math"
	"slices"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"sampan/cluster/controller/pods"
)

// view is what is known of a job when something is decided about it. It is
// made of cached objects by look, and written to by nobody.
type view struct {
	job     *batchv1.Job
	pods    []*corev1.Pod // those it controls
	now     time.Time
	backoff backoff // pods counted below included

	active            []*corev1.Pod
	ready             int32
	terminating       int32
	succeeded, failed int32 // those counted in the status, those being counted, and those newly ended

	// Of an indexed job only.
	before    indexes           // succeeded, by the status
	done      indexes           // succeeded, by now
	lost      indexes           // failed for good
	postponed map[int]delayedBy // the pods to be replaced, by index
}

// delayedBy is the last pod of an index that failed. Its finalizer stays until
// there is another one, which inherits the number of failures.
type delayedBy struct{ pod *corev1.Pod }

func look(j *batchv1.Job, owned []*corev1.Pod, b backoff, now time.Time) *view {
	v := &view{job: j, pods: owned, now: now}
	for _, p := range owned {
		switch {
		case pods.Active(p):
			v.active = append(v.active, p)
			if pods.Ready(p) {
				v.ready++
			}
		case pods.Terminating(p):
			v.terminating++
		}
	}
	u := ptr.Deref(j.Status.UncountedTerminatedPods, batchv1.UncountedTerminatedPods{})
	good := v.ended(u.Succeeded, func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded })
	bad := v.ended(u.Failed, v.hasFailed)
	v.backoff = b.with(good, bad)
	v.succeeded = j.Status.Succeeded + int32(len(good)+len(u.Succeeded))
	v.failed = j.Status.Failed + int32(len(u.Failed))
	for _, p := range bad {
		if judge(j.Spec.PodFailurePolicy, p).counts() {
			v.failed++
		}
	}
	if indexed(j) {
		v.lookAtIndexes()
	}
	return v
}

// ended are the pods that have ended in one way and that nobody has counted.
func (v *view) ended(counted []types.UID, how func(*corev1.Pod) bool) (all []*corev1.Pod) {
	for _, p := range v.pods {
		if tracked(p) && !slices.Contains(counted, p.UID) && (!indexed(v.job) || v.index(p) >= 0) && how(p) {
			all = append(all, p)
		}
	}
	return all
}

func (v *view) lookAtIndexes() {
	v.before = parseIndexes(v.job.Status.CompletedIndexes, v.completions())
	var good, bad []int
	for _, p := range v.pods {
		i := v.index(p)
		if i < 0 || !tracked(p) {
			continue
		}
		if p.Status.Phase == corev1.PodSucceeded {
			good = append(good, i)
		}
		if v.job.Spec.BackoffLimitPerIndex != nil && v.indexFailed(p) {
			bad = append(bad, i)
		}
	}
	v.done = v.before.withEach(good)
	v.succeeded = int32(v.done.count())
	if v.job.Spec.BackoffLimitPerIndex == nil {
		return
	}
	v.lost = parseIndexes(ptr.Deref(v.job.Status.FailedIndexes, ""), v.completions()).withEach(bad)
	v.postponed = map[int]delayedBy{}
	running := indexes(nil).withEach(v.indexesOf(v.active))
	for _, p := range v.pods {
		i := v.index(p)
		if i < 0 || !tracked(p) || !v.hasFailed(p) || v.done.has(i) || v.lost.has(i) || running.has(i) {
			continue
		}
		if last := v.postponed[i].pod; last == nil || failures(last)+ignored(last) <= failures(p)+ignored(p) && !finishedAt(p).Before(finishedAt(last)) {
			v.postponed[i] = delayedBy{p}
		}
	}
}

// indexFailed says whether a pod is the last that its index gets.
func (v *view) indexFailed(p *corev1.Pod) bool {
	if !v.hasFailed(p) {
		return false
	}
	said := judge(v.job.Spec.PodFailurePolicy, p)
	return said.action == batchv1.PodFailurePolicyActionFailIndex ||
		said.counts() && failures(p) >= int(*v.job.Spec.BackoffLimitPerIndex)
}

// hasFailed says whether a pod counts as failed. One that is told to go may
// never get to say so itself; unless the job is to wait until it has ended.
func (v *view) hasFailed(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodFailed ||
		!v.replacesEndedOnly() && p.DeletionTimestamp != nil && p.Status.Phase != corev1.PodSucceeded
}

func (v *view) replacesEndedOnly() bool {
	return ptr.Deref(v.job.Spec.PodReplacementPolicy, batchv1.TerminatingOrFailed) == batchv1.Failed
}

func (v *view) suspended() bool { return ptr.Deref(v.job.Spec.Suspend, false) }

func (v *view) completions() int { return int(ptr.Deref(v.job.Spec.Completions, 0)) }

func (v *view) indexesOf(all []*corev1.Pod) (found []int) {
	for _, p := range all {
		if i := index(p); i >= 0 {
			found = append(found, i)
		}
	}
	return found
}

// index is a pod's completion index, -1 for one that has none or that is
// beyond the job's end.
func (v *view) index(p *corev1.Pod) int {
	if i := index(p); i < v.completions() {
		return i
	}
	return -1
}

func index(p *corev1.Pod) int { return number(p, batchv1.JobCompletionIndexAnnotation, -1) }

// failures is how often an index had failed before this pod, and ignored how
// often that was forgiven.
func failures(p *corev1.Pod) int { return number(p, batchv1.JobIndexFailureCountAnnotation, 0) }
func ignored(p *corev1.Pod) int  { return number(p, batchv1.JobIndexIgnoredFailureCountAnnotation, 0) }

// number reads an annotation that the controller wrote, and that a user may
// have changed.
func number(p *corev1.Pod, annotation string, none int) int {
	n, err := strconv.Atoi(p.Annotations[annotation])
	if err != nil || n < 0 || n > math.MaxInt32 {
		return none
	}
	return n
}

func indexed(j *batchv1.Job) bool {
	return ptr.Deref(j.Spec.CompletionMode, batchv1.NonIndexedCompletion) == batchv1.IndexedCompletion
}

// tracked is true for a pod that has not been counted yet.
func tracked(p *corev1.Pod) bool { return slices.Contains(p.Finalizers, batchv1.JobTrackingFinalizer) }

func condition(j *batchv1.Job, t batchv1.JobConditionType) *batchv1.JobCondition {
	i := slices.IndexFunc(j.Status.Conditions, func(c batchv1.JobCondition) bool { return c.Type == t && c.Status == corev1.ConditionTrue })
	if i < 0 {
		return nil
	}
	return &j.Status.Conditions[i]
}

func finished(j *batchv1.Job) bool {
	return condition(j, batchv1.JobComplete) != nil || condition(j, batchv1.JobFailed) != nil
}
