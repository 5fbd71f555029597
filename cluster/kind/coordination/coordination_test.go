package coordination_test

import (
	"slices"
	"testing"

	"sampan/cluster/kind/coordination"
	"sampan/cluster/kind/kindtest"
)

func TestLeaseRules(t *testing.T) {
	k := coordination.Lease()
	kindtest.Check(t, k, []kindtest.Rule{
		{Rule: "nobody need hold it", New: `spec: {}`},
		{Rule: "it lasts", New: `spec: {leaseDurationSeconds: 0}`, Want: []string{`spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0`}},
		{Rule: "it changes hands forwards", New: `spec: {leaseTransitions: -1}`, Want: []string{
			`spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0`}},
		{Rule: "a wish that nobody grants is not kept", New: `spec: {preferredHolder: me}`},
	})
	if got := kindtest.Row(k, kindtest.Read(t, k, `{metadata: {name: l}, spec: {holderIdentity: me}}`)); !slices.Equal(got, []any{"l", "me", "<unknown>"}) {
		t.Errorf("row %q", got)
	}
	if !k.CreateOnUpdate || !k.Conditional {
		t.Error("a PUT makes a lease, and must name the revision it replaces")
	}
}
