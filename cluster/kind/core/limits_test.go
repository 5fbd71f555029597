package core_test

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/kind/core"
	"sampan/cluster/kind/kindtest"
)

func TestLimitRangeRules(t *testing.T) {
	k := core.LimitRange()
	kindtest.Check(t, k, []kindtest.Rule{
		{Rule: "a container has from and to", New: `spec: {limits: [{type: Container, min: {cpu: 50m}, max: {cpu: 500m}}]}`},
		{Rule: "the least is below the most", New: `spec: {limits: [{type: Pod, min: {cpu: 2}, max: {cpu: 1}}]}`, Want: []string{
			`spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1`}},
		{Rule: "a default request is below the default", New: `spec: {limits: [{type: Container, default: {cpu: 1}, defaultRequest: {cpu: 2}}]}`, Want: []string{
			`spec.limits[0].defaultRequest[cpu]: Invalid value: "2": default request value 2 is greater than default limit value 1`}},
		{Rule: "a pod has no defaults", New: `spec: {limits: [{type: Pod, default: {cpu: 1}}]}`, Want: []string{
			"spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'"}},
		{Rule: "a type comes once", New: `spec: {limits: [{type: Pod}, {type: Pod}]}`, Want: []string{
			`spec.limits[1].type: Duplicate value: "Pod"`}},
		{Rule: "a type is known", New: `spec: {limits: [{type: Shoe}]}`, Want: []string{
			`spec.limits[0].type: Invalid value: "Shoe": must be a standard limit type or fully qualified`}},
		{Rule: "a claim has a size", New: `spec: {limits: [{type: PersistentVolumeClaim}]}`, Want: []string{
			`spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided`}},
		{Rule: "a ratio is one or more", New: `spec: {limits: [{type: Container, maxLimitRequestRatio: {cpu: 500m}}]}`, Want: []string{
			`spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "500m": ratio 500m is less than 1`}},
		{Rule: "a ratio can be kept", New: `spec: {limits: [{type: Pod, min: {cpu: 1}, max: {cpu: 2}, maxLimitRequestRatio: {cpu: 3}}]}`, Want: []string{
			`spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "3": ratio 3 is greater than max/min = 2.000000`}},
	})
	l := kindtest.Create(t, k, `spec: {limits: [{type: Container, max: {cpu: 2}, min: {memory: 1Mi}}]}`).(*corev1.LimitRange)
	item := l.Spec.Limits[0]
	if item.Default.Cpu().String() != "2" || item.DefaultRequest.Cpu().String() != "2" || item.DefaultRequest.Memory().String() != "1Mi" {
		t.Errorf("defaults %v and %v; want the most, and the least where there is no most", item.Default, item.DefaultRequest)
	}
}

func TestResourceQuotaRules(t *testing.T) {
	k := core.ResourceQuota()
	kindtest.Check(t, k, []kindtest.Rule{
		{Rule: "anything can be counted", New: `spec: {hard: {pods: 5, count/widgets.example.com: 3, requests.nvidia.com/gpu: 1, gold.storageclass.storage.k8s.io/requests.storage: 1Gi}}`},
		{Rule: "what has no domain is standard", New: `spec: {hard: {shoes: 5}}`, Want: []string{
			`spec.hard[shoes]: Invalid value: "shoes": must be a standard resource type or fully qualified`,
			`spec.hard[shoes]: Invalid value: "shoes": must be a standard resource for quota`}},
		{Rule: "things come whole", New: `spec: {hard: {pods: 1500m}}`, Want: []string{`spec.hard[pods]: Invalid value: "1500m": must be an integer`}},
		{Rule: "nothing is below zero", New: `spec: {hard: {cpu: -1}}`, Want: []string{`spec.hard[cpu]: Invalid value: "-1": must be greater than or equal to 0`}},
		{Rule: "a scope fits its resources", New: `spec: {hard: {secrets: 1}, scopes: [BestEffort]}`, Want: []string{
			`spec.scopes: Invalid value: ["BestEffort"]: unsupported scope applied to resource`}},
		{Rule: "scopes do not exclude each other", New: `spec: {hard: {pods: 1}, scopes: [Terminating, NotTerminating]}`, Want: []string{
			`spec.scopes: Invalid value: ["Terminating","NotTerminating"]: conflicting scopes`}},
		{Rule: "In wants values", New: `spec: {hard: {pods: 1}, scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In}]}}`, Want: []string{
			"spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"}},
		{Rule: "scopes stay", Old: `spec: {hard: {pods: 1}, scopes: [BestEffort]}`, New: `spec: {hard: {pods: 1}}`, Want: []string{
			`spec.scopes: Invalid value: null: field is immutable`}},
	})
	q := kindtest.Read(t, k, `{metadata: {name: q}, status: {hard: {cpu: 2, limits.cpu: 4, pods: 9}, used: {cpu: 1, limits.cpu: 2, pods: 3}}}`)
	if got := kindtest.Row(k, q); !slices.Equal(got, []any{"q", "cpu: 1/2, pods: 3/9", "limits.cpu: 2/4", "<unknown>"}) {
		t.Errorf("row %q", got)
	}
	fine := kindtest.Create(t, k, `spec: {hard: {cpu: 100u}}`).(*corev1.ResourceQuota)
	if got := fine.Spec.Hard.Cpu().String(); got != "1m" {
		t.Errorf("a thousandth is the least: %s", got)
	}
	bare := kindtest.Create(t, k, `spec: {hard: {cpu: 2, limits.cpu: 1}}`)
	if got := k.Warn(bare, nil); !slices.Equal(got, []string{"ResourceQuota cpu (2) should be less than limits.cpu (1)"}) {
		t.Errorf("warns %q", got)
	}
}
