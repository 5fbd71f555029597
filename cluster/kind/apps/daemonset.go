package apps

import (
	"maps"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"sampan/cluster/kind"
	"sampan/cluster/kind/podspec"
)

// DaemonSet keeps a pod on every node that its template fits.
func DaemonSet() *kind.Kind {
	return kind.Declare(kind.Of[appsv1.DaemonSet]{
		GVK:        appsv1.SchemeGroupVersion.WithKind("DaemonSet"),
		Plural:     "daemonsets",
		Short:      []string{"ds"},
		Categories: []string{"all"},
		Default:    defaultDaemonSet,
		Prepare: func(ds, old *appsv1.DaemonSet) {
			podspec.SyncServiceAccount(&ds.Spec.Template.Spec)
			countTemplates(ds, old)
		},
		Validate: validateDaemonSet,
		Ignored:  kind.Paths("spec.template.spec.", podspec.Gaps),
		Warn: func(ds, old *appsv1.DaemonSet) []string {
			if old != nil && equality.Semantic.DeepEqual(ds.Spec.Template, old.Spec.Template) {
				return nil
			}
			return podspec.TemplateWarnings(&ds.Spec.Template, field.NewPath("spec", "template"))
		},
		Spec: func(ds *appsv1.DaemonSet) any { return &ds.Spec },
		Parts: map[string]kind.Part[appsv1.DaemonSet]{
			"status": {
				Take:         func(dst, src *appsv1.DaemonSet) { dst.Status = src.Status },
				WithMetadata: true,
				Prepare:      countTemplates,
				Validate:     validateDaemonSetStatus,
			},
		},
		Columns: []kind.Column[appsv1.DaemonSet]{
			{Name: "Desired", Type: "integer", Description: appsv1.DaemonSetStatus{}.SwaggerDoc()["desiredNumberScheduled"],
				Cell: func(ds *appsv1.DaemonSet, _ time.Time) any { return int64(ds.Status.DesiredNumberScheduled) }},
			{Name: "Current", Type: "integer", Description: appsv1.DaemonSetStatus{}.SwaggerDoc()["currentNumberScheduled"],
				Cell: func(ds *appsv1.DaemonSet, _ time.Time) any { return int64(ds.Status.CurrentNumberScheduled) }},
			{Name: "Ready", Type: "integer", Description: appsv1.DaemonSetStatus{}.SwaggerDoc()["numberReady"],
				Cell: func(ds *appsv1.DaemonSet, _ time.Time) any { return int64(ds.Status.NumberReady) }},
			{Name: "Up-to-date", Type: "integer", Description: appsv1.DaemonSetStatus{}.SwaggerDoc()["updatedNumberScheduled"],
				Cell: func(ds *appsv1.DaemonSet, _ time.Time) any { return int64(ds.Status.UpdatedNumberScheduled) }},
			{Name: "Available", Type: "integer", Description: appsv1.DaemonSetStatus{}.SwaggerDoc()["numberAvailable"],
				Cell: func(ds *appsv1.DaemonSet, _ time.Time) any { return int64(ds.Status.NumberAvailable) }},
			{Name: "Node Selector", Description: corev1.PodSpec{}.SwaggerDoc()["nodeSelector"],
				Cell: func(ds *appsv1.DaemonSet, _ time.Time) any {
					return labels.FormatLabels(ds.Spec.Template.Spec.NodeSelector)
				}},
			kind.Age[appsv1.DaemonSet](),
			{Name: "Containers", Priority: 1, Description: "Names of each container in the template.",
				Cell: func(ds *appsv1.DaemonSet, _ time.Time) any { n, _ := containerCells(&ds.Spec.Template); return n }},
			{Name: "Images", Priority: 1, Description: "Images referenced by each container in the template.",
				Cell: func(ds *appsv1.DaemonSet, _ time.Time) any { _, i := containerCells(&ds.Spec.Template); return i }},
			{Name: "Selector", Priority: 1, Description: appsv1.DaemonSetSpec{}.SwaggerDoc()["selector"],
				Cell: func(ds *appsv1.DaemonSet, _ time.Time) any { return selectorCell(ds.Spec.Selector) }},
		},
	})
}

// countTemplates keeps the number of templates that a daemon set has had. It
// was a field once; now it is an annotation, which the server alone writes but
// for the first number.
func countTemplates(ds, old *appsv1.DaemonSet) {
	n := int64(1)
	switch {
	case old == nil:
		n = max(templateGeneration(ds), 1)
	default:
		if n = templateGeneration(old); !equality.Semantic.DeepEqual(ds.Spec.Template, old.Spec.Template) {
			n++
		}
	}
	setTemplateGeneration(ds, n)
}

func setTemplateGeneration(ds *appsv1.DaemonSet, n int64) {
	text := strconv.FormatInt(n, 10)
	if ds.Annotations[appsv1.DeprecatedTemplateGeneration] == text {
		return
	}
	ds.Annotations = maps.Clone(ds.Annotations)
	if ds.Annotations == nil {
		ds.Annotations = map[string]string{}
	}
	ds.Annotations[appsv1.DeprecatedTemplateGeneration] = text
}

func templateGeneration(ds *appsv1.DaemonSet) int64 {
	n, err := strconv.ParseInt(ds.Annotations[appsv1.DeprecatedTemplateGeneration], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func defaultDaemonSet(ds *appsv1.DaemonSet) {
	s := &ds.Spec.UpdateStrategy
	if s.Type == "" {
		s.Type = appsv1.RollingUpdateDaemonSetStrategyType
	}
	if s.Type == appsv1.RollingUpdateDaemonSetStrategyType {
		if s.RollingUpdate == nil {
			s.RollingUpdate = &appsv1.RollingUpdateDaemonSet{}
		}
		if s.RollingUpdate.MaxUnavailable == nil {
			s.RollingUpdate.MaxUnavailable = new(intstr.FromInt32(1))
		}
		if s.RollingUpdate.MaxSurge == nil {
			s.RollingUpdate.MaxSurge = new(intstr.FromInt32(0))
		}
	}
	if u := s.RollingUpdate; u != nil { // of another type: these two have no nil inside upstream's program
		if u.MaxUnavailable == nil {
			u.MaxUnavailable = new(intstr.FromInt32(0))
		}
		if u.MaxSurge == nil {
			u.MaxSurge = new(intstr.FromInt32(0))
		}
	}
	if ds.Spec.RevisionHistoryLimit == nil {
		ds.Spec.RevisionHistoryLimit = new(int32(10))
	}
	podspec.DefaultTemplate(&ds.Spec.Template)
	if _, ok := ds.Annotations[appsv1.DeprecatedTemplateGeneration]; !ok {
		setTemplateGeneration(ds, 0) // whoever writes the object comes to own it, as upstream has it
	}
}

func validateDaemonSet(ds, old *appsv1.DaemonSet) (errs field.ErrorList) {
	path, s := field.NewPath("spec"), &ds.Spec
	var before *corev1.PodTemplateSpec
	if old != nil {
		before = &old.Spec.Template
		errs = append(errs, kind.Immutable(s.Selector, old.Spec.Selector, path.Child("selector"))...)
	}
	errs = append(errs, metav1validation.ValidateLabelSelector(s.Selector, metav1validation.LabelSelectorValidationOptions{}, path.Child("selector"))...)
	template := path.Child("template")
	if selector, err := metav1.LabelSelectorAsSelector(s.Selector); err == nil && !selector.Matches(labels.Set(s.Template.Labels)) {
		errs = append(errs, field.Invalid(template.Child("metadata", "labels"), s.Template.Labels, "`selector` does not match template `labels`"))
	}
	if s.Selector != nil && len(s.Selector.MatchLabels)+len(s.Selector.MatchExpressions) == 0 {
		errs = append(errs, field.Invalid(path.Child("selector"), s.Selector, "empty selector is invalid for daemonset"))
	}
	errs = append(errs, podspec.ValidateTemplate(&s.Template, before, template)...)
	errs = append(errs, runsForEver(&s.Template, "DaemonSet", template)...)
	errs = append(errs, kind.NotNegative(int64(s.MinReadySeconds), path.Child("minReadySeconds"))...)
	errs = append(errs, daemonStrategy(&s.UpdateStrategy, path.Child("updateStrategy"))...)
	if n := s.RevisionHistoryLimit; n != nil {
		errs = append(errs, kind.NotNegative(int64(*n), path.Child("revisionHistoryLimit"))...)
	}
	return errs
}

func daemonStrategy(s *appsv1.DaemonSetUpdateStrategy, path *field.Path) (errs field.ErrorList) {
	switch s.Type {
	case appsv1.OnDeleteDaemonSetStrategyType:
		return nil
	case appsv1.RollingUpdateDaemonSetStrategyType:
	default:
		return append(errs, field.NotSupported(path, s, []appsv1.DaemonSetUpdateStrategyType{
			appsv1.RollingUpdateDaemonSetStrategyType, appsv1.OnDeleteDaemonSetStrategyType}))
	}
	path = path.Child("rollingUpdate")
	if s.RollingUpdate == nil {
		return append(errs, field.Required(path, ""))
	}
	unavailable, surge := ptr.Deref(s.RollingUpdate.MaxUnavailable, intstr.IntOrString{}), ptr.Deref(s.RollingUpdate.MaxSurge, intstr.IntOrString{})
	errs = append(errs, countOrPercent(unavailable, path.Child("maxUnavailable"))...)
	errs = append(errs, countOrPercent(surge, path.Child("maxSurge"))...)
	errs = append(errs, notMoreThanAll(unavailable, path.Child("maxUnavailable"))...)
	errs = append(errs, notMoreThanAll(surge, path.Child("maxSurge"))...)
	switch {
	case value(unavailable) != 0 && value(surge) != 0:
		errs = append(errs, field.Invalid(path.Child("maxSurge"), surge, "may not be set when maxUnavailable is non-zero"))
	case value(unavailable) == 0 && value(surge) == 0:
		errs = append(errs, field.Required(path.Child("maxUnavailable"), "cannot be 0 when maxSurge is 0"))
	}
	return errs
}

func validateDaemonSetStatus(ds, old *appsv1.DaemonSet) (errs field.ErrorList) {
	s, path := &ds.Status, field.NewPath("status")
	errs = append(errs, kind.NotNegative(int64(s.CurrentNumberScheduled), path.Child("currentNumberScheduled"))...)
	errs = append(errs, kind.NotNegative(int64(s.NumberMisscheduled), path.Child("numberMisscheduled"))...)
	errs = append(errs, kind.NotNegative(int64(s.DesiredNumberScheduled), path.Child("desiredNumberScheduled"))...)
	errs = append(errs, kind.NotNegative(int64(s.NumberReady), path.Child("numberReady"))...)
	errs = append(errs, kind.NotNegative(s.ObservedGeneration, path.Child("observedGeneration"))...)
	errs = append(errs, kind.NotNegative(int64(s.UpdatedNumberScheduled), path.Child("updatedNumberScheduled"))...)
	errs = append(errs, kind.NotNegative(int64(s.NumberAvailable), path.Child("numberAvailable"))...)
	errs = append(errs, kind.NotNegative(int64(s.NumberUnavailable), path.Child("numberUnavailable"))...)
	var before *int32
	if old != nil {
		before = old.Status.CollisionCount
	}
	return append(errs, collisions(s.CollisionCount, before, path.Child("collisionCount"))...)
}
