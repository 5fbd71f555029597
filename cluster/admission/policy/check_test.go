package policy_test

import (
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"

	"sampan/cluster/admission/policy"
	"sampan/cluster/kind"
	"sampan/cluster/kind/admissionregistration"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/kindtest"
	"sampan/cluster/schema"
)

func TestExpressionsAreHeldToTheKindsTheyAreAbout(t *testing.T) {
	table := kind.NewTable(core.Kinds(), apps.Kinds(), admissionregistration.Kinds())
	c := policy.Checker{Kinds: table, Schema: schema.New(table).Resolve}
	const deployments = `{resourceRules: [{operations: ["*"], apiGroups: [apps], apiVersions: [v1], resources: [deployments]}]}`
	for _, tc := range []struct {
		it, match, more string
		want            []string // of each warning: where, and parts of what it says
	}{
		{it: "a field that there is", more: `validations: [{expression: "object.spec.replicas > 1"}]`},
		{it: "a field that there is not", more: `validations: [{expression: "object.foo"}]`,
			want: []string{"spec.validations[0].expression|apps/v1, Kind=Deployment: ERROR: <input>:1:7: undefined field 'foo'\n | object.foo\n | ......^\n"}},
		{it: "of the old object", more: `validations: [{expression: "true"}, {expression: "oldObject.spec.template.spec.fish == 1"}]`,
			want: []string{"spec.validations[1].expression|undefined field 'fish'"}},
		{it: "a wrong type", more: `validations: [{expression: "object.spec.replicas > '1'"}]`, want: []string{"spec.validations[0].expression|found no matching overload for '_>_' applied to '(int, string)'"}},
		{it: "in a message", more: `validations: [{expression: "true", messageExpression: "object.bar"}]`, want: []string{"spec.validations[0].messageExpression|undefined field 'bar'"}},
		{it: "by a variable", more: `variables: [{name: few, expression: object.spec.replicas}, {name: more, expression: variables.few + 1}], validations: [{expression: "variables.more == 'x'"}]`,
			want: []string{"spec.validations[0].expression|'_==_' applied to '(int, string)'"}},
		{it: "of the namespace and the request", more: `validations: [{expression: "namespaceObject.foo == request.bar"}]`,
			want: []string{"spec.validations[0].expression|undefined field 'foo'|undefined field 'bar'"}},
		{it: "of the parameters", more: `paramKind: {apiVersion: v1, kind: ConfigMap}, validations: [{expression: "params.data.x == 'y' && params.fish"}]`,
			want: []string{"spec.validations[0].expression|undefined field 'fish'"}},
		{it: "of parameters that nobody knows", more: `paramKind: {apiVersion: x.io/v1, kind: Fish}, validations: [{expression: "params.fish"}]`},
		{it: "in each kind", match: `{resourceRules: [{operations: ["*"], apiGroups: [apps], apiVersions: [v1], resources: [replicasets, deployments, deployments/scale]}]}`,
			more: `validations: [{expression: "object.spec.strategy.type == 'x'"}, {expression: "object.foo"}]`,
			want: []string{"spec.validations[0].expression|apps/v1, Kind=ReplicaSet: ERROR: <input>:1:12: undefined field 'strategy'",
				"spec.validations[1].expression|apps/v1, Kind=Deployment: |^\n\napps/v1, Kind=ReplicaSet: "}},
		{it: "not where anything may be meant", match: `{resourceRules: [{operations: ["*"], apiGroups: ["*"], apiVersions: [v1], resources: [deployments]}]}`, more: `validations: [{expression: "object.foo"}]`},
		{it: "not of kinds that nobody knows", match: `{resourceRules: [{operations: ["*"], apiGroups: [x.io], apiVersions: [v1], resources: [fish]}]}`, more: `validations: [{expression: "object.foo"}]`},
		{it: "of every group that has it, where none is named", match: `{resourceRules: [{operations: ["*"], apiGroups: [""], apiVersions: [v1], resources: [events]}]}`,
			more: `validations: [{expression: "object.note == ''"}]`, want: []string{"spec.validations[0].expression|/v1, Kind=Event: ERROR: <input>:1:7: undefined field 'note'"}},
	} {
		t.Run(tc.it, func(t *testing.T) {
			if tc.match == "" {
				tc.match = deployments
			}
			p := kindtest.Read(t, admissionregistration.ValidatingAdmissionPolicy(), `{metadata: {name: p}, spec: {matchConstraints: `+tc.match+`, `+tc.more+`}}`)
			got := c.Check(p.(*admissionregistrationv1.ValidatingAdmissionPolicy))
			if len(got) != len(tc.want) {
				t.Fatalf("warnings %q, want %q", got, tc.want)
			}
			for i, w := range tc.want {
				parts := strings.Split(w, "|")
				if got[i].FieldRef != parts[0] {
					t.Errorf("at %s, want %s", got[i].FieldRef, parts[0])
				}
				if strings.Contains(w, "......^") { // the whole text
					parts = []string{"", strings.TrimPrefix(w, parts[0]+"|")}
				}
				for _, part := range parts[1:] {
					if !strings.Contains(got[i].Warning, part) {
						t.Errorf("it says %q, want %q", got[i].Warning, part)
					}
				}
			}
		})
	}
}
