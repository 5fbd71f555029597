package autoscaling_test

import (
	"slices"
	"testing"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	"k8s.io/apimachinery/pkg/api/equality"

	"sampan/cluster/kind/autoscaling"
	"sampan/cluster/kind/kindtest"
)

const target = `scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d}, maxReplicas: 3`

func TestAutoscalerRules(t *testing.T) {
	k := autoscaling.HorizontalPodAutoscaler()
	kindtest.Check(t, k, []kindtest.Rule{
		{Rule: "a target and a limit are enough", New: `{spec: {` + target + `}}`},
		{Rule: "a target is somebody", New: `{spec: {scaleTargetRef: {kind: Deployment}, maxReplicas: 1}}`, Want: []string{
			"spec.scaleTargetRef.name: Required value", `spec.scaleTargetRef.apiVersion: Invalid value: "": apiVersion must specify API group`}},
		{Rule: "there is a limit", New: `{spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d}}}`, Want: []string{
			"spec.maxReplicas: Required value", "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`"}},
		{Rule: "one target for a metric", New: `{spec: {` + target + `, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization}}}]}}`, Want: []string{
			"spec.metrics[0].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization"}},
		{Rule: "a metric is what it says", New: `{spec: {` + target + `, metrics: [{type: Pods, resource: {name: cpu, target: {type: Utilization, averageUtilization: 5}}}]}}`, Want: []string{
			"spec.metrics[0].pods: Required value: must populate information for the given metric source"}},
		{Rule: "windows end", New: `{spec: {` + target + `, behavior: {scaleUp: {stabilizationWindowSeconds: 9999}}}}`, Want: []string{
			"spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 9999: must be less than or equal to 3600"}},
	})
	h := kindtest.Create(t, k, `{metadata: {name: h}, spec: {`+target+`, metrics: [{type: Resource, resource: {name: memory, target: {type: AverageValue, averageValue: 5}}},
		{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}, {type: Resource, resource: {name: x/y, target: {type: Utilization, averageUtilization: 5}}}]}}`)
	if got, want := kindtest.Row(k, h), []any{"h", "Deployment/d", "memory: <unknown>/5, cpu: <unknown>/50% + 1 more...", "1", int64(3), int64(0), "<unknown>"}; !slices.Equal(got, want) {
		t.Errorf("row\n%q\nwant\n%q", got, want)
	}
}

func TestVersion1(t *testing.T) {
	k := autoscaling.HorizontalPodAutoscaler()
	v := k.Versions[0]
	for _, text := range []string{
		`{metadata: {name: h}, spec: {` + target + `}}`,
		`{metadata: {name: h, annotations: {a: b}}, spec: {` + target + `, behavior: {scaleUp: {selectPolicy: Min}}, metrics: [
			{type: Object, object: {describedObject: {kind: K, name: n}, metric: {name: m}, target: {type: Value, value: 5}}},
			{type: Object, object: {describedObject: {kind: K, name: n}, metric: {name: m}, target: {type: AverageValue, averageValue: 5}}},
			{type: Pods, pods: {metric: {name: m, selector: {matchLabels: {a: b}}}, target: {type: AverageValue, averageValue: 5}}},
			{type: External, external: {metric: {name: m}, target: {type: AverageValue, averageValue: 5}}},
			{type: ContainerResource, containerResource: {name: cpu, container: c, target: {type: Utilization, averageUtilization: 5}}},
			{type: Resource, resource: {name: memory, target: {type: AverageValue, averageValue: 5}}},
			{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]},
		 status: {currentReplicas: 2, desiredReplicas: 3, conditions: [{type: AbleToScale, status: "True", reason: R}], currentMetrics: [
			{type: Resource, resource: {name: cpu, current: {averageUtilization: 7, averageValue: 3}}}]}}`,
	} {
		hub := kindtest.Read(t, k, text).(*autoscalingv2.HorizontalPodAutoscaler)
		k.Default(hub)
		hub.GetObjectKind().SetGroupVersionKind(k.GVK)
		if errs := k.Validate(hub, nil); len(errs) > 0 {
			t.Fatal(errs)
		}
		other, err := v.FromHub(hub)
		if err != nil {
			t.Fatal(err)
		}
		want := hub.Spec.Metrics[len(hub.Spec.Metrics)-1].Resource.Target.AverageUtilization
		if got := other.(*autoscalingv1.HorizontalPodAutoscaler).Spec.TargetCPUUtilizationPercentage; got == nil || *got != *want {
			t.Errorf("version 1 scales for %v, want %v", got, *want)
		}
		back, err := v.ToHub(other)
		if err != nil {
			t.Fatal(err)
		}
		if !equality.Semantic.DeepEqual(back, hub) {
			t.Errorf("through version 1\n%+v\nwant\n%+v", back, hub)
		}
	}
}
