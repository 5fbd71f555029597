package batch

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"sampan/cluster/kind"
	"sampan/cluster/kind/podspec"
)

// Limits that keep the lists of indexes in a status short (KEP-3850).
const (
	mostParallel       = 100_000
	mostFailedIndexes  = 100_000
	manyCompletions    = 100_000 // above this …
	parallelismForMany = 10_000  // … no more at once …
	failedForMany      = 10_000  // … and no more failures
	longestManagedBy   = 63
)

func indexed(s *batchv1.JobSpec) bool {
	return ptr.Deref(s.CompletionMode, batchv1.NonIndexedCompletion) == batchv1.IndexedCompletion
}

func validateJob(j, old *batchv1.Job) (errs field.ErrorList) {
	path := field.NewPath("spec")
	if old == nil {
		errs = append(errs, generatedSelector(j)...)
	}
	var was *batchv1.JobSpec
	if old != nil {
		was = &old.Spec
	}
	errs = append(errs, validateSpec(&j.Spec, was, path)...)
	errs = append(errs, selectorOf(&j.Spec, path)...)
	if old != nil {
		errs = append(errs, specChange(j, old, path)...)
	}
	return append(errs, hostnames(j)...)
}

// generatedSelector checks that a selector that was made for the job is
// complete: the user may have written other values into the same labels.
func generatedSelector(j *batchv1.Job) (errs field.ErrorList) {
	if ptr.Deref(j.Spec.ManualSelector, false) || j.Spec.Selector == nil {
		return nil
	}
	if j.UID == "" {
		errs = append(errs, field.Required(field.NewPath("metadata", "uid"), ""))
	}
	at := field.NewPath("spec", "template", "metadata", "labels")
	want := labels.Set{}
	for _, l := range [][2]string{{legacyUIDLabel, string(j.UID)}, {legacyNameLabel, j.Name},
		{batchv1.ControllerUidLabel, string(j.UID)}, {batchv1.JobNameLabel, j.Name}} {
		key, value := l[0], l[1]
		want[key] = value
		got, ok := j.Spec.Template.Labels[key]
		switch must := fmt.Sprintf("must be '%s'", value); {
		case !ok:
			errs = append(errs, field.Required(at.Key(key), must))
		case got != value:
			errs = append(errs, field.Invalid(at.Key(key), j.Spec.Template.Labels, must))
		}
	}
	if s, err := metav1.LabelSelectorAsSelector(j.Spec.Selector); err == nil && !s.Matches(want) {
		errs = append(errs, field.Invalid(field.NewPath("spec", "selector"), j.Spec.Selector, "`selector` not auto-generated"))
	}
	return errs
}

func selectorOf(s *batchv1.JobSpec, path *field.Path) (errs field.ErrorList) {
	at := path.Child("selector")
	if s.Selector == nil {
		errs = append(errs, field.Required(at, ""))
	} else {
		errs = append(errs, metav1validation.ValidateLabelSelector(s.Selector, metav1validation.LabelSelectorValidationOptions{}, at)...)
	}
	if selector, err := metav1.LabelSelectorAsSelector(s.Selector); err == nil && !selector.Matches(labels.Set(s.Template.Labels)) {
		errs = append(errs, field.Invalid(path.Child("template", "metadata", "labels"), s.Template.Labels, "`selector` does not match template `labels`"))
	}
	return errs
}

// hostnames checks that the last index still makes a host name: pods of an
// indexed job are called NAME-INDEX.
func hostnames(j *batchv1.Job) field.ErrorList {
	if n := ptr.Deref(j.Spec.Completions, 0); indexed(&j.Spec) && n > 0 {
		last := fmt.Sprintf("%s-%d", j.Name, n-1)
		if len(validation.IsDNS1123Label(last)) > 0 {
			return field.ErrorList{field.Invalid(field.NewPath("metadata", "name"), j.Name, "will not able to create pod with invalid DNS label: "+last)}
		}
	}
	return nil
}

// validateSpec checks what jobs and their templates have in common.
func validateSpec(s, old *batchv1.JobSpec, path *field.Path) (errs field.ErrorList) {
	count := func(n *int32, name string) {
		if n != nil {
			errs = append(errs, kind.NotNegative(int64(*n), path.Child(name))...)
		}
	}
	count(s.Parallelism, "parallelism")
	count(s.Completions, "completions")
	if n := s.ActiveDeadlineSeconds; n != nil {
		errs = append(errs, kind.NotNegative(*n, path.Child("activeDeadlineSeconds"))...)
	}
	count(s.BackoffLimit, "backoffLimit")
	count(s.TTLSecondsAfterFinished, "ttlSecondsAfterFinished")
	count(s.BackoffLimitPerIndex, "backoffLimitPerIndex")
	count(s.MaxFailedIndexes, "maxFailedIndexes")
	if s.MaxFailedIndexes != nil && s.BackoffLimitPerIndex == nil {
		errs = append(errs, field.Required(path.Child("backoffLimitPerIndex"), "when maxFailedIndexes is specified"))
	}
	if s.ManagedBy != nil {
		at := path.Child("managedBy")
		errs = append(errs, validation.IsDomainPrefixedPath(at, *s.ManagedBy)...)
		if len(*s.ManagedBy) > longestManagedBy {
			errs = append(errs, field.TooLong(at, "", longestManagedBy))
		}
	}
	errs = append(errs, completionMode(s, path)...)
	if s.PodFailurePolicy != nil {
		errs = append(errs, failurePolicy(s, path.Child("podFailurePolicy"))...)
	}
	if s.SuccessPolicy != nil {
		at := path.Child("successPolicy")
		if indexed(s) {
			errs = append(errs, successPolicy(s, at)...)
		} else {
			errs = append(errs, field.Invalid(at, *s.SuccessPolicy, "requires indexed completion mode"))
		}
	}
	errs = append(errs, replacementPolicy(s, path.Child("podReplacementPolicy"))...)
	var was *corev1.PodTemplateSpec
	if old != nil {
		was = &old.Template
	}
	errs = append(errs, podspec.ValidateTemplate(&s.Template, was, path.Child("template"))...)
	return append(errs, restartPolicy(s, path.Child("template", "spec", "restartPolicy"))...)
}

func completionMode(s *batchv1.JobSpec, path *field.Path) (errs field.ErrorList) {
	modes := []batchv1.CompletionMode{batchv1.NonIndexedCompletion, batchv1.IndexedCompletion}
	if s.CompletionMode != nil && !slices.Contains(modes, *s.CompletionMode) {
		return field.ErrorList{field.NotSupported(path.Child("completionMode"), *s.CompletionMode, modes)}
	}
	if !indexed(s) {
		const only = "requires indexed completion mode"
		if n := s.BackoffLimitPerIndex; n != nil {
			errs = append(errs, field.Invalid(path.Child("backoffLimitPerIndex"), *n, only))
		}
		if n := s.MaxFailedIndexes; n != nil {
			errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), *n, only))
		}
		return errs
	}
	if s.Completions == nil {
		errs = append(errs, field.Required(path.Child("completions"), "when completion mode is Indexed"))
	}
	atMost := func(n *int32, most int32, name, when string) {
		if n != nil && *n > most {
			errs = append(errs, field.Invalid(path.Child(name), *n, fmt.Sprintf("must be less than or equal to %d%s", most, when)))
		}
	}
	atMost(s.Parallelism, mostParallel, "parallelism", " when completion mode is Indexed")
	if n := s.MaxFailedIndexes; n != nil && s.Completions != nil && *n > *s.Completions {
		errs = append(errs, field.Invalid(path.Child("maxFailedIndexes"), *n, "must be less than or equal to completions"))
	}
	atMost(s.MaxFailedIndexes, mostFailedIndexes, "maxFailedIndexes", "")
	if ptr.Deref(s.Completions, 0) > manyCompletions && s.BackoffLimitPerIndex != nil {
		if s.MaxFailedIndexes == nil {
			errs = append(errs, field.Required(path.Child("maxFailedIndexes"), fmt.Sprintf("must be specified when completions is above %d", manyCompletions)))
		}
		when := fmt.Sprintf(" when completions are above %d and used with backoff limit per index", manyCompletions)
		atMost(s.Parallelism, parallelismForMany, "parallelism", when)
		atMost(s.MaxFailedIndexes, failedForMany, "maxFailedIndexes", when)
	}
	return errs
}

func replacementPolicy(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	if s.PodReplacementPolicy == nil {
		return nil
	}
	valid := []batchv1.PodReplacementPolicy{batchv1.Failed, batchv1.TerminatingOrFailed}
	if s.PodFailurePolicy != nil {
		valid = valid[:1] // the policy looks at how a pod has ended
	}
	if slices.Contains(valid, *s.PodReplacementPolicy) {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, *s.PodReplacementPolicy, valid)}
}

func restartPolicy(s *batchv1.JobSpec, path *field.Path) field.ErrorList {
	switch p := s.Template.Spec.RestartPolicy; {
	case p == corev1.RestartPolicyAlways || p == "":
		// What the user left out has been defaulted to Always.
		return field.ErrorList{field.Required(path, fmt.Sprintf("valid values: %q, %q", corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever))}
	case p != corev1.RestartPolicyOnFailure && p != corev1.RestartPolicyNever:
		return field.ErrorList{field.NotSupported(path, p, []corev1.RestartPolicy{corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever})}
	case s.PodFailurePolicy != nil && p != corev1.RestartPolicyNever:
		return field.ErrorList{field.Invalid(path, p, fmt.Sprintf("only %q is supported when podFailurePolicy is specified", corev1.RestartPolicyNever))}
	}
	return nil
}

// specChange checks what of a job may change.
func specChange(j, old *batchv1.Job, path *field.Path) (errs field.ErrorList) {
	s, was := &j.Spec, &old.Spec
	switch at := path.Child("completions"); {
	case !indexed(s):
		errs = append(errs, kind.Immutable(s.Completions, was.Completions, at)...)
	case s.Completions != nil && !ptr.Equal(s.Completions, was.Completions) && !ptr.Equal(s.Completions, s.Parallelism):
		errs = append(errs, field.Invalid(at, *s.Completions, "can only be modified in tandem with spec.parallelism"))
	}
	errs = append(errs, kind.Immutable(s.Selector, was.Selector, path.Child("selector"))...)
	errs = append(errs, templateChange(j, old, path)...)
	errs = append(errs, kind.Immutable(s.CompletionMode, was.CompletionMode, path.Child("completionMode"))...)
	errs = append(errs, kind.Immutable(s.PodFailurePolicy, was.PodFailurePolicy, path.Child("podFailurePolicy"))...)
	errs = append(errs, kind.Immutable(s.BackoffLimitPerIndex, was.BackoffLimitPerIndex, path.Child("backoffLimitPerIndex"))...)
	errs = append(errs, kind.Immutable(s.ManagedBy, was.ManagedBy, path.Child("managedBy"))...)
	return append(errs, kind.Immutable(s.SuccessPolicy, was.SuccessPolicy, path.Child("successPolicy"))...)
}

// templateChange lets queue controllers say where, and with how much, the pods
// of a job run that does not run yet or no more (KEP-2926, KEP-5440).
func templateChange(j, old *batchv1.Job, path *field.Path) field.ErrorList {
	now, was := &j.Spec.Template, old.Spec.Template.DeepCopy()
	suspended := ptr.Deref(old.Spec.Suspend, false)
	if suspended && old.Status.Active == 0 && (old.Status.StartTime == nil || is(old, batchv1.JobSuspended)) {
		was.Spec.Affinity = withNodeAffinity(was.Spec.Affinity, now.Spec.Affinity)
		was.Spec.NodeSelector, was.Spec.Tolerations, was.Spec.SchedulingGates = now.Spec.NodeSelector, now.Spec.Tolerations, now.Spec.SchedulingGates
		was.Labels, was.Annotations = now.Labels, now.Annotations
		withResources(was.Spec.Containers, now.Spec.Containers)
		withResources(was.Spec.InitContainers, now.Spec.InitContainers)
		return kind.Immutable(now.Spec, was.Spec, path.Child("template.spec"))
	}
	return kind.Immutable(now, was, path.Child("template"))
}

// withNodeAffinity returns an affinity like was, with the node affinity of now.
func withNodeAffinity(was, now *corev1.Affinity) *corev1.Affinity {
	if was == nil {
		was = &corev1.Affinity{}
	}
	was.NodeAffinity = nil
	if now != nil {
		was.NodeAffinity = now.NodeAffinity
	}
	if now == nil && *was == (corev1.Affinity{}) {
		return nil
	}
	return was
}

func withResources(was, now []corev1.Container) {
	if len(was) != len(now) {
		return
	}
	for i := range was {
		if was[i].Name == now[i].Name {
			was[i].Resources = now[i].Resources
		}
	}
}
