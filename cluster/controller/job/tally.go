package job

import (
	"cmp"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"sampan/cluster/controller/pods"
)

// mostUncounted bounds the list of pods that are being counted, and with it
// the size of a status (upstream's MaxUncountedPods).
const mostUncounted = 500

// Counting survives a crash at any point (KEP-2307): a pod that has ended keeps
// its finalizer until its UID is written to the status; then the finalizer
// goes; a UID in the status whose pod has none any more is counted. So there
// are three steps: tally, removing finalizers, settle.

// count is the first step of counting.
type count struct {
	status batchv1.JobStatus
	done   []*corev1.Pod         // their finalizers may go once the status is written
	final  *batchv1.JobCondition // to be set when all is counted and gone
	more   bool                  // not all pods had room
	event  string                // "Suspended", "Resumed", or empty
}

// tally counts what is there once a decision was carried out. end is the
// decision's. open is false if the decision could not be carried out: then
// nothing is concluded from what is there.
func tally(v *view, end *batchv1.JobCondition, open bool) (c count) {
	c.status = *v.job.Status.DeepCopy()
	s := &c.status
	if s.UncountedTerminatedPods == nil {
		s.UncountedTerminatedPods = &batchv1.UncountedTerminatedPods{}
	}
	if s.StartTime == nil && !v.suspended() {
		s.StartTime = new(metav1.NewTime(v.now).Rfc3339Copy())
	}
	switch {
	case !open:
		end = nil
	case end == nil && v.complete():
		end = newCondition(batchv1.JobSuccessCriteriaMet, corev1.ConditionTrue, batchv1.JobReasonCompletionsReached,
			"Reached expected number of succeeded pods", v.now)
	case end == nil && v.job.DeletionTimestamp == nil:
		c.event = v.suspend(s)
	}
	s.Active, s.Ready, s.Terminating = int32(len(v.active)), new(v.ready), new(v.terminating)
	counted(s, v.pods)
	c.collect(v, end)
	if indexed(v.job) {
		s.Succeeded, s.CompletedIndexes = int32(v.done.count()), v.done.String()
		s.FailedIndexes = nil
		if v.job.Spec.BackoffLimitPerIndex != nil {
			s.FailedIndexes = new(v.lost.String())
		}
	}
	if end == nil {
		return c
	}
	c.final = end
	switch end.Type {
	case batchv1.JobFailureTarget:
		set(s, end)
		c.final = newCondition(batchv1.JobFailed, corev1.ConditionTrue, end.Reason, end.Message, v.now)
	case batchv1.JobSuccessCriteriaMet:
		set(s, end)
		c.final = newCondition(batchv1.JobComplete, corev1.ConditionTrue, end.Reason, end.Message, v.now)
	}
	return c
}

// complete says whether the pods that have succeeded are all that were asked
// for. Without a number one is enough, once the others have ended.
func (v *view) complete() bool {
	if len(v.active) > 0 {
		return false
	}
	if n := v.job.Spec.Completions; n != nil {
		return v.succeeded >= *n
	}
	return v.succeeded > 0
}

// suspend keeps the condition Suspended. A job that goes on starts anew: its
// deadline is about the time that it runs.
func (v *view) suspend(s *batchv1.JobStatus) (event string) {
	if v.suspended() {
		if set(s, newCondition(batchv1.JobSuspended, corev1.ConditionTrue, "JobSuspended", "Job suspended", v.now)) {
			s.StartTime = nil
			return "Suspended"
		}
		return ""
	}
	if set(s, newCondition(batchv1.JobSuspended, corev1.ConditionFalse, "JobResumed", "Job resumed", v.now)) {
		s.StartTime = new(metav1.NewTime(v.now).Rfc3339Copy())
		return "Resumed"
	}
	return ""
}

// set puts a condition in its place and reports whether that is a change. One
// that is false is not added where there was none.
func set(s *batchv1.JobStatus, c *batchv1.JobCondition) bool {
	i := slices.IndexFunc(s.Conditions, func(had batchv1.JobCondition) bool { return had.Type == c.Type })
	switch {
	case i < 0 && c.Status == corev1.ConditionFalse:
		return false
	case i < 0:
		s.Conditions = append(s.Conditions, *c)
		return true
	}
	if had := s.Conditions[i]; had.Status == c.Status && had.Reason == c.Reason && had.Message == c.Message {
		return false
	}
	s.Conditions[i] = *c
	return true
}

// collect puts pods that have ended on the list of those to be counted.
func (c *count) collect(v *view, end *batchv1.JobCondition) {
	u := c.status.UncountedTerminatedPods
	all := v.pods
	if indexed(v.job) {
		all = slices.Clone(all)
		slices.SortStableFunc(all, func(a, b *corev1.Pod) int { return cmp.Compare(index(a), index(b)) })
	}
	failed := map[types.UID]bool{}
	for _, uid := range u.Failed {
		failed[uid] = true
	}
	fresh := 0 // newly succeeded indexes
	for _, p := range all {
		bad := v.hasFailed(p)
		if !tracked(p) || !c.mayGo(v, p, bad, end) {
			continue
		}
		c.done = append(c.done, p)
		switch {
		case failed[p.UID]:
		case p.Status.Phase == corev1.PodSucceeded:
			if indexed(v.job) {
				if i := v.index(p); i >= 0 && !v.before.has(i) {
					fresh++ // the status has the index: that is enough to count it once
				}
			} else if !slices.Contains(u.Succeeded, p.UID) {
				u.Succeeded = append(u.Succeeded, p.UID)
			}
		case bad || end != nil && end.Type != batchv1.JobSuccessCriteriaMet:
			// The end of a job that has failed is the failure of all pods that
			// had not ended.
			if (!indexed(v.job) || v.index(p) >= 0) && judge(v.job.Spec.PodFailurePolicy, p).counts() {
				u.Failed = append(u.Failed, p.UID)
			}
		}
		if fresh+len(u.Succeeded)+len(u.Failed) >= mostUncounted {
			c.more = true
			break
		}
	}
}

// mayGo says whether a pod's finalizer is no longer needed.
func (c *count) mayGo(v *view, p *corev1.Pod, bad bool, end *batchv1.JobCondition) bool {
	if v.job.DeletionTimestamp != nil || end != nil || p.Status.Phase == corev1.PodSucceeded {
		return true
	}
	return bad && v.postponed[v.index(p)].pod != p
}

// counted turns UIDs of pods without the finalizer into numbers.
func counted(s *batchv1.JobStatus, all []*corev1.Pod) {
	u := s.UncountedTerminatedPods
	if u == nil {
		return
	}
	held := map[types.UID]bool{}
	for _, p := range all {
		if tracked(p) {
			held[p.UID] = true
		}
	}
	move := func(uids *[]types.UID, n *int32) {
		had := len(*uids)
		*uids = slices.DeleteFunc(*uids, func(uid types.UID) bool { return !held[uid] })
		*n += int32(had - len(*uids))
		if len(*uids) == 0 {
			*uids = nil
		}
	}
	move(&u.Succeeded, &s.Succeeded)
	move(&u.Failed, &s.Failed)
}

// settle is the last step of counting: what is in the status after the
// finalizers went. all are the job's pods as they are now. A job is over when
// all its pods are counted and gone.
func settle(j *batchv1.Job, all []*corev1.Pod, c count) (s batchv1.JobStatus, over bool) {
	s = *j.Status.DeepCopy()
	counted(&s, all)
	var ready, terminating int32
	s.Active = 0
	for _, p := range all {
		switch {
		case pods.Active(p):
			s.Active++
			if pods.Ready(p) {
				ready++
			}
		case pods.Terminating(p):
			terminating++
		}
	}
	s.Ready, s.Terminating = &ready, &terminating
	u := ptr.Deref(s.UncountedTerminatedPods, batchv1.UncountedTerminatedPods{})
	if c.final == nil || c.more || s.Active > 0 || terminating > 0 || len(u.Succeeded)+len(u.Failed) > 0 {
		return s, false
	}
	set(&s, c.final)
	if c.final.Type == batchv1.JobComplete {
		s.CompletionTime = &c.final.LastTransitionTime
	}
	return s, true
}
