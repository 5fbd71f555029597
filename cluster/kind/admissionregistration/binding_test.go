package admissionregistration_test

import (
	"testing"

	"sampan/cluster/kind/admissionregistration"
	"sampan/cluster/kind/kindtest"
)

func TestActionsOfBindings(t *testing.T) {
	actions := func(list string) string { return "{spec: {policyName: p, validationActions: " + list + "}}" }
	kindtest.Check(t, admissionregistration.ValidatingAdmissionPolicyBinding(), []kindtest.Rule{
		{Rule: "one", New: actions("[Deny]")},
		{Rule: "at least one", New: actions("[]"), Want: []string{"spec.validationActions: Required value"}},
		{Rule: "that is known", New: actions("[Deny, '']"), Want: []string{
			`spec.validationActions[1]: Unsupported value: "": supported values: "Audit", "Deny", "Warn"`}},
		{Rule: "once", New: actions("[Audit, Audit]"), Want: []string{`spec.validationActions[1]: Duplicate value: "Audit"`}},
		{Rule: "said once", New: actions("[Deny, Warn]"), Want: []string{
			`spec.validationActions: Invalid value: ["Deny","Warn"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)`}},
	})
}
