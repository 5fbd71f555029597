package apps

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"sampan/cluster/kind"
	"sampan/cluster/kind/podspec"
)

// Deployment moves from one ReplicaSet to the next as its template changes.
func Deployment() *kind.Kind {
	return kind.Declare(kind.Of[appsv1.Deployment]{
		GVK:        appsv1.SchemeGroupVersion.WithKind("Deployment"),
		Plural:     "deployments",
		Short:      []string{"deploy"},
		Categories: []string{"all"},
		Default:    defaultDeployment,
		Prepare: func(d, old *appsv1.Deployment) {
			podspec.SyncServiceAccount(&d.Spec.Template.Spec)
			if old != nil && !kind.Equal(d.Annotations, old.Annotations) {
				d.Generation = old.Generation + 1 // as upstream: the controller copies them
			}
		},
		Validate: validateDeployment,
		Ignored:  kind.Paths("spec.template.spec.", podspec.Gaps),
		Warn: func(d, old *appsv1.Deployment) []string {
			texts := podspec.TemplateWarnings(&d.Spec.Template, field.NewPath("spec", "template"))
			if old == nil {
				return append(podspec.NameWarnings(d.Name), texts...)
			}
			return texts
		},
		Spec: func(d *appsv1.Deployment) any { return &d.Spec },
		Parts: map[string]kind.Part[appsv1.Deployment]{
			"status": {
				Take:         func(dst, src *appsv1.Deployment) { dst.Status = src.Status },
				WithMetadata: true,
				Keeps:        []string{"labels"},
				Validate:     validateDeploymentStatus,
			},
		},
		Scale: &kind.Scale[appsv1.Deployment]{
			Get: func(d *appsv1.Deployment) (autoscalingv1.ScaleSpec, autoscalingv1.ScaleStatus) {
				return autoscalingv1.ScaleSpec{Replicas: ptr.Deref(d.Spec.Replicas, 1)},
					autoscalingv1.ScaleStatus{Replicas: d.Status.Replicas, Selector: selectorString(d.Spec.Selector)}
			},
			Set: func(d *appsv1.Deployment, n int32) { d.Spec.Replicas = &n },
		},
		Columns: []kind.Column[appsv1.Deployment]{
			{Name: "Ready", Description: "Number of the pod with ready state",
				Cell: func(d *appsv1.Deployment, _ time.Time) any {
					return fmt.Sprintf("%d/%d", d.Status.ReadyReplicas, ptr.Deref(d.Spec.Replicas, 1))
				}},
			{Name: "Up-to-date", Description: appsv1.DeploymentStatus{}.SwaggerDoc()["updatedReplicas"],
				Cell: func(d *appsv1.Deployment, _ time.Time) any { return int64(d.Status.UpdatedReplicas) }},
			{Name: "Available", Description: appsv1.DeploymentStatus{}.SwaggerDoc()["availableReplicas"],
				Cell: func(d *appsv1.Deployment, _ time.Time) any { return int64(d.Status.AvailableReplicas) }},
			kind.Age[appsv1.Deployment](),
			{Name: "Containers", Priority: 1, Description: "Names of each container in the template.",
				Cell: func(d *appsv1.Deployment, _ time.Time) any { n, _ := containerCells(&d.Spec.Template); return n }},
			{Name: "Images", Priority: 1, Description: "Images referenced by each container in the template.",
				Cell: func(d *appsv1.Deployment, _ time.Time) any { _, i := containerCells(&d.Spec.Template); return i }},
			{Name: "Selector", Priority: 1, Description: appsv1.DeploymentSpec{}.SwaggerDoc()["selector"],
				Cell: func(d *appsv1.Deployment, _ time.Time) any { return selectorCell(d.Spec.Selector) }},
		},
	})
}

func defaultDeployment(d *appsv1.Deployment) {
	number := func(p **int32, n int32) {
		if *p == nil {
			*p = &n
		}
	}
	number(&d.Spec.Replicas, 1)
	number(&d.Spec.RevisionHistoryLimit, 10)
	number(&d.Spec.ProgressDeadlineSeconds, 600)
	s := &d.Spec.Strategy
	if s.Type == "" {
		s.Type = appsv1.RollingUpdateDeploymentStrategyType
	}
	if s.Type == appsv1.RollingUpdateDeploymentStrategyType {
		if s.RollingUpdate == nil {
			s.RollingUpdate = &appsv1.RollingUpdateDeployment{}
		}
		quarter := func(p **intstr.IntOrString) {
			if *p == nil {
				v := intstr.FromString("25%")
				*p = &v
			}
		}
		quarter(&s.RollingUpdate.MaxUnavailable)
		quarter(&s.RollingUpdate.MaxSurge)
	}
	podspec.DefaultTemplate(&d.Spec.Template)
}

func validateDeployment(d, old *appsv1.Deployment) (errs field.ErrorList) {
	spec := field.NewPath("spec")
	errs = append(errs, kind.NotNegative(int64(ptr.Deref(d.Spec.Replicas, 0)), spec.Child("replicas"))...)
	if old == nil {
		errs = append(errs, selectorAndTemplate(d.Spec.Selector, &d.Spec.Template, nil, spec)...)
	} else {
		errs = append(errs, selectorAndTemplate(d.Spec.Selector, &d.Spec.Template, &old.Spec.Template, spec)...)
	}
	errs = append(errs, strategy(&d.Spec.Strategy, spec.Child("strategy"))...)
	errs = append(errs, kind.NotNegative(int64(d.Spec.MinReadySeconds), spec.Child("minReadySeconds"))...)
	if n := d.Spec.RevisionHistoryLimit; n != nil {
		errs = append(errs, kind.NotNegative(int64(*n), spec.Child("revisionHistoryLimit"))...)
	}
	if n := d.Spec.ProgressDeadlineSeconds; n != nil {
		path := spec.Child("progressDeadlineSeconds")
		errs = append(errs, kind.NotNegative(int64(*n), path)...)
		if *n <= d.Spec.MinReadySeconds {
			errs = append(errs, field.Invalid(path, *n, "must be greater than minReadySeconds"))
		}
	}
	if old != nil {
		errs = append(errs, kind.Immutable(d.Spec.Selector, old.Spec.Selector, spec.Child("selector"))...)
	}
	return errs
}

func strategy(s *appsv1.DeploymentStrategy, path *field.Path) (errs field.ErrorList) {
	switch s.Type {
	case appsv1.RecreateDeploymentStrategyType:
		if s.RollingUpdate != nil {
			errs = append(errs, field.Forbidden(path.Child("rollingUpdate"),
				"may not be specified when strategy `type` is '"+string(appsv1.RecreateDeploymentStrategyType)+"'"))
		}
	case appsv1.RollingUpdateDeploymentStrategyType:
		if s.RollingUpdate == nil {
			return append(errs, field.Required(path.Child("rollingUpdate"), "this should be defaulted and never be nil"))
		}
		errs = append(errs, rolling(s.RollingUpdate, path.Child("rollingUpdate"))...)
	default:
		errs = append(errs, field.NotSupported(path, s, []appsv1.DeploymentStrategyType{
			appsv1.RecreateDeploymentStrategyType, appsv1.RollingUpdateDeploymentStrategyType}))
	}
	return errs
}

func rolling(r *appsv1.RollingUpdateDeployment, path *field.Path) (errs field.ErrorList) {
	unavailable, surge := ptr.Deref(r.MaxUnavailable, intstr.IntOrString{}), ptr.Deref(r.MaxSurge, intstr.IntOrString{})
	errs = append(errs, countOrPercent(unavailable, path.Child("maxUnavailable"))...)
	errs = append(errs, countOrPercent(surge, path.Child("maxSurge"))...)
	if value(unavailable) == 0 && value(surge) == 0 {
		errs = append(errs, field.Invalid(path.Child("maxUnavailable"), unavailable, "may not be 0 when `maxSurge` is 0"))
	}
	return append(errs, notMoreThanAll(unavailable, path.Child("maxUnavailable"))...)
}

func notMoreThanAll(v intstr.IntOrString, path *field.Path) (errs field.ErrorList) {
	if p, ok := percent(v); ok && p > 100 {
		errs = append(errs, field.Invalid(path, v, "must not be greater than 100%"))
	}
	return errs
}

func countOrPercent(v intstr.IntOrString, path *field.Path) (errs field.ErrorList) {
	if v.Type == intstr.Int {
		return kind.NotNegative(int64(v.IntVal), path)
	}
	for _, msg := range validation.IsValidPercent(v.StrVal) {
		errs = append(errs, field.Invalid(path, v, msg))
	}
	return errs
}

// value is a count or, of a percentage, its number: only zero matters.
func value(v intstr.IntOrString) int {
	if p, ok := percent(v); ok {
		return p
	}
	return v.IntValue()
}

func percent(v intstr.IntOrString) (int, bool) {
	text, ok := strings.CutSuffix(v.StrVal, "%")
	if v.Type != intstr.String || !ok || len(validation.IsValidPercent(v.StrVal)) > 0 {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return math.MaxInt, true // more digits than an int has
	}
	return n, true
}

func validateDeploymentStatus(d, old *appsv1.Deployment) (errs field.ErrorList) {
	s, path := &d.Status, field.NewPath("status")
	errs = append(errs, kind.NotNegative(s.ObservedGeneration, path.Child("observedGeneration"))...)
	errs = append(errs, kind.NotNegative(int64(s.Replicas), path.Child("replicas"))...)
	errs = append(errs, kind.NotNegative(int64(s.UpdatedReplicas), path.Child("updatedReplicas"))...)
	errs = append(errs, kind.NotNegative(int64(s.ReadyReplicas), path.Child("readyReplicas"))...)
	errs = append(errs, kind.NotNegative(int64(s.AvailableReplicas), path.Child("availableReplicas"))...)
	errs = append(errs, kind.NotNegative(int64(s.UnavailableReplicas), path.Child("unavailableReplicas"))...)
	if t := s.TerminatingReplicas; t != nil {
		errs = append(errs, kind.NotNegative(int64(*t), path.Child("terminatingReplicas"))...)
	}
	if c := s.CollisionCount; c != nil {
		errs = append(errs, kind.NotNegative(int64(*c), path.Child("collisionCount"))...)
		if old != nil && ptr.Deref(old.Status.CollisionCount, 0) > *c {
			errs = append(errs, field.Invalid(path.Child("collisionCount"), *c, "cannot be decremented"))
		}
	} else if old != nil && old.Status.CollisionCount != nil {
		errs = append(errs, field.Invalid(path.Child("collisionCount"), s.CollisionCount, "cannot be decremented"))
	}
	const most = "cannot be greater than status.replicas"
	if s.UpdatedReplicas > s.Replicas {
		errs = append(errs, field.Invalid(path.Child("updatedReplicas"), s.UpdatedReplicas, most))
	}
	if s.ReadyReplicas > s.Replicas {
		errs = append(errs, field.Invalid(path.Child("readyReplicas"), s.ReadyReplicas, most))
	}
	if s.AvailableReplicas > s.Replicas {
		errs = append(errs, field.Invalid(path.Child("availableReplicas"), s.AvailableReplicas, most))
	}
	if s.AvailableReplicas > s.ReadyReplicas {
		errs = append(errs, field.Invalid(path.Child("availableReplicas"), s.AvailableReplicas, "cannot be greater than readyReplicas"))
	}
	return errs
}
