package node_test

import (
	"slices"
	"strings"
	"testing"

	"sampan/cluster/kind/kindtest"
	"sampan/cluster/kind/node"
)

func TestRuntimeClassRules(t *testing.T) {
	k := node.RuntimeClass()
	kindtest.Check(t, k, []kindtest.Rule{
		{Rule: "a handler is enough", New: `{handler: kata}`},
		{Rule: "it runs something", New: `{}`, Want: []string{"handler: Required value"}},
		{Rule: "a handler is short", New: `{handler: ` + strings.Repeat("a", 64) + `}`, Want: []string{
			`handler: Invalid value: "` + strings.Repeat("a", 64) + `": must be no more than 63 bytes`}},
		{Rule: "which is said in another way of one that is there", Old: `{handler: kata}`, New: `{handler: ` + strings.Repeat("a", 64) + `}`, Want: []string{
			`handler: Invalid value: "` + strings.Repeat("a", 64) + `": must be no more than 63 characters`, `handler: Invalid value: null: field is immutable`}},
		{Rule: "the same for ever", Old: `{handler: kata}`, New: `{handler: runc}`, Want: []string{`handler: Invalid value: null: field is immutable`}},
		{Rule: "it costs what nodes have", New: `{handler: kata, overhead: {podFixed: {storage: 1}}}`, Want: []string{
			`overhead.limits[storage]: Invalid value: "storage": must be a standard resource for containers`}},
		{Rule: "of which a name is both none and not standard", New: `{handler: kata, overhead: {podFixed: {a/b/c: 1}}}`, Want: []string{
			`overhead.limits[a/b/c]: Invalid value: "a/b/c": a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')`,
			`overhead.limits[a/b/c]: Invalid value: "a/b/c": doesn't follow extended resource name standard`}},
		{Rule: "a toleration once", New: `{handler: kata, scheduling: {tolerations: [{key: a, operator: Exists}, {key: a, operator: Exists, effect: NoExecute}, {key: a, operator: Exists, effect: NoExecute, tolerationSeconds: 3}]}}`,
			Want: []string{`scheduling.tolerations[2]: Duplicate value: {"key":"a","operator":"Exists","effect":"NoExecute","tolerationSeconds":3}`}},
	})
	if got, want := kindtest.Row(k, kindtest.Read(t, k, `{metadata: {name: c}, handler: kata}`)), []any{"c", "kata", "<unknown>"}; !slices.Equal(got, want) {
		t.Errorf("row %q, want %q", got, want)
	}
	if !k.CreateOnUpdate || !k.Conditional {
		t.Error("a PUT makes a class, and must name the revision it replaces")
	}
}
