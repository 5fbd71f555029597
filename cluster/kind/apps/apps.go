// Package apps declares the kinds of the API group apps, a file per kind. What
// a pod template may say is in podspec.
package apps

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"sampan/cluster/kind"
	"sampan/cluster/kind/podspec"
)

// Kinds is the table of this group.
func Kinds() []*kind.Kind {
	return []*kind.Kind{
		ControllerRevision(),
		DaemonSet(),
		Deployment(),
		ReplicaSet(),
		StatefulSet(),
	}
}

// selectorAndTemplate checks what all workloads have: a selector that is not
// empty and selects their own template.
func selectorAndTemplate(s *metav1.LabelSelector, t, oldT *corev1.PodTemplateSpec, path *field.Path) (errs field.ErrorList) {
	at := path.Child("selector")
	if s == nil {
		errs = append(errs, field.Required(at, ""))
	} else {
		errs = append(errs, metav1validation.ValidateLabelSelector(s, metav1validation.LabelSelectorValidationOptions{}, at)...)
		if len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
			errs = append(errs, field.Invalid(at, s, "empty selector is invalid for deployment"))
		}
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return append(errs, field.Invalid(at, s, "invalid label selector"))
	}
	if !selector.Empty() && !selector.Matches(labels.Set(t.Labels)) {
		errs = append(errs, field.Invalid(path.Child("template", "metadata", "labels"), t.Labels, "`selector` does not match template `labels`"))
	}
	errs = append(errs, podspec.ValidateTemplate(t, oldT, path.Child("template"))...)
	return append(errs, runsForEver(t, "ReplicaSet", path.Child("template"))...)
}

// runsForEver checks that a template's pods do not end by themselves. workload
// is what upstream says in the message.
func runsForEver(t *corev1.PodTemplateSpec, workload string, path *field.Path) (errs field.ErrorList) {
	if t.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(path.Child("spec", "restartPolicy"), t.Spec.RestartPolicy,
			[]corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if t.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(path.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in "+workload+" is not Supported"))
	}
	return errs
}

// collisions checks a status' count of names that were taken, which only grows.
func collisions(n, before *int32, path *field.Path) (errs field.ErrorList) {
	if n != nil {
		errs = append(errs, kind.NotNegative(int64(*n), path)...)
	}
	if before != nil && (n == nil || *n < *before) {
		errs = append(errs, field.Invalid(path, ptr.Deref(n, 0), "cannot be decremented"))
	}
	return errs
}

// containerCells are the columns that list a template's containers.
func containerCells(t *corev1.PodTemplateSpec) (names, images string) {
	var n, i []string
	for _, c := range t.Spec.Containers {
		n, i = append(n, c.Name), append(i, c.Image)
	}
	return strings.Join(n, ","), strings.Join(i, ",")
}

func selectorCell(s *metav1.LabelSelector) string {
	return metav1.FormatLabelSelector(s)
}
