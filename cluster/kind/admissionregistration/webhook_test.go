package admissionregistration_test

import (
	"slices"
	"strings"
	"testing"

	"sampan/cluster/kind/admissionregistration"
	"sampan/cluster/kind/kindtest"
)

// hook is a valid webhook with fields added, or others in their place.
func hook(fields string) string {
	text := "webhooks: [{name: a.b.c"
	for _, f := range []string{`clientConfig: {url: "https://x/y"}`, "sideEffects: None", "admissionReviewVersions: [v1]",
		`rules: [{operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [pods]}]`} {
		if name, _, _ := strings.Cut(f, ":"); !strings.Contains(fields, name+":") {
			text += ", " + f
		}
	}
	return text + fields + "}]"
}

func TestWebhookRules(t *testing.T) {
	rules := func(r string) string { return hook(", rules: [" + r + "]") }
	kindtest.Check(t, admissionregistration.ValidatingWebhookConfiguration(), []kindtest.Rule{
		{Rule: "a webhook", New: hook("")},
		{Rule: "no webhook", New: "{}"},
		{Rule: "a full name", New: strings.Replace(hook(""), "a.b.c", "a", 1), Want: []string{
			`webhooks[0].name: Invalid value: "a": should be a domain with at least three segments separated by dots`}},
		{Rule: "one place", New: hook(", clientConfig: {}"), Want: []string{"webhooks[0].clientConfig: Required value: exactly one of url or service is required"}},
		{Rule: "with TLS", New: hook(`, clientConfig: {url: "http://x"}`), Want: []string{
			`webhooks[0].clientConfig.url: Invalid value: "http": 'https' is the only allowed URL scheme; desired format: https://host[/path]`}},
		{Rule: "a service with its name", New: hook(`, clientConfig: {service: {namespace: ns}}`), Want: []string{"webhooks[0].clientConfig.service.name: Required value"}},
		{Rule: "no side effects", New: hook(", sideEffects: Some"), Want: []string{`webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun"`}},
		{Rule: "side effects stay", Old: hook(", sideEffects: Some"), New: hook(", sideEffects: Some")},
		{Rule: "soon", New: hook(", timeoutSeconds: 31"), Want: []string{"webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds"}},
		{Rule: "a version we speak", New: hook(", admissionReviewVersions: [v7]"), Want: []string{
			`webhooks[0].admissionReviewVersions: Invalid value: ["v7"]: must include at least one of v1, v1beta1`}},
		{Rule: "all is all", New: rules(`{operations: ["*", CREATE], apiGroups: ["*", a], apiVersions: ["*", v1], resources: ["*/*", pods]}`), Want: []string{
			`webhooks[0].rules[0].operations: Invalid value: ["*","CREATE"]: if '*' is present, must not specify other operations`,
			`webhooks[0].rules[0].apiGroups: Invalid value: ["*","a"]: if '*' is present, must not specify other API groups`,
			`webhooks[0].rules[0].apiVersions: Invalid value: ["*","v1"]: if '*' is present, must not specify other API versions`,
			`webhooks[0].rules[0].resources: Invalid value: ["*/*","pods"]: if '*/*' is present, must not specify other resources`}},
		{Rule: "a part of what is there", New: rules(`{operations: [CREATE], apiGroups: [""], apiVersions: [v1], resources: [pods/*, pods/status]}`), Want: []string{
			`webhooks[0].rules[0].resources[1]: Invalid value: "pods/status": if 'pods/*' is present, must not specify pods/status`}},
		{Rule: "a condition", New: hook(`, matchConditions: [{name: c, expression: "object.metadata.name != 'x'"}]`)},
		{Rule: "no condition", New: hook(`, matchConditions: [{name: c, expression: "1 + 1"}, {name: c, expression: ""}]`), Want: []string{
			`webhooks[0].matchConditions[0].expression: Invalid value: "1 + 1": must evaluate to bool but got int`,
			"webhooks[0].matchConditions[1].expression: Required value", `webhooks[0].matchConditions[1].name: Duplicate value: "c"`}},
	})
	kindtest.Check(t, admissionregistration.MutatingWebhookConfiguration(), []kindtest.Rule{
		{Rule: "asked again", New: hook(", reinvocationPolicy: IfNeeded")},
		{Rule: "or not", New: hook(", reinvocationPolicy: Often"), Want: []string{`webhooks[0].reinvocationPolicy: Unsupported value: "Often": supported values: "IfNeeded", "Never"`}},
	})
}

func TestAConditionThatDoesNotCompileIsRefused(t *testing.T) {
	k := admissionregistration.ValidatingWebhookConfiguration()
	obj := kindtest.Create(t, k, hook(`, matchConditions: [{name: c, expression: "... [] bad expression"}]`))
	if errs := k.Validate(obj, nil); len(errs) != 1 || !strings.Contains(errs[0].Error(), "compilation failed") {
		t.Errorf("%v, want one error that says that compilation failed", errs)
	}
}

func TestConfigurationRows(t *testing.T) {
	k := admissionregistration.MutatingWebhookConfiguration()
	if got := strings.Join(kindtest.Header(k), "|"); got != "Name|Webhooks|Age" {
		t.Errorf("header %s", got)
	}
	got := kindtest.Row(k, kindtest.Read(t, k, `{metadata: {name: m, creationTimestamp: "2026-11-21T11:00:00Z"}, `+hook("")+`}`))
	if !slices.Equal(got, []any{"m", int64(1), "60m"}) {
		t.Errorf("row %q", got)
	}
}
