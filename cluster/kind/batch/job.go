package batch

import (
	"fmt"
	"maps"
	"math"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"sampan/cluster/kind"
	"sampan/cluster/kind/podspec"
)

// Labels that pods of a job have had since before labels had prefixes.
const (
	legacyNameLabel = "job-name"
	legacyUIDLabel  = "controller-uid"
)

// Job runs pods until enough of them have succeeded.
func Job() *kind.Kind {
	return kind.Declare(kind.Of[batchv1.Job]{
		GVK:        batchv1.SchemeGroupVersion.WithKind("Job"),
		Plural:     "jobs",
		Categories: []string{"all"},
		Default:    defaultJob,
		Prepare:    prepareJob,
		Validate:   validateJob,
		Ignored:    append(kind.Paths("spec.", JobGaps), kind.Paths("spec.template.spec.", podspec.Gaps)...),
		Warn:       warnJob,
		Spec:       func(j *batchv1.Job) any { return &j.Spec },
		Orphan:     true, // upstream's, for batch/v1
		Orphaning: "child pods are preserved by default when jobs are deleted; " +
			"set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning",
		Parts: map[string]kind.Part[batchv1.Job]{
			"status": {
				Take:         func(dst, src *batchv1.Job) { dst.Status = src.Status },
				WithMetadata: true,
				Validate:     validateJobStatus,
			},
		},
		Columns: []kind.Column[batchv1.Job]{
			{Name: "Status", Description: "Status of the job.",
				Cell: func(j *batchv1.Job, _ time.Time) any { return statusCell(j) }},
			{Name: "Completions", Description: batchv1.JobStatus{}.SwaggerDoc()["succeeded"],
				Cell: func(j *batchv1.Job, _ time.Time) any { return completionsCell(j) }},
			{Name: "Duration", Description: "Time required to complete the job.",
				Cell: func(j *batchv1.Job, now time.Time) any { return durationCell(j, now) }},
			kind.Age[batchv1.Job](),
			{Name: "Containers", Priority: 1, Description: "Names of each container in the template.",
				Cell: func(j *batchv1.Job, _ time.Time) any { n, _ := containerCells(&j.Spec.Template); return n }},
			{Name: "Images", Priority: 1, Description: "Images referenced by each container in the template.",
				Cell: func(j *batchv1.Job, _ time.Time) any { _, i := containerCells(&j.Spec.Template); return i }},
			{Name: "Selector", Priority: 1, Description: batchv1.JobSpec{}.SwaggerDoc()["selector"],
				Cell: func(j *batchv1.Job, _ time.Time) any { return metav1.FormatLabelSelector(j.Spec.Selector) }},
		},
		Fields: map[string]func(*batchv1.Job) string{
			"status.successful": func(j *batchv1.Job) string { return strconv.Itoa(int(j.Status.Succeeded)) },
		},
	})
}

func defaultJob(j *batchv1.Job) {
	s := &j.Spec
	if s.Completions == nil && s.Parallelism == nil {
		s.Completions = new(int32(1))
	}
	if s.Parallelism == nil {
		s.Parallelism = new(int32(1))
	}
	if s.BackoffLimit == nil {
		s.BackoffLimit = new(int32(6))
		if s.BackoffLimitPerIndex != nil {
			s.BackoffLimit = new(int32(math.MaxInt32))
		}
	}
	labelled(j)
	if s.CompletionMode == nil {
		s.CompletionMode = new(batchv1.NonIndexedCompletion)
	}
	if s.Suspend == nil {
		s.Suspend = new(false)
	}
	if s.PodReplacementPolicy == nil {
		s.PodReplacementPolicy = new(batchv1.TerminatingOrFailed)
		if s.PodFailurePolicy != nil {
			s.PodReplacementPolicy = new(batchv1.Failed)
		}
	}
	if s.ManualSelector == nil {
		s.ManualSelector = new(false)
	}
	defaultTemplate(s)
}

// labelled gives a job without labels those of its pods.
func labelled(j *batchv1.Job) {
	if len(j.Labels) == 0 && j.Spec.Template.Labels != nil {
		j.Labels = maps.Clone(j.Spec.Template.Labels)
	}
}

// prepareJob makes a selector for a new job that asks for none of its own: one
// that only its pods match. What the user wrote in the same place stays, and
// is then refused by the rules if it differs.
func prepareJob(j, old *batchv1.Job) {
	podspec.SyncServiceAccount(&j.Spec.Template.Spec)
	if old == nil || old.Spec.Scheduling == nil {
		j.Spec.Scheduling = nil // upstream has not switched it on
	}
	if old != nil || ptr.Deref(j.Spec.ManualSelector, false) {
		return
	}
	t := &j.Spec.Template
	if t.Labels == nil {
		t.Labels = map[string]string{}
	}
	set := func(labels map[string]string, key, value string) {
		if _, ok := labels[key]; !ok {
			labels[key] = value
		}
	}
	set(t.Labels, legacyNameLabel, j.Name)
	set(t.Labels, batchv1.JobNameLabel, j.Name)
	set(t.Labels, legacyUIDLabel, string(j.UID))
	set(t.Labels, batchv1.ControllerUidLabel, string(j.UID))
	if j.Spec.Selector == nil {
		j.Spec.Selector = &metav1.LabelSelector{}
	}
	if j.Spec.Selector.MatchLabels == nil {
		j.Spec.Selector.MatchLabels = map[string]string{}
	}
	set(j.Spec.Selector.MatchLabels, batchv1.ControllerUidLabel, string(j.UID))
	labelled(j)
}

func warnJob(j, old *batchv1.Job) (texts []string) {
	if old == nil {
		texts = podspec.NameWarnings(j.Name)
	} else if j.Generation == old.Generation {
		return nil
	}
	return append(texts, specWarnings(&j.Spec, field.NewPath("spec"))...)
}

func specWarnings(s *batchv1.JobSpec, path *field.Path) (texts []string) {
	if indexed(s) && ptr.Deref(s.Completions, 0) > manyCompletions && ptr.Deref(s.Parallelism, 0) > parallelismForMany {
		texts = append(texts, path.String()+": In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, "+
			"Kubernetes might not be able to track completedIndexes when a big number of indexes fail")
	}
	return append(texts, podspec.TemplateWarnings(&s.Template, path.Child("template"))...)
}

// is says whether a job has a condition that is true.
func is(j *batchv1.Job, t batchv1.JobConditionType) bool {
	return condition(j, t) == corev1.ConditionTrue
}

func condition(j *batchv1.Job, t batchv1.JobConditionType) corev1.ConditionStatus {
	for _, c := range j.Status.Conditions {
		if c.Type == t {
			return c.Status
		}
	}
	return ""
}

func statusCell(j *batchv1.Job) string {
	switch {
	case is(j, batchv1.JobComplete):
		return "Complete"
	case is(j, batchv1.JobFailed):
		return "Failed"
	case j.DeletionTimestamp != nil:
		return "Terminating"
	case is(j, batchv1.JobSuspended):
		return "Suspended"
	case is(j, batchv1.JobFailureTarget):
		return "FailureTarget"
	case is(j, batchv1.JobSuccessCriteriaMet):
		return "SuccessCriteriaMet"
	}
	return "Running"
}

func completionsCell(j *batchv1.Job) string {
	if n := j.Spec.Completions; n != nil {
		return fmt.Sprintf("%d/%d", j.Status.Succeeded, *n)
	}
	if n := ptr.Deref(j.Spec.Parallelism, 0); n > 1 {
		return fmt.Sprintf("%d/1 of %d", j.Status.Succeeded, n)
	}
	return fmt.Sprintf("%d/1", j.Status.Succeeded)
}

func durationCell(j *batchv1.Job, now time.Time) string {
	switch start, end := j.Status.StartTime, j.Status.CompletionTime; {
	case start == nil:
		return ""
	case end == nil:
		return duration.HumanDuration(now.Sub(start.Time))
	default:
		return duration.HumanDuration(end.Sub(start.Time))
	}
}
