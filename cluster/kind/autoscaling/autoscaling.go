// Package autoscaling declares the kinds of the API group autoscaling. Scale,
// the body of a subresource, is in package kind.
package autoscaling

import (
	"fmt"
	"strings"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"sampan/cluster/kind"
)

// Kinds is the table of this group.
func Kinds() []*kind.Kind { return []*kind.Kind{HorizontalPodAutoscaler()} }

// HorizontalPodAutoscaler changes the number of a workload's pods by what is
// measured. It is served as autoscaling/v1 too (v1.go).
func HorizontalPodAutoscaler() *kind.Kind {
	doc, status := autoscalingv2.HorizontalPodAutoscalerSpec{}.SwaggerDoc(), autoscalingv2.HorizontalPodAutoscalerStatus{}.SwaggerDoc()
	column := func(name, description string, of func(*autoscalingv2.HorizontalPodAutoscaler) any) kind.Column[autoscalingv2.HorizontalPodAutoscaler] {
		return kind.Column[autoscalingv2.HorizontalPodAutoscaler]{Name: name, Description: description,
			Cell: func(h *autoscalingv2.HorizontalPodAutoscaler, _ time.Time) any { return of(h) }}
	}
	return kind.Declare(kind.Of[autoscalingv2.HorizontalPodAutoscaler]{
		GVK:        autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"),
		Plural:     "horizontalpodautoscalers",
		Short:      []string{"hpa"},
		Categories: []string{"all"},
		Versions:   []kind.Version{version1()},
		Default:    defaultAutoscaler,
		Validate:   validateAutoscaler,
		Spec:       func(h *autoscalingv2.HorizontalPodAutoscaler) any { return &h.Spec },
		Ignored:    kind.Paths("", AutoscalerGaps),
		Parts: map[string]kind.Part[autoscalingv2.HorizontalPodAutoscaler]{
			"status": {
				Take:         func(dst, src *autoscalingv2.HorizontalPodAutoscaler) { dst.Status = src.Status },
				WithMetadata: true,
				Validate:     validateStatus,
			},
		},
		Columns: []kind.Column[autoscalingv2.HorizontalPodAutoscaler]{
			column("Reference", doc["scaleTargetRef"], func(h *autoscalingv2.HorizontalPodAutoscaler) any {
				return h.Spec.ScaleTargetRef.Kind + "/" + h.Spec.ScaleTargetRef.Name
			}),
			column("Targets", doc["metrics"], func(h *autoscalingv2.HorizontalPodAutoscaler) any {
				return targets(h.Spec.Metrics, h.Status.CurrentMetrics)
			}),
			column("MinPods", doc["minReplicas"], func(h *autoscalingv2.HorizontalPodAutoscaler) any {
				if h.Spec.MinReplicas == nil {
					return "<unset>"
				}
				return fmt.Sprint(*h.Spec.MinReplicas)
			}),
			column("MaxPods", doc["maxReplicas"], func(h *autoscalingv2.HorizontalPodAutoscaler) any { return int64(h.Spec.MaxReplicas) }),
			column("Replicas", status["currentReplicas"], func(h *autoscalingv2.HorizontalPodAutoscaler) any { return int64(h.Status.CurrentReplicas) }),
			kind.Age[autoscalingv2.HorizontalPodAutoscaler](),
		},
	})
}

// defaultUtilization is the CPU, in percent, that pods are scaled for if
// nothing else is said.
const defaultUtilization = 80

func cpu(percent int32) autoscalingv2.MetricSpec {
	return autoscalingv2.MetricSpec{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{Name: corev1.ResourceCPU,
		Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &percent}}}
}

func defaultAutoscaler(h *autoscalingv2.HorizontalPodAutoscaler) {
	s := &h.Spec
	if s.MinReplicas == nil {
		one := int32(1)
		s.MinReplicas = &one
	}
	if len(s.Metrics) == 0 {
		s.Metrics = []autoscalingv2.MetricSpec{cpu(defaultUtilization)}
	}
	if s.Behavior == nil {
		return
	}
	none := int32(0)
	s.Behavior.ScaleUp = rules(s.Behavior.ScaleUp, &none,
		autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PodsScalingPolicy, Value: 4, PeriodSeconds: 15},
		autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15})
	s.Behavior.ScaleDown = rules(s.Behavior.ScaleDown, nil,
		autoscalingv2.HPAScalingPolicy{Type: autoscalingv2.PercentScalingPolicy, Value: 100, PeriodSeconds: 15})
}

// rules fills what one direction leaves out.
func rules(r *autoscalingv2.HPAScalingRules, window *int32, policies ...autoscalingv2.HPAScalingPolicy) *autoscalingv2.HPAScalingRules {
	if r == nil {
		r = &autoscalingv2.HPAScalingRules{}
	}
	if r.SelectPolicy == nil {
		most := autoscalingv2.MaxChangePolicySelect
		r.SelectPolicy = &most
	}
	if r.StabilizationWindowSeconds == nil {
		r.StabilizationWindowSeconds = window
	}
	if r.Policies == nil {
		r.Policies = policies
	}
	return r
}

// targets shows what is measured beside what is wanted: "cpu: 40%/80%".
func targets(specs []autoscalingv2.MetricSpec, statuses []autoscalingv2.MetricStatus) string {
	if len(specs) == 0 {
		return "<none>"
	}
	const most = 2
	var all []string
	for i, s := range specs {
		var now autoscalingv2.MetricStatus
		if i < len(statuses) {
			now = statuses[i]
		}
		all = append(all, target(&s, &now))
	}
	if len(all) > most {
		return strings.Join(all[:most], ", ") + fmt.Sprintf(" + %d more...", len(all)-most)
	}
	return strings.Join(all, ", ")
}

func quantity(q *resource.Quantity, has bool) string {
	if !has {
		return "<unknown>"
	}
	return q.String()
}

func target(s *autoscalingv2.MetricSpec, now *autoscalingv2.MetricStatus) string {
	plain := func(t autoscalingv2.MetricTarget, current *autoscalingv2.MetricValueStatus) string {
		var c autoscalingv2.MetricValueStatus
		if current != nil {
			c = *current
		}
		if t.AverageValue != nil {
			return quantity(c.AverageValue, c.AverageValue != nil) + "/" + t.AverageValue.String() + " (avg)"
		}
		return quantity(c.Value, c.Value != nil) + "/" + quantity(t.Value, t.Value != nil)
	}
	usage := func(name corev1.ResourceName, t autoscalingv2.MetricTarget, current *autoscalingv2.MetricValueStatus) string {
		was := "<unknown>"
		if t.AverageValue != nil {
			if current != nil {
				was = quantity(current.AverageValue, current.AverageValue != nil)
			}
			return fmt.Sprintf("%s: %s/%s", name, was, t.AverageValue)
		}
		if current != nil && current.AverageUtilization != nil {
			was = fmt.Sprintf("%d%%", *current.AverageUtilization)
		}
		want := "<auto>"
		if t.AverageUtilization != nil {
			want = fmt.Sprintf("%d%%", *t.AverageUtilization)
		}
		return fmt.Sprintf("%s: %s/%s", name, was, want)
	}
	switch {
	case s.Type == autoscalingv2.ExternalMetricSourceType && s.External != nil:
		if now.External == nil {
			return plain(s.External.Target, nil)
		}
		return plain(s.External.Target, &now.External.Current)
	case s.Type == autoscalingv2.ObjectMetricSourceType && s.Object != nil:
		if now.Object == nil {
			return plain(s.Object.Target, nil)
		}
		return plain(s.Object.Target, &now.Object.Current)
	case s.Type == autoscalingv2.PodsMetricSourceType && s.Pods != nil:
		was := "<unknown>"
		if now.Pods != nil {
			was = quantity(now.Pods.Current.AverageValue, now.Pods.Current.AverageValue != nil)
		}
		return was + "/" + quantity(s.Pods.Target.AverageValue, s.Pods.Target.AverageValue != nil)
	case s.Type == autoscalingv2.ResourceMetricSourceType && s.Resource != nil:
		if now.Resource == nil {
			return usage(s.Resource.Name, s.Resource.Target, nil)
		}
		return usage(s.Resource.Name, s.Resource.Target, &now.Resource.Current)
	case s.Type == autoscalingv2.ContainerResourceMetricSourceType && s.ContainerResource != nil:
		if now.ContainerResource == nil {
			return usage(s.ContainerResource.Name, s.ContainerResource.Target, nil)
		}
		return usage(s.ContainerResource.Name, s.ContainerResource.Target, &now.ContainerResource.Current)
	}
	return "<unknown type>"
}
