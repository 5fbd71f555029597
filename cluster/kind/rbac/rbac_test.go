package rbac_test

import (
	"slices"
	"strings"
	"testing"

	"sampan/cluster/kind/kindtest"
	"sampan/cluster/kind/rbac"
)

func TestRoleRules(t *testing.T) {
	kindtest.Check(t, rbac.Role(), []kindtest.Rule{
		{Rule: "a role may give nothing", New: `{}`},
		{Rule: "a rule has verbs, groups and resources", New: `rules: [{}]`, Want: []string{
			"rules[0].verbs: Required value",
			"rules[0].apiGroups: Required value: resource rules must supply at least one api group",
			"rules[0].resources: Required value: resource rules must supply at least one resource"}},
		{Rule: "paths are in no namespace", New: `rules: [{verbs: [get], nonResourceURLs: [/x]}]`, Want: []string{
			`rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs`}},
	})
	k := rbac.Role()
	if got := k.ValidateName("system:controller:x", false); len(got) > 0 {
		t.Errorf("a colon is fine in a name: %q", got)
	}
	if got := k.ValidateName("a/b", false); len(got) == 0 {
		t.Error("a slash cannot be in a name")
	}
}

func TestClusterRoleRules(t *testing.T) {
	kindtest.Check(t, rbac.ClusterRole(), []kindtest.Rule{
		{Rule: "paths alone", New: `rules: [{verbs: [get], nonResourceURLs: [/x]}]`},
		{Rule: "paths and resources are two rules", New: `rules: [{verbs: [get], nonResourceURLs: [/x], apiGroups: [""], resources: [pods]}]`, Want: []string{
			`rules[0].nonResourceURLs: Invalid value: ["/x"]: rules cannot apply to both regular resources and non-resource URLs`}},
		{Rule: "aggregation selects", New: `aggregationRule: {}`, Want: []string{
			"aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil"}},
		{Rule: "by values that labels can have", New: `aggregationRule: {clusterRoleSelectors: [{matchLabels: {a: "-"}}]}`, Want: []string{
			`aggregationRule.clusterRoleSelectors[0].matchLabels: Invalid value: "-": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')`,
			`aggregationRule.clusterRoleSelectors[0]: Invalid value: null: invalid label selector.`}},
	})
}

func TestBindingRules(t *testing.T) {
	kindtest.Check(t, rbac.RoleBinding(), []kindtest.Rule{
		{Rule: "groups are filled in", New: `{roleRef: {kind: Role, name: r}, subjects: [{kind: User, name: u}, {kind: Group, name: g}, {kind: ServiceAccount, name: s}]}`},
		{Rule: "it binds something", New: `{}`, Want: []string{
			`roleRef.kind: Unsupported value: "": supported values: "Role", "ClusterRole"`, "roleRef.name: Required value"}},
		{Rule: "subjects have kinds", New: `{roleRef: {kind: ClusterRole, name: r}, subjects: [{kind: Robot, name: u}, {kind: ServiceAccount, apiGroup: x, name: S}]}`, Want: []string{
			`subjects[0].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group"`,
			`subjects[1].name: Invalid value: "S": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`,
			`subjects[1].apiGroup: Unsupported value: "x": supported values: ""`}},
		{Rule: "what is bound stays", Old: `roleRef: {kind: Role, name: r}`, New: `roleRef: {kind: Role, name: s}`, Want: []string{
			`roleRef: Invalid value: {"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"s"}: field is immutable`}},
	})
	kindtest.Check(t, rbac.ClusterRoleBinding(), []kindtest.Rule{
		{Rule: "it binds a ClusterRole", New: `roleRef: {kind: Role, name: r}`, Want: []string{
			`roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"`}},
		{Rule: "a service account is of a namespace", New: `{roleRef: {kind: ClusterRole, name: r}, subjects: [{kind: ServiceAccount, name: s}]}`, Want: []string{
			"subjects[0].namespace: Required value"}},
	})
}

func TestColumns(t *testing.T) {
	k := rbac.RoleBinding()
	if got := strings.Join(kindtest.Header(k), " "); got != "Name Role Age Users+ Groups+ ServiceAccounts+" {
		t.Error(got)
	}
	got := kindtest.Row(k, kindtest.Read(t, k, `{metadata: {name: b}, roleRef: {kind: Role, name: r}, subjects: [
		{kind: User, name: u}, {kind: User, name: v}, {kind: Group, name: g}, {kind: ServiceAccount, name: s, namespace: ns}]}`))
	if want := []any{"b", "Role/r", "<unknown>", "u, v", "g", "ns/s"}; !slices.Equal(got, want) {
		t.Errorf("row %q, want %q", got, want)
	}
	k = rbac.ClusterRole()
	if got := strings.Join(kindtest.Header(k), " "); got != "Name Created At" {
		t.Error(got)
	}
	if got := kindtest.Row(k, kindtest.Read(t, k, `{metadata: {name: r, creationTimestamp: "2026-11-21T10:00:00Z"}}`)); got[1] != "2026-11-21T10:00:00Z" {
		t.Errorf("row %q", got)
	}
}
