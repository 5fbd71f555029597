package scheduling_test

import (
	"slices"
	"testing"

	"sampan/cluster/kind/kindtest"
	"sampan/cluster/kind/scheduling"
)

func TestPriorityClassRules(t *testing.T) {
	k := scheduling.PriorityClass()
	kindtest.Check(t, k, []kindtest.Rule{
		{Rule: "users have a billion", New: `{metadata: {name: a}, value: 1000000000}`},
		{Rule: "and no more", New: `{metadata: {name: a}, value: 1000000001}`, Want: []string{
			`value: Forbidden: maximum allowed value of a user defined priority is 1000000000`}},
		{Rule: "the system's class is as the system has it", New: `{metadata: {name: system-node-critical}, value: 2000001000}`},
		{Rule: "and not otherwise", New: `{metadata: {name: system-node-critical}, value: 1}`, Want: []string{
			`metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: ` +
				`value of system-node-critical PriorityClass must be 2000001000`}},
		{Rule: "nobody else is the system", New: `{metadata: {name: system-mine}, value: 1}`, Want: []string{
			`metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: ` +
				`system-mine is not a known system priority class`}},
		{Rule: "the policy is one of two", New: `{metadata: {name: a}, value: 1, preemptionPolicy: Sometimes}`, Want: []string{
			`preemptionPolicy: Unsupported value: "Sometimes": supported values: "PreemptLowerPriority", "Never"`}},
		{Rule: "the value stays", Old: `{metadata: {name: a}, value: 1}`, New: `{metadata: {name: a}, value: 2}`, Want: []string{
			`value: Forbidden: may not be changed in an update.`}},
		{Rule: "the policy stays", Old: `{metadata: {name: a}, value: 1}`, New: `{metadata: {name: a}, value: 1, preemptionPolicy: Never}`, Want: []string{
			`preemptionPolicy: Invalid value: "Never": field is immutable`}},
		{Rule: "the description may change", Old: `{metadata: {name: a}, value: 1}`, New: `{metadata: {name: a}, value: 1, description: b}`},
	})
	obj := kindtest.Create(t, k, `{metadata: {name: a}, value: 7, globalDefault: true}`)
	if got := kindtest.Row(k, obj); !slices.Equal(got, []any{"a", int64(7), true, "<unknown>", "PreemptLowerPriority"}) {
		t.Errorf("row %q", got)
	}
	for _, c := range scheduling.SystemClasses() {
		if errs := k.Validate(c, nil); len(errs) > 0 {
			t.Errorf("%s: %v", c.Name, errs)
		}
	}
}
