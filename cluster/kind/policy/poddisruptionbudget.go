package policy

import (
	"strconv"
	"strings"
	"time"

	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/validation/path"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// PodDisruptionBudget limits how many of an application's pods may be evicted
// at a time.
func PodDisruptionBudget() *kind.Kind {
	return kind.Declare(kind.Of[policyv1.PodDisruptionBudget]{
		GVK:          policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"),
		Plural:       "poddisruptionbudgets",
		AnyFinalizer: true,
		ValidateName: path.ValidatePathSegmentName, // upstream has no rule of its own
		Short:        []string{"pdb"},
		Validate:     validateBudget,
		Spec:         func(b *policyv1.PodDisruptionBudget) any { return &b.Spec },
		Conditional:  true,
		Parts: map[string]kind.Part[policyv1.PodDisruptionBudget]{
			"status": {
				Take:         func(dst, src *policyv1.PodDisruptionBudget) { dst.Status = src.Status },
				WithMetadata: true,
				Validate:     validateBudgetStatus,
			},
		},
		Columns: []kind.Column[policyv1.PodDisruptionBudget]{
			{Name: "Min Available", Description: "The minimum number of pods that must be available.",
				Cell: func(b *policyv1.PodDisruptionBudget, _ time.Time) any { return orNA(b.Spec.MinAvailable) }},
			{Name: "Max Unavailable", Description: "The maximum number of pods that may be unavailable.",
				Cell: func(b *policyv1.PodDisruptionBudget, _ time.Time) any { return orNA(b.Spec.MaxUnavailable) }},
			{Name: "Allowed Disruptions", Type: "integer", Description: "Calculated number of pods that may be disrupted at this time.",
				Cell: func(b *policyv1.PodDisruptionBudget, _ time.Time) any { return int64(b.Status.DisruptionsAllowed) }},
			kind.Age[policyv1.PodDisruptionBudget](),
		},
	})
}

func orNA(v *intstr.IntOrString) string {
	if v == nil {
		return "N/A"
	}
	return v.String()
}

func validateBudget(b, old *policyv1.PodDisruptionBudget) (errs field.ErrorList) {
	s, path := &b.Spec, field.NewPath("spec")
	if s.MinAvailable != nil && s.MaxUnavailable != nil {
		errs = append(errs, field.Invalid(path, *s, "minAvailable and maxUnavailable cannot be both set"))
	}
	errs = append(errs, countOrPercent(s.MinAvailable, path.Child("minAvailable"))...)
	errs = append(errs, countOrPercent(s.MaxUnavailable, path.Child("maxUnavailable"))...)
	// A value that an older server let through must not keep the budget from
	// being changed in other places.
	rules := metav1validation.LabelSelectorValidationOptions{AllowInvalidLabelValueInSelector: old != nil && old.Spec.Selector != nil &&
		metav1validation.LabelSelectorHasInvalidLabelValue(old.Spec.Selector)}
	errs = append(errs, metav1validation.ValidateLabelSelector(s.Selector, rules, path.Child("selector"))...)
	if p := s.UnhealthyPodEvictionPolicy; p != nil && *p != policyv1.IfHealthyBudget && *p != policyv1.AlwaysAllow {
		errs = append(errs, field.NotSupported(path.Child("unhealthyPodEvictionPolicy"), *p,
			[]policyv1.UnhealthyPodEvictionPolicyType{policyv1.AlwaysAllow, policyv1.IfHealthyBudget}))
	}
	return errs
}

func countOrPercent(v *intstr.IntOrString, path *field.Path) (errs field.ErrorList) {
	switch {
	case v == nil:
		return nil
	case v.Type == intstr.Int:
		return kind.NotNegative(int64(v.IntVal), path)
	case v.Type != intstr.String:
		return field.ErrorList{field.Invalid(path, *v, "must be an integer or percentage (e.g '5%%')")}
	}
	for _, msg := range validation.IsValidPercent(v.StrVal) {
		errs = append(errs, field.Invalid(path, *v, msg))
	}
	if len(errs) > 0 {
		return errs
	}
	if n, err := strconv.Atoi(strings.TrimSuffix(v.StrVal, "%")); err != nil || n > 100 {
		errs = append(errs, field.Invalid(path, *v, "must not be greater than 100%"))
	}
	return errs
}

func validateBudgetStatus(b, _ *policyv1.PodDisruptionBudget) (errs field.ErrorList) {
	s, path := &b.Status, field.NewPath("status")
	errs = append(errs, metav1validation.ValidateConditions(s.Conditions, path.Child("conditions"))...)
	errs = append(errs, kind.NotNegative(int64(s.DisruptionsAllowed), path.Child("disruptionsAllowed"))...)
	errs = append(errs, kind.NotNegative(int64(s.CurrentHealthy), path.Child("currentHealthy"))...)
	errs = append(errs, kind.NotNegative(int64(s.DesiredHealthy), path.Child("desiredHealthy"))...)
	return append(errs, kind.NotNegative(int64(s.ExpectedPods), path.Child("expectedPods"))...)
}
