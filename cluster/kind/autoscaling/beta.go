package autoscaling

import (
	"encoding/json"
	"fmt"
	"maps"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/kind"
)

// betaAutoscaler is a HorizontalPodAutoscaler of v2beta1, whose Go types
// k8s.io/api has no more. Version 1 carries its metrics in annotations, so their
// types are those of version 1.
type betaAutoscaler struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              betaSpec   `json:"spec,omitempty"`
	Status            betaStatus `json:"status,omitempty"`
}

type betaSpec struct {
	ScaleTargetRef autoscalingv1.CrossVersionObjectReference `json:"scaleTargetRef"`
	MinReplicas    *int32                                    `json:"minReplicas,omitempty"`
	MaxReplicas    int32                                     `json:"maxReplicas"`
	Metrics        []autoscalingv1.MetricSpec                `json:"metrics,omitempty"`
}

type betaStatus struct {
	ObservedGeneration *int64                                           `json:"observedGeneration,omitempty"`
	LastScaleTime      *metav1.Time                                     `json:"lastScaleTime,omitempty"`
	CurrentReplicas    int32                                            `json:"currentReplicas"`
	DesiredReplicas    int32                                            `json:"desiredReplicas"`
	CurrentMetrics     []autoscalingv1.MetricStatus                     `json:"currentMetrics"`
	Conditions         []autoscalingv1.HorizontalPodAutoscalerCondition `json:"conditions"`
}

// DeepCopyObject implements runtime.Object.
func (b *betaAutoscaler) DeepCopyObject() runtime.Object {
	out := &betaAutoscaler{TypeMeta: b.TypeMeta}
	b.ObjectMeta.DeepCopyInto(&out.ObjectMeta)
	// The types within know how to copy themselves as parts of version 1's.
	spec := autoscalingv2.HorizontalPodAutoscalerSpec{MinReplicas: b.Spec.MinReplicas}
	out.Spec = betaSpec{ScaleTargetRef: b.Spec.ScaleTargetRef, MinReplicas: spec.DeepCopy().MinReplicas, MaxReplicas: b.Spec.MaxReplicas}
	for i := range b.Spec.Metrics {
		out.Spec.Metrics = append(out.Spec.Metrics, *b.Spec.Metrics[i].DeepCopy())
	}
	status := autoscalingv2.HorizontalPodAutoscalerStatus{ObservedGeneration: b.Status.ObservedGeneration, LastScaleTime: b.Status.LastScaleTime}
	own := status.DeepCopy()
	out.Status = betaStatus{ObservedGeneration: own.ObservedGeneration, LastScaleTime: own.LastScaleTime,
		CurrentReplicas: b.Status.CurrentReplicas, DesiredReplicas: b.Status.DesiredReplicas}
	for i := range b.Status.CurrentMetrics {
		out.Status.CurrentMetrics = append(out.Status.CurrentMetrics, *b.Status.CurrentMetrics[i].DeepCopy())
	}
	for i := range b.Status.Conditions {
		out.Status.Conditions = append(out.Status.Conditions, *b.Status.Conditions[i].DeepCopy())
	}
	return out
}

// Beta is autoscaling/v2beta1, which upstream serves no more. It has no protobuf.
func Beta() kind.Version {
	gvk := schema.GroupVersionKind{Group: autoscalingv2.GroupName, Version: "v2beta1", Kind: "HorizontalPodAutoscaler"}
	return kind.Version{
		GVK: gvk, Old: true,
		Deprecated: "autoscaling/v2beta1 HorizontalPodAutoscaler is deprecated in v1.22+, unavailable in v1.25+; use autoscaling/v2 HorizontalPodAutoscaler",
		New:        func() kind.Object { return &betaAutoscaler{} },
		ToHub:      betaToHub,
		FromHub:    betaFromHub,
	}
}

func betaToHub(obj kind.Object) (kind.Object, error) {
	b, ok := obj.(*betaAutoscaler)
	if !ok {
		return nil, fmt.Errorf("horizontal pod autoscaler: cannot convert a %T to autoscaling/v2", obj)
	}
	hub := &autoscalingv2.HorizontalPodAutoscaler{
		TypeMeta:   metav1.TypeMeta{APIVersion: "autoscaling/v2", Kind: "HorizontalPodAutoscaler"},
		ObjectMeta: b.ObjectMeta,
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{ScaleTargetRef: autoscalingv2.CrossVersionObjectReference(b.Spec.ScaleTargetRef),
			MinReplicas: b.Spec.MinReplicas, MaxReplicas: b.Spec.MaxReplicas},
		Status: autoscalingv2.HorizontalPodAutoscalerStatus{ObservedGeneration: b.Status.ObservedGeneration, LastScaleTime: b.Status.LastScaleTime,
			CurrentReplicas: b.Status.CurrentReplicas, DesiredReplicas: b.Status.DesiredReplicas, Conditions: conditionsFrom1(b.Status.Conditions)},
	}
	for i := range b.Spec.Metrics {
		hub.Spec.Metrics = append(hub.Spec.Metrics, metricFrom1(&b.Spec.Metrics[i]))
	}
	for i := range b.Status.CurrentMetrics {
		hub.Status.CurrentMetrics = append(hub.Status.CurrentMetrics, statusFrom1(&b.Status.CurrentMetrics[i]))
	}
	if text, ok := b.Annotations[annBehavior]; ok {
		var behavior autoscalingv2.HorizontalPodAutoscalerBehavior
		if json.Unmarshal([]byte(text), &behavior) == nil && behavior != (autoscalingv2.HorizontalPodAutoscalerBehavior{}) {
			hub.Spec.Behavior = &behavior
		}
		hub.Annotations = maps.Clone(b.Annotations)
		delete(hub.Annotations, annBehavior)
		if len(hub.Annotations) == 0 {
			hub.Annotations = nil
		}
	}
	return hub, nil
}

func betaFromHub(obj kind.Object) (kind.Object, error) {
	hub, ok := obj.(*autoscalingv2.HorizontalPodAutoscaler)
	if !ok {
		return nil, fmt.Errorf("horizontal pod autoscaler: cannot convert a %T to autoscaling/v2beta1", obj)
	}
	hub = hub.DeepCopy()
	b := &betaAutoscaler{
		TypeMeta:   metav1.TypeMeta{APIVersion: "autoscaling/v2beta1", Kind: "HorizontalPodAutoscaler"},
		ObjectMeta: hub.ObjectMeta,
		Spec: betaSpec{ScaleTargetRef: autoscalingv1.CrossVersionObjectReference(hub.Spec.ScaleTargetRef),
			MinReplicas: hub.Spec.MinReplicas, MaxReplicas: hub.Spec.MaxReplicas},
		Status: betaStatus{ObservedGeneration: hub.Status.ObservedGeneration, LastScaleTime: hub.Status.LastScaleTime,
			CurrentReplicas: hub.Status.CurrentReplicas, DesiredReplicas: hub.Status.DesiredReplicas, Conditions: conditionsTo1(hub.Status.Conditions)},
	}
	for i := range hub.Spec.Metrics {
		b.Spec.Metrics = append(b.Spec.Metrics, metricTo1(&hub.Spec.Metrics[i]))
	}
	for i := range hub.Status.CurrentMetrics {
		b.Status.CurrentMetrics = append(b.Status.CurrentMetrics, statusTo1(&hub.Status.CurrentMetrics[i]))
	}
	delete(b.Annotations, annBehavior)
	if hub.Spec.Behavior != nil {
		text, err := json.Marshal(hub.Spec.Behavior)
		if err != nil {
			return nil, fmt.Errorf("horizontal pod autoscaler %s/%s: %s: %w", hub.Namespace, hub.Name, annBehavior, err)
		}
		metav1.SetMetaDataAnnotation(&b.ObjectMeta, annBehavior, string(text))
	}
	return b, nil
}
