package flowcontrol_test

import (
	"slices"
	"testing"

	flowv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/kind"
	"sampan/cluster/kind/flowcontrol"
	"sampan/cluster/kind/kindtest"
)

func TestWhatEveryClusterHasIsValid(t *testing.T) {
	levels, n := map[string]bool{}, 0
	check := func(k *kind.Kind, obj kind.Object) {
		n++
		k.Default(obj)
		if errs := k.Validate(obj, nil); len(errs) > 0 {
			t.Errorf("%s %s: %v", k, obj.GetName(), errs)
		}
	}
	for _, l := range flowcontrol.Levels() {
		levels[l.Name] = true
		check(flowcontrol.PriorityLevelConfiguration(), l)
	}
	for _, s := range flowcontrol.Schemas() {
		check(flowcontrol.FlowSchema(), s)
		if !levels[s.Spec.PriorityLevelConfiguration.Name] {
			t.Errorf("%s is of level %q, which is not there", s.Name, s.Spec.PriorityLevelConfiguration.Name)
		}
	}
	if n != 8+11 {
		t.Errorf("%d objects, want upstream's 8 levels and 11 schemas", n)
	}
}

func TestFlowSchemaRules(t *testing.T) {
	k := flowcontrol.FlowSchema()
	const level = `priorityLevelConfiguration: {name: l}`
	kindtest.Check(t, k, []kindtest.Rule{
		{Rule: "a level is enough", New: `{spec: {` + level + `}}`},
		{Rule: "of some level", New: `{spec: {}}`, Want: []string{"spec.priorityLevelConfiguration.name: Required value: must reference a priority level"}},
		{Rule: "not before all others", New: `{spec: {` + level + `, matchingPrecedence: 1}}`, Want: []string{
			"spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1"}},
		{Rule: "somebody does something", New: `{spec: {` + level + `, rules: [{}]}}`, Want: []string{
			"spec.rules[0].subjects: Required value: subjects must contain at least one value",
			"spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty"}},
		{Rule: "somebody is one", New: `{spec: {` + level + `, rules: [{subjects: [{kind: User, group: {name: g}}], nonResourceRules: [{verbs: [get], nonResourceURLs: ["a", "/a*"]}]}]}}`, Want: []string{
			"spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User'",
			"spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
			`spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: "a": must start with slash`,
			`spec.rules[0].nonResourceRules[0].nonResourceURLs[1]: Invalid value: "/a*": wildcard can only do suffix matching`}},
		{Rule: "all is all", New: `{spec: {` + level + `, rules: [{subjects: [{kind: User, user: {name: u}}], resourceRules: [{verbs: ["*", get], apiGroups: ["*"], resources: [pods], clusterScope: true}]}]}}`, Want: []string{
			`spec.rules[0].resourceRules[0].verbs: Invalid value: ["*","get"]: if '*' is present, must not specify other verbs`}},
	})
	f := kindtest.Create(t, k, `{metadata: {name: f}, spec: {`+level+`, distinguisherMethod: {type: ByUser}}}`)
	if got, want := kindtest.Row(k, f), []any{"f", "l", int64(1000), "ByUser", "<unknown>", "?"}; !slices.Equal(got, want) {
		t.Errorf("row %q, want %q", got, want)
	}
}

func TestLevelRules(t *testing.T) {
	k := flowcontrol.PriorityLevelConfiguration()
	kindtest.Check(t, k, []kindtest.Rule{
		{Rule: "a limit", New: `{spec: {type: Limited, limited: {limitResponse: {type: Queue, queuing: {}}}}}`},
		{Rule: "of some kind", New: `{spec: {}}`, Want: []string{"spec.type: Required value"}},
		{Rule: "only one level has none", New: `{spec: {type: Exempt}}`, Want: []string{`spec.type: Invalid value: "Exempt": must be 'Exempt' if and only if ` + "`name` is 'exempt'"}},
		{Rule: "queues for a queue", New: `{spec: {type: Limited, limited: {limitResponse: {type: Queue}}}}`, Want: []string{
			"spec.limited.limitResponse.queuing: Required value"}},
		{Rule: "a hand that one hash can deal", New: `{spec: {type: Limited, limited: {limitResponse: {type: Queue, queuing: {queues: 1024, handSize: 7}}}}}`, Want: []string{
			"spec.limited.limitResponse.queuing.handSize: Invalid value: 7: required entropy bits of deckSize 1024 and handSize 7 should not be greater than 60"}},
	})
	all := kindtest.Create(t, k, `{metadata: {name: catch-all}, spec: {type: Limited, limited: {limitResponse: {type: Reject}}}}`)
	if errs := k.Validate(all, nil); len(errs) != 1 || errs[0].Detail != "spec of 'catch-all' must equal the fixed value" {
		t.Errorf("another catch-all: %v", errs)
	}
	l := kindtest.Create(t, k, `{metadata: {name: l}, spec: {type: Limited, limited: {limitResponse: {type: Queue, queuing: {}}}}}`)
	if got, want := kindtest.Row(k, l), []any{"l", "Limited", int64(30), int64(64), int64(8), int64(50), "<unknown>"}; !slices.Equal(got, want) {
		t.Errorf("row %q, want %q", got, want)
	}
}

func TestSchemasAreShownInTheOrderInWhichTheyCount(t *testing.T) {
	k := flowcontrol.FlowSchema()
	named := func(name string, precedence int32) *flowv1.FlowSchema {
		return &flowv1.FlowSchema{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: flowv1.FlowSchemaSpec{MatchingPrecedence: precedence}}
	}
	if k.Order(named("z", 5), named("a", 6)) >= 0 || k.Order(named("b", 5), named("a", 5)) <= 0 || k.Order(named("a", 5), named("a", 5)) != 0 {
		t.Error("not by precedence, and by name where that is the same")
	}
}
