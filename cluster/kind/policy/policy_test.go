package policy_test

import (
	"slices"
	"strings"
	"testing"

	"sampan/cluster/kind/kindtest"
	"sampan/cluster/kind/policy"
)

func TestBudgetRules(t *testing.T) {
	kindtest.Check(t, policy.PodDisruptionBudget(), []kindtest.Rule{
		{Rule: "a number", New: "spec: {minAvailable: 2, selector: {matchLabels: {app: web}}}"},
		{Rule: "a percentage", New: "spec: {maxUnavailable: 10%, unhealthyPodEvictionPolicy: AlwaysAllow}"},
		{Rule: "one of both", New: "spec: {minAvailable: 1, maxUnavailable: 1}", Want: []string{
			`spec: Invalid value: {"minAvailable":1,"maxUnavailable":1}: minAvailable and maxUnavailable cannot be both set`}},
		{Rule: "not less than none", New: "spec: {minAvailable: -1}", Want: []string{"spec.minAvailable: Invalid value: -1: must be greater than or equal to 0"}},
		{Rule: "not more than all", New: "spec: {maxUnavailable: 101%}", Want: []string{`spec.maxUnavailable: Invalid value: "101%": must not be greater than 100%`}},
		{Rule: "a percentage ends with %", New: "spec: {maxUnavailable: few}", Want: []string{
			`spec.maxUnavailable: Invalid value: "few": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')`}},
		{Rule: "a policy that exists", New: "spec: {unhealthyPodEvictionPolicy: Maybe}", Want: []string{
			`spec.unhealthyPodEvictionPolicy: Unsupported value: "Maybe": supported values: "AlwaysAllow", "IfHealthyBudget"`}},
		{Rule: "everything may change", Old: "spec: {minAvailable: 2}", New: "spec: {maxUnavailable: 2, selector: {}}"},
	})
}

func TestBudgetStatusRules(t *testing.T) {
	k := policy.PodDisruptionBudget()
	obj := kindtest.Read(t, k, "status: {disruptionsAllowed: -1, currentHealthy: -1, desiredHealthy: 0, expectedPods: 0}")
	kindtest.Compare(t, k.Parts["status"].Validate(obj, k.New()),
		"status.disruptionsAllowed: Invalid value: -1: must be greater than or equal to 0", "status.currentHealthy: Invalid value: -1: must be greater than or equal to 0")
}

func TestBudgetRows(t *testing.T) {
	k := policy.PodDisruptionBudget()
	if got := strings.Join(kindtest.Header(k), "|"); got != "Name|Min Available|Max Unavailable|Allowed Disruptions|Age" {
		t.Errorf("header %s", got)
	}
	got := kindtest.Row(k, kindtest.Read(t, k, `{metadata: {name: b, creationTimestamp: "2026-11-21T11:00:00Z"}, spec: {minAvailable: 50%}, status: {disruptionsAllowed: 1}}`))
	if !slices.Equal(got, []any{"b", "50%", "N/A", int64(1), "60m"}) {
		t.Errorf("row %q", got)
	}
}
