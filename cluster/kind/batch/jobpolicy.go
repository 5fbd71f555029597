package batch

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// Limits of the policies (KEP-3329, KEP-3998).
const (
	mostFailureRules   = 20
	mostExitCodes      = 255
	mostPodConditions  = 20
	mostSuccessRules   = 20
	longestRuleIndexes = 64 << 10
)

var (
	failureActions = []batchv1.PodFailurePolicyAction{batchv1.PodFailurePolicyActionCount, batchv1.PodFailurePolicyActionFailIndex,
		batchv1.PodFailurePolicyActionFailJob, batchv1.PodFailurePolicyActionIgnore}
	exitCodeOperators = []batchv1.PodFailurePolicyOnExitCodesOperator{batchv1.PodFailurePolicyOnExitCodesOpIn, batchv1.PodFailurePolicyOnExitCodesOpNotIn}
	conditionStatuses = []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue, corev1.ConditionUnknown}
)

// oneOf checks an enumeration whose values are told to who leaves it out.
func oneOf[T ~string](v T, path *field.Path, valid []T) field.ErrorList {
	switch {
	case v == "":
		return field.ErrorList{field.Required(path, fmt.Sprintf("valid values: %q", valid))}
	case !slices.Contains(valid, v):
		return field.ErrorList{field.NotSupported(path, v, valid)}
	}
	return nil
}

func failurePolicy(s *batchv1.JobSpec, path *field.Path) (errs field.ErrorList) {
	at := path.Child("rules")
	if n := len(s.PodFailurePolicy.Rules); n > mostFailureRules {
		errs = append(errs, field.TooMany(at, n, mostFailureRules))
	}
	names := map[string]bool{}
	for _, c := range s.Template.Spec.Containers {
		names[c.Name] = true
	}
	for _, c := range s.Template.Spec.InitContainers {
		names[c.Name] = true
	}
	for i := range s.PodFailurePolicy.Rules {
		errs = append(errs, failureRule(s, &s.PodFailurePolicy.Rules[i], names, at.Index(i))...)
	}
	return errs
}

func failureRule(s *batchv1.JobSpec, r *batchv1.PodFailurePolicyRule, names map[string]bool, path *field.Path) (errs field.ErrorList) {
	if at := path.Child("action"); r.Action == batchv1.PodFailurePolicyActionFailIndex {
		if s.BackoffLimitPerIndex == nil {
			errs = append(errs, field.Invalid(at, r.Action, "requires the backoffLimitPerIndex to be set"))
		}
	} else {
		errs = append(errs, oneOf(r.Action, at, failureActions)...)
	}
	if r.OnExitCodes != nil {
		errs = append(errs, exitCodes(r.OnExitCodes, names, path.Child("onExitCodes"))...)
	}
	at := path.Child("onPodConditions")
	if n := len(r.OnPodConditions); n > mostPodConditions {
		errs = append(errs, field.TooMany(at, n, mostPodConditions))
	}
	for i, c := range r.OnPodConditions {
		errs = append(errs, kind.QualifiedName(string(c.Type), at.Index(i).Child("type"))...)
		errs = append(errs, oneOf(c.Status, at.Index(i).Child("status"), conditionStatuses)...)
	}
	switch codes, conditions := r.OnExitCodes != nil, len(r.OnPodConditions) > 0; {
	case codes && conditions:
		errs = append(errs, field.Invalid(path, field.OmitValueType{}, "specifying both OnExitCodes and OnPodConditions is not supported"))
	case !codes && !conditions:
		errs = append(errs, field.Invalid(path, field.OmitValueType{}, "specifying one of OnExitCodes and OnPodConditions is required"))
	}
	return errs
}

func exitCodes(r *batchv1.PodFailurePolicyOnExitCodesRequirement, names map[string]bool, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, oneOf(r.Operator, path.Child("operator"), exitCodeOperators)...)
	if r.ContainerName != nil && !names[*r.ContainerName] {
		errs = append(errs, field.Invalid(path.Child("containerName"), *r.ContainerName, "must be one of the container or initContainer names in the pod template"))
	}
	at := path.Child("values")
	switch n := len(r.Values); {
	case n == 0:
		errs = append(errs, field.Invalid(at, r.Values, "at least one value is required"))
	case n > mostExitCodes:
		errs = append(errs, field.TooMany(at, n, mostExitCodes))
	}
	seen := map[int32]bool{}
	for i, code := range r.Values {
		if code == 0 && r.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn {
			errs = append(errs, field.Invalid(at.Index(i), code, "must not be 0 for the In operator"))
		}
		if seen[code] {
			errs = append(errs, field.Duplicate(at.Index(i), code))
		}
		seen[code] = true
	}
	if !slices.IsSorted(r.Values) {
		errs = append(errs, field.Invalid(at, r.Values, "must be ordered"))
	}
	return errs
}

// successPolicy is called for indexed jobs. One without completions has been
// told so elsewhere.
func successPolicy(s *batchv1.JobSpec, path *field.Path) (errs field.ErrorList) {
	if s.Completions == nil {
		return nil
	}
	at := path.Child("rules")
	switch n := len(s.SuccessPolicy.Rules); {
	case n == 0:
		errs = append(errs, field.Required(at, "at least one rules must be specified when the successPolicy is specified"))
	case n > mostSuccessRules:
		errs = append(errs, field.TooMany(at, n, mostSuccessRules))
	}
	for i := range s.SuccessPolicy.Rules {
		errs = append(errs, successRule(&s.SuccessPolicy.Rules[i], *s.Completions, at.Index(i))...)
	}
	return errs
}

func successRule(r *batchv1.SuccessPolicyRule, completions int32, path *field.Path) (errs field.ErrorList) {
	if r.SucceededCount == nil && r.SucceededIndexes == nil {
		return field.ErrorList{field.Required(path, "at least one of succeededCount or succeededIndexes must be specified")}
	}
	var total int32
	if text := r.SucceededIndexes; text != nil {
		at := path.Child("succeededIndexes")
		if len(*text) > longestRuleIndexes {
			errs = append(errs, field.TooLong(at, "", longestRuleIndexes))
		}
		ranges, err := parseIndexes(*text, completions)
		if err != nil {
			errs = append(errs, field.Invalid(at, *text, "error parsing succeededIndexes: "+err.Error()))
		}
		total = size(ranges)
	}
	if n := r.SucceededCount; n != nil {
		at := path.Child("succeededCount")
		errs = append(errs, kind.NotNegative(int64(*n), at)...)
		if *n > completions {
			errs = append(errs, field.Invalid(at, *n, fmt.Sprintf("must be less than or equal to %d (the number of specified completions)", completions)))
		}
		if r.SucceededIndexes != nil && *n > total {
			errs = append(errs, field.Invalid(at, *n, fmt.Sprintf("must be less than or equal to %d (the number of indexes in the specified succeededIndexes field)", total)))
		}
	}
	return errs
}
