package apiregistration_test

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"sampan/cluster/kind/apiregistration"
	"sampan/cluster/kind/kindtest"
)

// wardle is a good APIService with its spec's end changed.
func wardle(more string) string {
	return `{metadata: {name: v1.wardle.example.com}, spec: {group: wardle.example.com, version: v1, groupPriorityMinimum: 2000, versionPriority: 200` + more + `}}`
}

func TestAPIServiceRules(t *testing.T) {
	kindtest.Check(t, apiregistration.APIService(), []kindtest.Rule{
		{Rule: "what this server answers for", New: wardle("")},
		{Rule: "what another does", New: wardle(", caBundle: YQ==, service: {namespace: default, name: api}")},
		{Rule: "the core group", New: `{metadata: {name: v1.}, spec: {version: v1, groupPriorityMinimum: 18000, versionPriority: 1}}`},
		{Rule: "called like what it is for", New: strings.Replace(wardle(""), "v1.wardle", "v2.wardle", 1), Want: []string{
			"metadata.name: Invalid value: \"v2.wardle.example.com\": must be `spec.version+\".\"+spec.group`: \"v1.wardle.example.com\""}},
		{Rule: "no other version without a group", New: `{metadata: {name: v2.}, spec: {version: v2, groupPriorityMinimum: 1, versionPriority: 1}}`, Want: []string{
			"spec.group: Required value: only v1 may have an empty group and it better be legacy kube"}},
		{Rule: "priorities in range", New: `{metadata: {name: v1.a}, spec: {group: a, version: v1, groupPriorityMinimum: 20001}}`, Want: []string{
			"spec.groupPriorityMinimum: Invalid value: 20001: must be positive and less than 20000",
			"spec.versionPriority: Invalid value: 0: must be positive and less than 1000"}},
		{Rule: "no trust in ourselves", New: wardle(", caBundle: YQ==, insecureSkipTLSVerify: true"), Want: []string{
			`spec.caBundle: Invalid value: "1 bytes": local APIServices may not have a caBundle`,
			"spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify"}},
		{Rule: "a service that can be", New: wardle(", service: {port: 70000}"), Want: []string{
			"spec.service.namespace: Required value", "spec.service.name: Required value",
			"spec.service.port: Invalid value: 70000: port is not valid: must be between 1 and 65535, inclusive"}},
		{Rule: "trusted one way", New: wardle(", caBundle: YQ==, insecureSkipTLSVerify: true, service: {namespace: a, name: b}"), Want: []string{
			"spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present"}},
	})
	status := apiregistration.APIService().Parts["status"]
	bad := &apiregistrationv1.APIService{Status: apiregistrationv1.APIServiceStatus{Conditions: []apiregistrationv1.APIServiceCondition{{Status: "Maybe"}}}}
	kindtest.Compare(t, status.Validate(bad, bad), `status.conditions[0].status: Unsupported value: "Maybe": supported values: "True", "False", "Unknown"`)
}

func TestAPIServiceColumns(t *testing.T) {
	k := apiregistration.APIService()
	if got, want := kindtest.Header(k), []string{"Name", "Service", "Available", "Age"}; !slices.Equal(got, want) {
		t.Errorf("columns %v, want %v", got, want)
	}
	local := kindtest.Create(t, k, wardle("")).(*apiregistrationv1.APIService)
	remote := kindtest.Create(t, k, wardle(", service: {namespace: shop, name: api}")).(*apiregistrationv1.APIService)
	down := remote.DeepCopy()
	down.Status.Conditions = []apiregistrationv1.APIServiceCondition{{Type: "Available", Status: "False", Reason: "MissingEndpoints"}}
	for _, c := range []struct {
		it   string
		of   *apiregistrationv1.APIService
		want []any
	}{
		{"is available at once where it is our own", local, []any{"Local", "True"}},
		{"is not known at first", remote, []any{"shop/api", "Unknown"}},
		{"says why not", down, []any{"shop/api", "False (MissingEndpoints)"}},
	} {
		if got := kindtest.Row(k, c.of)[1:3]; !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.it, got, c.want)
		}
	}
	if p := remote.Spec.Service.Port; p == nil || *p != 443 {
		t.Errorf("port %v, want 443", p)
	}
	if got := apiregistration.Name(schema.GroupVersion{Version: "v1"}); got != "v1." {
		t.Errorf("the core group's is called %q", got)
	}
}
