package batch

import (
	"slices"
	"strconv"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"sampan/cluster/kind"
)

// What a status may say matters because other programs write it too: jobs
// with spec.managedBy are theirs (KEP-4368). Most rules look only at what has
// changed, so that a status that was wrong before can still be mended.

func validateJobStatus(j, old *batchv1.Job) (errs field.ErrorList) {
	if old == nil {
		old = &batchv1.Job{}
	}
	path := field.NewPath("status")
	errs = append(errs, counters(&j.Status, path)...)
	errs = append(errs, uncounted(j.Status.UncountedTerminatedPods, path.Child("uncountedTerminatedPods"))...)
	errs = append(errs, conditionsAgree(j, old, path)...)
	errs = append(errs, completionTime(j, old, path)...)
	errs = append(errs, conditionsFollow(j, old, path)...)
	errs = append(errs, finishedIsOver(j, old, path)...)
	errs = append(errs, indexLists(j, old, path)...)
	errs = append(errs, podCounts(j, old, path)...)
	errs = append(errs, criteria(j, path)...)
	return append(errs, statusChange(j, old, path)...)
}

func counters(s *batchv1.JobStatus, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, kind.NotNegative(int64(s.Active), path.Child("active"))...)
	errs = append(errs, kind.NotNegative(int64(s.Succeeded), path.Child("succeeded"))...)
	errs = append(errs, kind.NotNegative(int64(s.Failed), path.Child("failed"))...)
	if s.Ready != nil {
		errs = append(errs, kind.NotNegative(int64(*s.Ready), path.Child("ready"))...)
	}
	if s.Terminating != nil {
		errs = append(errs, kind.NotNegative(int64(*s.Terminating), path.Child("terminating"))...)
	}
	return errs
}

func uncounted(u *batchv1.UncountedTerminatedPods, path *field.Path) (errs field.ErrorList) {
	if u == nil {
		return nil
	}
	seen := map[types.UID]bool{}
	check := func(uids []types.UID, path *field.Path) {
		for i, uid := range uids {
			switch {
			case uid == "":
				errs = append(errs, field.Invalid(path.Index(i), uid, "must not be empty"))
			case seen[uid]:
				errs = append(errs, field.Duplicate(path.Index(i), uid))
			}
			seen[uid] = true
		}
	}
	check(u.Succeeded, path.Child("succeeded"))
	check(u.Failed, path.Child("failed"))
	return errs
}

// turned says whether a condition became true or stopped to be.
func turned(j, old *batchv1.Job, types ...batchv1.JobConditionType) bool {
	return slices.ContainsFunc(types, func(t batchv1.JobConditionType) bool { return is(j, t) != is(old, t) })
}

func finished(j *batchv1.Job) bool { return is(j, batchv1.JobComplete) || is(j, batchv1.JobFailed) }

func never(path *field.Path, text string) field.ErrorList {
	return field.ErrorList{field.Invalid(path.Child("conditions"), field.OmitValueType{}, text)}
}

func conditionsAgree(j, old *batchv1.Job, path *field.Path) (errs field.ErrorList) {
	if !is(j, batchv1.JobComplete) {
		return nil
	}
	if turned(j, old, batchv1.JobComplete, batchv1.JobFailed) && is(j, batchv1.JobFailed) {
		errs = append(errs, never(path, "cannot set Complete=True and Failed=true conditions")...)
	}
	if turned(j, old, batchv1.JobComplete, batchv1.JobFailureTarget) && is(j, batchv1.JobFailureTarget) {
		errs = append(errs, never(path, "cannot set Complete=True and FailureTarget=true conditions")...)
	}
	return errs
}

func completionTime(j, old *batchv1.Job, path *field.Path) (errs field.ErrorList) {
	at, end, start := path.Child("completionTime"), j.Status.CompletionTime, j.Status.StartTime
	moved := !end.Equal(old.Status.CompletionTime)
	if moved || turned(j, old, batchv1.JobComplete) {
		switch complete := is(j, batchv1.JobComplete); {
		case end != nil && !complete:
			errs = append(errs, field.Invalid(at, end, "cannot set completionTime when there is no Complete=True condition"))
		case end == nil && complete:
			errs = append(errs, field.Required(at, "completionTime is required for Complete jobs"))
		}
	}
	if (moved || !start.Equal(old.Status.StartTime)) && start != nil && end != nil && end.Before(start) {
		errs = append(errs, field.Invalid(at, end, "must be equal to or after `startTime`"))
	}
	return errs
}

// conditionsFollow: what is decided is said before it is done.
func conditionsFollow(j, old *batchv1.Job, path *field.Path) (errs field.ErrorList) {
	if (turned(j, old, batchv1.JobFailed) || !ptr.Equal(j.Status.FailedIndexes, old.Status.FailedIndexes)) &&
		is(j, batchv1.JobFailed) && !is(j, batchv1.JobFailureTarget) {
		errs = append(errs, never(path, "cannot set Failed=True condition without the FailureTarget=true condition")...)
	}
	if turned(j, old, batchv1.JobComplete, batchv1.JobSuccessCriteriaMet) && is(j, batchv1.JobComplete) && !is(j, batchv1.JobSuccessCriteriaMet) {
		errs = append(errs, never(path, "cannot set Complete=True condition without the SuccessCriteriaMet=true condition")...)
	}
	return errs
}

func finishedIsOver(j, old *batchv1.Job, path *field.Path) (errs field.ErrorList) {
	if !finished(j) {
		return nil
	}
	s, was, ended := &j.Status, &old.Status, !finished(old)
	if (ended || s.Active != was.Active) && s.Active > 0 {
		errs = append(errs, field.Invalid(path.Child("active"), s.Active, "active>0 is invalid for finished job"))
	}
	idle := ptr.Deref(j.Spec.Suspend, false) && ptr.Equal(j.Spec.Completions, new(int32(0))) // it has nothing to start
	if (ended || !s.StartTime.Equal(was.StartTime)) && s.StartTime == nil && !idle {
		errs = append(errs, field.Required(path.Child("startTime"), "startTime is required for finished job"))
	}
	if u := s.UncountedTerminatedPods; (ended || !equality.Semantic.DeepEqual(u, was.UncountedTerminatedPods)) &&
		u != nil && len(u.Failed)+len(u.Succeeded) > 0 {
		errs = append(errs, field.Invalid(path.Child("uncountedTerminatedPods"), u, "must be empty for finished job"))
	}
	return errs
}

func indexLists(j, old *batchv1.Job, path *field.Path) (errs field.ErrorList) {
	s := &j.Status
	completedMoved := s.CompletedIndexes != old.Status.CompletedIndexes
	failedMoved := !ptr.Equal(s.FailedIndexes, old.Status.FailedIndexes)
	atCompleted, atFailed := path.Child("completedIndexes"), path.Child("failedIndexes")
	n := ptr.Deref(j.Spec.Completions, 0)
	completed, badCompleted := parseIndexes(s.CompletedIndexes, n)
	failed, badFailed := parseIndexes(ptr.Deref(s.FailedIndexes, ""), n)
	if completedMoved && j.Spec.Completions != nil && badCompleted != nil {
		errs = append(errs, field.Invalid(atCompleted, s.CompletedIndexes, "error parsing completedIndexes: "+badCompleted.Error()))
	}
	if failedMoved && j.Spec.Completions != nil && j.Spec.BackoffLimitPerIndex != nil && badFailed != nil {
		errs = append(errs, field.Invalid(atFailed, *s.FailedIndexes, "error parsing failedIndexes: "+badFailed.Error()))
	}
	if completedMoved && s.CompletedIndexes != "" && !indexed(&j.Spec) {
		errs = append(errs, field.Invalid(atCompleted, s.CompletedIndexes, "cannot set non-empty completedIndexes when non-indexed completion mode"))
	}
	if failedMoved && s.FailedIndexes != nil && j.Spec.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Invalid(atFailed, *s.FailedIndexes, "cannot set non-null failedIndexes when backoffLimitPerIndex is null"))
	}
	if (completedMoved || failedMoved) && j.Spec.Completions != nil && s.FailedIndexes != nil && badCompleted == nil && badFailed == nil {
		if i, both := overlap(completed, failed); both {
			errs = append(errs, field.Invalid(atFailed, *s.FailedIndexes, "failedIndexes and completedIndexes overlap at index: "+strconv.Itoa(int(i))))
		}
	}
	return errs
}

func podCounts(j, old *batchv1.Job, path *field.Path) (errs field.ErrorList) {
	s, was := &j.Status, &old.Status
	if n := s.Terminating; (finished(j) != finished(old) || !ptr.Equal(n, was.Terminating)) && finished(j) && n != nil && *n > 0 {
		errs = append(errs, field.Invalid(path.Child("terminating"), *n, "terminating>0 is invalid for finished job"))
	}
	if n := s.Ready; (!ptr.Equal(n, was.Ready) || s.Active != was.Active) && n != nil && *n > s.Active {
		errs = append(errs, field.Invalid(path.Child("ready"), *n, "cannot set more ready pods than active"))
	}
	return errs
}

func criteria(j *batchv1.Job, path *field.Path) (errs field.ErrorList) {
	met := is(j, batchv1.JobSuccessCriteriaMet)
	if met && is(j, batchv1.JobFailed) {
		errs = append(errs, never(path, "cannot set SuccessCriteriaMet=True and Failed=true conditions")...)
	}
	if met && is(j, batchv1.JobFailureTarget) {
		errs = append(errs, never(path, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions")...)
	}
	if j.Spec.SuccessPolicy != nil && !met && is(j, batchv1.JobComplete) {
		errs = append(errs, never(path, "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True")...)
	}
	return errs
}

func statusChange(j, old *batchv1.Job, path *field.Path) (errs field.ErrorList) {
	s, was := &j.Status, &old.Status
	for _, t := range []batchv1.JobConditionType{batchv1.JobFailed, batchv1.JobComplete, batchv1.JobFailureTarget} {
		if is(old, t) && !is(j, t) {
			errs = append(errs, never(path, "cannot disable the terminal "+string(t)+"=True condition")...)
		}
	}
	if s.Failed < was.Failed {
		errs = append(errs, field.Invalid(path.Child("failed"), s.Failed, "cannot decrease the failed counter"))
	}
	// An indexed job that is as parallel as it is long can be made shorter.
	elastic := indexed(&j.Spec) && ptr.Equal(j.Spec.Completions, j.Spec.Parallelism)
	if s.Succeeded < was.Succeeded && !elastic {
		errs = append(errs, field.Invalid(path.Child("succeeded"), s.Succeeded, "cannot decrease the succeeded counter"))
	}
	if s.CompletionTime != nil && was.CompletionTime != nil && !s.CompletionTime.Equal(was.CompletionTime) {
		errs = append(errs, field.Invalid(path.Child("completionTime"), s.CompletionTime, "field is immutable"))
	}
	resuming := is(old, batchv1.JobSuspended) && condition(j, batchv1.JobSuspended) == corev1.ConditionFalse
	if was.StartTime != nil && !s.StartTime.Equal(was.StartTime) && !resuming && !ptr.Deref(j.Spec.Suspend, false) {
		errs = append(errs, field.Invalid(path.Child("startTime"), s.StartTime, "field is immutable for unsuspended job once set"))
	}
	const met = batchv1.JobSuccessCriteriaMet
	if is(old, met) && !is(j, met) {
		errs = append(errs, never(path, "cannot disable the SuccessCriteriaMet=True condition")...)
	}
	if is(old, batchv1.JobComplete) && !is(old, met) && is(j, met) {
		errs = append(errs, never(path, "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions")...)
	}
	return errs
}
