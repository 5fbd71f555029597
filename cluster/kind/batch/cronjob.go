package batch

import (
	"fmt"
	"regexp"
	"strings"
	"time"
	_ "time/tzdata" // machines without a database of time zones, too

	"github.com/robfig/cron/v3"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"sampan/cluster/kind"
	"sampan/cluster/kind/podspec"
)

// CronJob makes a Job of a template at times given in cron's notation.
func CronJob() *kind.Kind {
	return kind.Declare(kind.Of[batchv1.CronJob]{
		GVK:        batchv1.SchemeGroupVersion.WithKind("CronJob"),
		Plural:     "cronjobs",
		Short:      []string{"cj"},
		Categories: []string{"all"},
		Default:    defaultCronJob,
		Prepare: func(c, _ *batchv1.CronJob) {
			podspec.SyncServiceAccount(&c.Spec.JobTemplate.Spec.Template.Spec)
		},
		Validate: validateCronJob,
		Ignored: append(kind.Paths("spec.jobTemplate.spec.", JobGaps),
			kind.Paths("spec.jobTemplate.spec.template.spec.", podspec.Gaps)...),
		Warn: warnCronJob,
		Spec: func(c *batchv1.CronJob) any { return &c.Spec },
		Parts: map[string]kind.Part[batchv1.CronJob]{
			"status": {
				Take:         func(dst, src *batchv1.CronJob) { dst.Status = src.Status },
				WithMetadata: true,
			},
		},
		Columns: []kind.Column[batchv1.CronJob]{
			{Name: "Schedule", Description: batchv1.CronJobSpec{}.SwaggerDoc()["schedule"],
				Cell: func(c *batchv1.CronJob, _ time.Time) any { return c.Spec.Schedule }},
			{Name: "Timezone", Description: batchv1.CronJobSpec{}.SwaggerDoc()["timeZone"],
				Cell: func(c *batchv1.CronJob, _ time.Time) any { return ptr.Deref(c.Spec.TimeZone, "<none>") }},
			{Name: "Suspend", Type: "boolean", Description: batchv1.CronJobSpec{}.SwaggerDoc()["suspend"],
				Cell: func(c *batchv1.CronJob, _ time.Time) any { return suspendCell(c.Spec.Suspend) }},
			{Name: "Active", Type: "integer", Description: batchv1.CronJobStatus{}.SwaggerDoc()["active"],
				Cell: func(c *batchv1.CronJob, _ time.Time) any { return int64(len(c.Status.Active)) }},
			{Name: "Last Schedule", Description: batchv1.CronJobStatus{}.SwaggerDoc()["lastScheduleTime"],
				Cell: func(c *batchv1.CronJob, now time.Time) any {
					if c.Status.LastScheduleTime == nil {
						return "<none>"
					}
					return kind.Since(*c.Status.LastScheduleTime, now)
				}},
			kind.Age[batchv1.CronJob](),
			{Name: "Containers", Priority: 1, Description: "Names of each container in the template.",
				Cell: func(c *batchv1.CronJob, _ time.Time) any {
					n, _ := containerCells(&c.Spec.JobTemplate.Spec.Template)
					return n
				}},
			{Name: "Images", Priority: 1, Description: "Images referenced by each container in the template.",
				Cell: func(c *batchv1.CronJob, _ time.Time) any {
					_, i := containerCells(&c.Spec.JobTemplate.Spec.Template)
					return i
				}},
			{Name: "Selector", Priority: 1, Description: batchv1.JobSpec{}.SwaggerDoc()["selector"],
				Cell: func(c *batchv1.CronJob, _ time.Time) any {
					return metav1.FormatLabelSelector(c.Spec.JobTemplate.Spec.Selector)
				}},
		},
	})
}

func suspendCell(b *bool) string {
	switch {
	case b == nil:
		return "<unset>"
	case *b:
		return "True"
	}
	return "False"
}

func defaultCronJob(c *batchv1.CronJob) {
	s := &c.Spec
	if s.ConcurrencyPolicy == "" {
		s.ConcurrencyPolicy = batchv1.AllowConcurrent
	}
	if s.Suspend == nil {
		s.Suspend = new(false)
	}
	if s.SuccessfulJobsHistoryLimit == nil {
		s.SuccessfulJobsHistoryLimit = new(int32(3))
	}
	if s.FailedJobsHistoryLimit == nil {
		s.FailedJobsHistoryLimit = new(int32(1))
	}
	defaultTemplate(&s.JobTemplate.Spec)
}

// longestCronJobName leaves room for the "-TIME" that its jobs have behind it.
const longestCronJobName = validation.DNS1035LabelMaxLength - 11

func validateCronJob(c, old *batchv1.CronJob) (errs field.ErrorList) {
	s, path := &c.Spec, field.NewPath("spec")
	if s.Schedule == "" {
		errs = append(errs, field.Required(path.Child("schedule"), ""))
	} else {
		errs = append(errs, validateSchedule(s, old, path.Child("schedule"))...)
	}
	if n := s.StartingDeadlineSeconds; n != nil {
		errs = append(errs, kind.NotNegative(*n, path.Child("startingDeadlineSeconds"))...)
	}
	if old == nil || !ptr.Equal(old.Spec.TimeZone, s.TimeZone) {
		errs = append(errs, timeZone(s.TimeZone, path.Child("timeZone"))...)
	}
	errs = append(errs, kind.OneOf(s.ConcurrencyPolicy, path.Child("concurrencyPolicy"),
		batchv1.AllowConcurrent, batchv1.ForbidConcurrent, batchv1.ReplaceConcurrent)...)

	template, at := &s.JobTemplate.Spec, path.Child("jobTemplate", "spec")
	var was *batchv1.JobSpec
	if old != nil {
		was = &old.Spec.JobTemplate.Spec
	}
	errs = append(errs, validateSpec(template, was, at)...)
	if template.Selector != nil {
		errs = append(errs, field.Invalid(at.Child("selector"), template.Selector, "`selector` will be auto-generated"))
	}
	if ptr.Deref(template.ManualSelector, false) {
		errs = append(errs, field.NotSupported(at.Child("manualSelector"), template.ManualSelector, []string{"nil", "false"}))
	}

	if n := s.SuccessfulJobsHistoryLimit; n != nil {
		errs = append(errs, kind.NotNegative(int64(*n), path.Child("successfulJobsHistoryLimit"))...)
	}
	if n := s.FailedJobsHistoryLimit; n != nil {
		errs = append(errs, kind.NotNegative(int64(*n), path.Child("failedJobsHistoryLimit"))...)
	}
	if old == nil && len(c.Name) > longestCronJobName {
		errs = append(errs, field.Invalid(field.NewPath("metadata", "name"), c.Name, fmt.Sprintf("must be no more than %d characters", longestCronJobName)))
	}
	return errs
}

func validateSchedule(s *batchv1.CronJobSpec, old *batchv1.CronJob, path *field.Path) (errs field.ErrorList) {
	if _, err := ParseSchedule(s.Schedule); err != nil {
		errs = append(errs, field.Invalid(path, s.Schedule, err.Error()))
	}
	if !strings.Contains(s.Schedule, "TZ") {
		return errs
	}
	switch had := old != nil && strings.Contains(old.Spec.Schedule, "TZ"); {
	case !had:
		errs = append(errs, field.Invalid(path, s.Schedule, "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"))
	case s.TimeZone != nil:
		errs = append(errs, field.Invalid(path, s.Schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule"))
	}
	return errs
}

// ParseSchedule reads a time in cron's notation. The library panics for some
// texts; that is an error here.
func ParseSchedule(text string) (s cron.Schedule, err error) {
	defer func() {
		if p := recover(); p != nil {
			s, err = nil, fmt.Errorf("invalid schedule format: %v", p)
		}
	}()
	return cron.ParseStandard(text)
}

// zonePart is what may stand between slashes in a time zone's name
// (https://data.iana.org/time-zones/theory.html#naming), digits included for
// those from before the rule.
var zonePart = regexp.MustCompile(`^[A-Za-z\.\-_0-9+]{1,14}$`)

func timeZone(zone *string, path *field.Path) (errs field.ErrorList) {
	if zone == nil {
		return nil
	}
	if *zone == "" {
		return field.ErrorList{field.Invalid(path, *zone, "timeZone must be nil or non-empty string")}
	}
	for part := range strings.SplitSeq(*zone, "/") {
		if part == "." || part == ".." || strings.HasPrefix(part, "-") || !zonePart.MatchString(part) {
			return field.ErrorList{field.Invalid(path, *zone, "unknown time zone "+*zone)}
		}
	}
	if strings.EqualFold(*zone, "Local") {
		errs = append(errs, field.Invalid(path, *zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones"))
	}
	if _, err := time.LoadLocation(*zone); err != nil {
		errs = append(errs, field.Invalid(path, *zone, err.Error()))
	}
	return errs
}

func warnCronJob(c, old *batchv1.CronJob) (texts []string) {
	path := field.NewPath("spec", "jobTemplate", "spec")
	if old == nil {
		return append(podspec.NameWarnings(c.Name), specWarnings(&c.Spec.JobTemplate.Spec, path)...)
	}
	if c.Generation != old.Generation {
		texts = specWarnings(&c.Spec.JobTemplate.Spec, path)
	}
	if strings.Contains(c.Spec.Schedule, "TZ") {
		texts = append(texts, "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, "+
			"see https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details")
	}
	return texts
}
