package autoscaling

import (
	"encoding/json"
	"fmt"
	"maps"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/kind"
)

// Annotations in which version 1 carries what it has no fields for; names and
// contents are upstream's. The metrics are in version 1's own form, which does
// not tell a target's type, so that only what is valid comes back the same.
const (
	annMetrics    = "autoscaling.alpha.kubernetes.io/metrics"
	annCurrent    = "autoscaling.alpha.kubernetes.io/current-metrics"
	annConditions = "autoscaling.alpha.kubernetes.io/conditions"
	annBehavior   = "autoscaling.alpha.kubernetes.io/behavior"
)

func version1() kind.Version {
	return kind.Version{
		GVK:     autoscalingv1.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"),
		New:     func() kind.Object { return &autoscalingv1.HorizontalPodAutoscaler{} },
		ToHub:   toHub,
		FromHub: fromHub,
	}
}

// usesCPU is true for the one metric that version 1 has a field for.
func usesCPU(m *autoscalingv2.MetricSpec) bool {
	return m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil && m.Resource.Name == corev1.ResourceCPU && m.Resource.Target.AverageUtilization != nil
}

func fromHub(obj kind.Object) (kind.Object, error) {
	hub, ok := obj.(*autoscalingv2.HorizontalPodAutoscaler)
	if !ok {
		return nil, fmt.Errorf("horizontal pod autoscaler: cannot convert a %T to autoscaling/v1", obj)
	}
	hub = hub.DeepCopy()
	h := &autoscalingv1.HorizontalPodAutoscaler{
		TypeMeta:   metav1.TypeMeta{APIVersion: "autoscaling/v1", Kind: "HorizontalPodAutoscaler"},
		ObjectMeta: hub.ObjectMeta,
		Spec: autoscalingv1.HorizontalPodAutoscalerSpec{ScaleTargetRef: autoscalingv1.CrossVersionObjectReference(hub.Spec.ScaleTargetRef),
			MinReplicas: hub.Spec.MinReplicas, MaxReplicas: hub.Spec.MaxReplicas},
		Status: autoscalingv1.HorizontalPodAutoscalerStatus{ObservedGeneration: hub.Status.ObservedGeneration, LastScaleTime: hub.Status.LastScaleTime,
			CurrentReplicas: hub.Status.CurrentReplicas, DesiredReplicas: hub.Status.DesiredReplicas},
	}
	h.Annotations = withoutOurs(h.Annotations)
	var others []autoscalingv1.MetricSpec
	for i := range hub.Spec.Metrics {
		m := &hub.Spec.Metrics[i]
		if !usesCPU(m) {
			others = append(others, metricTo1(m))
		} else if h.Spec.TargetCPUUtilizationPercentage == nil {
			h.Spec.TargetCPUUtilizationPercentage = m.Resource.Target.AverageUtilization
		}
	}
	var current []autoscalingv1.MetricStatus
	for i := range hub.Status.CurrentMetrics {
		m := &hub.Status.CurrentMetrics[i]
		if m.Type == autoscalingv2.ResourceMetricSourceType && m.Resource != nil && m.Resource.Name == corev1.ResourceCPU && m.Resource.Current.AverageUtilization != nil {
			h.Status.CurrentCPUUtilizationPercentage = m.Resource.Current.AverageUtilization
		}
		current = append(current, statusTo1(m))
	}
	conditions := conditionsTo1(hub.Status.Conditions)
	for _, a := range []struct {
		key   string
		set   bool
		value any
	}{
		{annMetrics, len(others) > 0, others}, {annCurrent, len(current) > 0, current},
		{annConditions, len(conditions) > 0, conditions}, {annBehavior, hub.Spec.Behavior != nil, hub.Spec.Behavior},
	} {
		if !a.set {
			continue
		}
		text, err := json.Marshal(a.value)
		if err != nil {
			return nil, fmt.Errorf("horizontal pod autoscaler %s/%s: %s: %w", hub.Namespace, hub.Name, a.key, err)
		}
		metav1.SetMetaDataAnnotation(&h.ObjectMeta, a.key, string(text))
	}
	return h, nil
}

func withoutOurs(a map[string]string) map[string]string {
	out := maps.Clone(a)
	for _, key := range []string{annMetrics, annCurrent, annConditions, annBehavior} {
		delete(out, key)
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// toHub takes what the annotations say where they can be read, as upstream.
func toHub(obj kind.Object) (kind.Object, error) {
	h, ok := obj.(*autoscalingv1.HorizontalPodAutoscaler)
	if !ok {
		return nil, fmt.Errorf("horizontal pod autoscaler: cannot convert a %T to autoscaling/v2", obj)
	}
	hub := &autoscalingv2.HorizontalPodAutoscaler{
		TypeMeta:   metav1.TypeMeta{APIVersion: "autoscaling/v2", Kind: "HorizontalPodAutoscaler"},
		ObjectMeta: h.ObjectMeta,
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{ScaleTargetRef: autoscalingv2.CrossVersionObjectReference(h.Spec.ScaleTargetRef),
			MinReplicas: h.Spec.MinReplicas, MaxReplicas: h.Spec.MaxReplicas},
		Status: autoscalingv2.HorizontalPodAutoscalerStatus{ObservedGeneration: h.Status.ObservedGeneration, LastScaleTime: h.Status.LastScaleTime,
			CurrentReplicas: h.Status.CurrentReplicas, DesiredReplicas: h.Status.DesiredReplicas},
	}
	read := func(key string, into any) bool {
		text, ok := h.Annotations[key]
		return ok && json.Unmarshal([]byte(text), into) == nil
	}
	var others []autoscalingv1.MetricSpec
	if read(annMetrics, &others) {
		for i := range others {
			hub.Spec.Metrics = append(hub.Spec.Metrics, metricFrom1(&others[i]))
		}
	}
	if p := h.Spec.TargetCPUUtilizationPercentage; p != nil {
		hub.Spec.Metrics = append(hub.Spec.Metrics, cpu(*p))
	}
	var behavior autoscalingv2.HorizontalPodAutoscalerBehavior
	if read(annBehavior, &behavior) && behavior != (autoscalingv2.HorizontalPodAutoscalerBehavior{}) {
		hub.Spec.Behavior = &behavior
	}
	var current []autoscalingv1.MetricStatus
	if read(annCurrent, &current) {
		for i := range current {
			hub.Status.CurrentMetrics = append(hub.Status.CurrentMetrics, statusFrom1(&current[i]))
		}
	} else if p := h.Status.CurrentCPUUtilizationPercentage; p != nil {
		hub.Status.CurrentMetrics = []autoscalingv2.MetricStatus{{Type: autoscalingv2.ResourceMetricSourceType,
			Resource: &autoscalingv2.ResourceMetricStatus{Name: corev1.ResourceCPU, Current: autoscalingv2.MetricValueStatus{AverageUtilization: p}}}}
	}
	var conditions []autoscalingv1.HorizontalPodAutoscalerCondition
	if read(annConditions, &conditions) {
		hub.Status.Conditions = conditionsFrom1(conditions)
	}
	hub.Annotations = withoutOurs(hub.Annotations)
	return hub, nil
}

func conditionsTo1(from []autoscalingv2.HorizontalPodAutoscalerCondition) (all []autoscalingv1.HorizontalPodAutoscalerCondition) {
	for _, c := range from {
		all = append(all, autoscalingv1.HorizontalPodAutoscalerCondition{Type: autoscalingv1.HorizontalPodAutoscalerConditionType(c.Type),
			Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message})
	}
	return all
}

func conditionsFrom1(from []autoscalingv1.HorizontalPodAutoscalerCondition) (all []autoscalingv2.HorizontalPodAutoscalerCondition) {
	for _, c := range from {
		all = append(all, autoscalingv2.HorizontalPodAutoscalerCondition{Type: autoscalingv2.HorizontalPodAutoscalerConditionType(c.Type),
			Status: c.Status, LastTransitionTime: c.LastTransitionTime, Reason: c.Reason, Message: c.Message})
	}
	return all
}
