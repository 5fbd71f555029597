package autoscaling

import (
	"errors"
	"fmt"
	"slices"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
	"sampan/cluster/kind/podspec"
)

// Upstream's limits, in seconds.
const (
	maxPeriod = 1800
	maxWindow = 3600
)

func validateAutoscaler(h, old *autoscalingv2.HorizontalPodAutoscaler) (errs field.ErrorList) {
	spec, s := field.NewPath("spec"), &h.Spec
	if s.MinReplicas != nil {
		errs = append(errs, kind.NotNegative(int64(*s.MinReplicas), spec.Child("minReplicas"))...)
	}
	most := spec.Child("maxReplicas")
	switch {
	case s.MaxReplicas == 0:
		errs = append(errs, field.Required(most, ""))
	case s.MaxReplicas < 0:
		errs = append(errs, field.Invalid(most, s.MaxReplicas, "must be greater than or equal to 1").WithOrigin("minimum"))
	}
	if s.MinReplicas != nil && s.MaxReplicas < *s.MinReplicas {
		errs = append(errs, field.Invalid(most, s.MaxReplicas, "must be greater than or equal to `minReplicas`"))
	}
	known := old != nil && s.ScaleTargetRef.Kind == old.Spec.ScaleTargetRef.Kind && s.ScaleTargetRef.APIVersion == old.Spec.ScaleTargetRef.APIVersion
	errs = append(errs, reference(s.ScaleTargetRef, known, spec.Child("scaleTargetRef"))...)
	metrics := spec.Child("metrics")
	for i := range s.Metrics {
		errs = append(errs, metric(&s.Metrics[i], metrics.Index(i))...)
	}
	if s.MinReplicas != nil && *s.MinReplicas == 0 && !slices.ContainsFunc(s.Metrics, elsewhere) {
		errs = append(errs, field.Forbidden(metrics, "must specify at least one Object or External metric to support scaling to zero replicas"))
	}
	if b := s.Behavior; b != nil {
		errs = append(errs, scaling(b.ScaleUp, spec.Child("behavior", "scaleUp"))...)
		errs = append(errs, scaling(b.ScaleDown, spec.Child("behavior", "scaleDown"))...)
	}
	return errs
}

// elsewhere is true for a metric that is there without a pod.
func elsewhere(m autoscalingv2.MetricSpec) bool {
	return m.Type == autoscalingv2.ObjectMetricSourceType || m.Type == autoscalingv2.ExternalMetricSourceType
}

func validateStatus(h, _ *autoscalingv2.HorizontalPodAutoscaler) (errs field.ErrorList) {
	status := field.NewPath("status")
	errs = append(errs, kind.NotNegative(int64(h.Status.CurrentReplicas), status.Child("currentReplicas"))...)
	return append(errs, kind.NotNegative(int64(h.Status.DesiredReplicas), status.Child("desiredReplicas"))...)
}

func segment(s, needed string, path *field.Path) (errs field.ErrorList) {
	if s == "" {
		return field.ErrorList{field.Required(path, needed)}
	}
	for _, msg := range content.IsPathSegmentName(s) {
		errs = append(errs, field.Invalid(path, s, msg))
	}
	return errs
}

// reference checks whom it is about. known is true for one that is stored
// already: its apiVersion may be anything.
func reference(r autoscalingv2.CrossVersionObjectReference, known bool, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, segment(r.Kind, "", path.Child("kind"))...)
	errs = append(errs, segment(r.Name, "", path.Child("name"))...)
	if known {
		return errs
	}
	gv, err := schema.ParseGroupVersion(r.APIVersion)
	if err == nil && gv.Group == "" && r.Kind != "ReplicationController" {
		err = errors.New("apiVersion must specify API group")
	}
	if err != nil {
		errs = append(errs, field.Invalid(path.Child("apiVersion"), r.APIVersion, err.Error()))
	}
	return errs
}

func scaling(r *autoscalingv2.HPAScalingRules, path *field.Path) (errs field.ErrorList) {
	if r == nil {
		return nil
	}
	if w, at := r.StabilizationWindowSeconds, path.Child("stabilizationWindowSeconds"); w != nil && *w < 0 {
		errs = append(errs, field.Invalid(at, w, "must be greater than or equal to zero"))
	} else if w != nil && *w > maxWindow {
		errs = append(errs, field.Invalid(at, w, fmt.Sprintf("must be less than or equal to %v", maxWindow)))
	}
	if p := r.SelectPolicy; p != nil && *p != autoscalingv2.MaxChangePolicySelect && *p != autoscalingv2.MinChangePolicySelect && *p != autoscalingv2.DisabledPolicySelect {
		errs = append(errs, field.NotSupported(path.Child("selectPolicy"), p, []autoscalingv2.ScalingPolicySelect{
			autoscalingv2.DisabledPolicySelect, autoscalingv2.MaxChangePolicySelect, autoscalingv2.MinChangePolicySelect}))
	}
	policies := path.Child("policies")
	if len(r.Policies) == 0 {
		errs = append(errs, field.Required(policies, "must specify at least one Policy"))
	}
	for i, p := range r.Policies {
		at := policies.Index(i)
		if p.Type != autoscalingv2.PodsScalingPolicy && p.Type != autoscalingv2.PercentScalingPolicy {
			errs = append(errs, field.NotSupported(at.Child("type"), p.Type, []autoscalingv2.HPAScalingPolicyType{autoscalingv2.PercentScalingPolicy, autoscalingv2.PodsScalingPolicy}))
		}
		if p.Value <= 0 {
			errs = append(errs, field.Invalid(at.Child("value"), p.Value, "must be greater than zero"))
		}
		if p.PeriodSeconds <= 0 {
			errs = append(errs, field.Invalid(at.Child("periodSeconds"), p.PeriodSeconds, "must be greater than zero"))
		}
		if p.PeriodSeconds > maxPeriod {
			errs = append(errs, field.Invalid(at.Child("periodSeconds"), p.PeriodSeconds, fmt.Sprintf("must be less than or equal to %v", maxPeriod)))
		}
	}
	if t := r.Tolerance; t != nil && t.Sign() < 0 {
		errs = append(errs, field.Invalid(path.Child("tolerance"), t.String(), "must be greater than or equal to 0").WithOrigin("minimum"))
	}
	return errs
}

func metric(m *autoscalingv2.MetricSpec, path *field.Path) (errs field.ErrorList) {
	sources := []struct {
		typ   autoscalingv2.MetricSourceType
		name  string
		set   bool
		check func(*field.Path) field.ErrorList
	}{
		{autoscalingv2.ObjectMetricSourceType, "object", m.Object != nil, func(at *field.Path) field.ErrorList { return object(m.Object, at) }},
		{autoscalingv2.ExternalMetricSourceType, "external", m.External != nil, func(at *field.Path) field.ErrorList { return external(m.External, at) }},
		{autoscalingv2.PodsMetricSourceType, "pods", m.Pods != nil, func(at *field.Path) field.ErrorList { return pods(m.Pods, at) }},
		{autoscalingv2.ResourceMetricSourceType, "resource", m.Resource != nil, func(at *field.Path) (errs field.ErrorList) {
			if m.Resource.Name == "" {
				errs = append(errs, field.Required(at.Child("name"), "must specify a resource name"))
			}
			return append(errs, usage(&m.Resource.Target, at)...)
		}},
		{autoscalingv2.ContainerResourceMetricSourceType, "containerResource", m.ContainerResource != nil, func(at *field.Path) field.ErrorList { return container(m.ContainerResource, at) }},
	}
	if m.Type == "" {
		errs = append(errs, field.Required(path.Child("type"), "must specify a metric source type"))
	}
	known, first := false, true
	for _, s := range sources {
		known = known || s.typ == m.Type
		if s.set && first {
			errs = append(errs, s.check(path.Child(s.name))...)
		}
		first = first && !s.set
	}
	if !known { // upstream says so twice
		unknown := field.NotSupported(path.Child("type"), m.Type, []autoscalingv2.MetricSourceType{autoscalingv2.ContainerResourceMetricSourceType,
			autoscalingv2.ExternalMetricSourceType, autoscalingv2.ObjectMetricSourceType, autoscalingv2.PodsMetricSourceType, autoscalingv2.ResourceMetricSourceType})
		errs = append(errs, unknown, unknown)
	}
	n := 0
	for _, s := range sources {
		if s.set {
			n++
		} else if s.typ == m.Type {
			errs = append(errs, field.Required(path.Child(s.name), "must populate information for the given metric source"))
		}
	}
	for _, s := range sources {
		if n > 1 && s.set && s.typ != m.Type {
			errs = append(errs, field.Forbidden(path.Child(s.name), "must populate the given metric source only"))
		}
	}
	return errs
}

func object(o *autoscalingv2.ObjectMetricSource, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, reference(o.DescribedObject, true, path.Child("describedObject"))...)
	errs = append(errs, segment(o.Metric.Name, "must specify a metric name", path.Child("metric", "name"))...)
	errs = append(errs, wanted(&o.Target, path.Child("target"))...)
	if o.Target.Value == nil && o.Target.AverageValue == nil {
		errs = append(errs, field.Required(path.Child("target", "averageValue"), "must set either a target value or averageValue"))
	}
	return errs
}

func external(e *autoscalingv2.ExternalMetricSource, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, segment(e.Metric.Name, "must specify a metric name", path.Child("metric", "name"))...)
	errs = append(errs, wanted(&e.Target, path.Child("target"))...)
	switch t := &e.Target; {
	case t.Value == nil && t.AverageValue == nil:
		errs = append(errs, field.Required(path.Child("target", "averageValue"), "must set either a target value for metric or a per-pod target"))
	case t.Value != nil && t.AverageValue != nil:
		errs = append(errs, field.Forbidden(path.Child("target", "value"), "may not set both a target value for metric and a per-pod target"))
	}
	return errs
}

func pods(p *autoscalingv2.PodsMetricSource, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, segment(p.Metric.Name, "must specify a metric name", path.Child("metric", "name"))...)
	errs = append(errs, wanted(&p.Target, path.Child("target"))...)
	if p.Target.AverageValue == nil {
		errs = append(errs, field.Required(path.Child("target", "averageValue"), "must specify a positive target averageValue"))
	}
	return errs
}

func container(c *autoscalingv2.ContainerResourceMetricSource, path *field.Path) (errs field.ErrorList) {
	if c.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), "must specify a resource name"))
	} else {
		r := corev1.ResourceRequirements{Limits: corev1.ResourceList{c.Name: resource.Quantity{}}}
		for _, err := range podspec.ValidateAmounts(&r, path) { // for what it says about the name
			err.Field = path.Child("name").String()
			errs = append(errs, err)
		}
	}
	if c.Container == "" {
		errs = append(errs, field.Required(path.Child("container"), "must specify a container"))
	} else {
		errs = append(errs, kind.DNSLabel(c.Container, path.Child("container"))...)
	}
	return append(errs, usage(&c.Target, path)...)
}

// usage checks what is wanted of a resource.
func usage(t *autoscalingv2.MetricTarget, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, wanted(t, path.Child("target"))...)
	switch {
	case t.AverageUtilization == nil && t.AverageValue == nil:
		errs = append(errs, field.Required(path.Child("target", "averageUtilization"), "must set either a target raw value or a target utilization"))
	case t.AverageUtilization != nil && t.AverageValue != nil:
		errs = append(errs, field.Forbidden(path.Child("target", "averageValue"), "may not set both a target raw value and a target utilization"))
	}
	return errs
}

func wanted(t *autoscalingv2.MetricTarget, path *field.Path) (errs field.ErrorList) {
	if t.Type == "" {
		errs = append(errs, field.Required(path.Child("type"), "must specify a metric target type"))
	}
	if t.Type != autoscalingv2.UtilizationMetricType && t.Type != autoscalingv2.ValueMetricType && t.Type != autoscalingv2.AverageValueMetricType {
		errs = append(errs, field.Invalid(path.Child("type"), t.Type, "must be either Utilization, Value, or AverageValue"))
	}
	if t.Value != nil && t.Value.Sign() != 1 {
		errs = append(errs, field.Invalid(path.Child("value"), t.Value, "must be positive"))
	}
	if t.AverageValue != nil && t.AverageValue.Sign() != 1 {
		errs = append(errs, field.Invalid(path.Child("averageValue"), t.AverageValue, "must be positive"))
	}
	if t.AverageUtilization != nil && *t.AverageUtilization < 1 {
		errs = append(errs, field.Invalid(path.Child("averageUtilization"), t.AverageUtilization, "must be greater than 0"))
	}
	return errs
}
