package clusterrole

import (
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// role is a role with labels "into-X" and rules for resources; from are the
// labels that it gathers by.
func role(name, into, from, resources string) *rbacv1.ClusterRole {
	r := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"into": into}}}
	for _, f := range strings.Fields(from) {
		if r.AggregationRule == nil {
			r.AggregationRule = &rbacv1.AggregationRule{}
		}
		r.AggregationRule.ClusterRoleSelectors = append(r.AggregationRule.ClusterRoleSelectors,
			metav1.LabelSelector{MatchLabels: map[string]string{"into": f}})
	}
	for _, res := range strings.Fields(resources) {
		r.Rules = append(r.Rules, rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{res}})
	}
	return r
}

func TestWhatARoleGathers(t *testing.T) {
	for _, tc := range []struct {
		it   string
		role *rbacv1.ClusterRole
		all  []*rbacv1.ClusterRole
		want string
		same bool
	}{
		{"nothing from nobody", role("x", "", "view", ""), nil, "", true},
		{"by name, each rule once", role("x", "", "view", ""),
			[]*rbacv1.ClusterRole{role("b", "view", "", "pods nodes"), role("a", "view", "", "pods"), role("c", "edit", "", "secrets")}, "pods nodes", false},
		{"by selector first", role("x", "", "edit view", ""),
			[]*rbacv1.ClusterRole{role("a", "view", "", "pods"), role("b", "edit", "", "secrets")}, "secrets pods", false},
		{"not from itself", role("x", "view", "view", "pods"), []*rbacv1.ClusterRole{role("x", "view", "view", "pods")}, "", false},
		{"no more than there is", role("x", "", "view", "pods secrets"), []*rbacv1.ClusterRole{role("a", "view", "", "pods")}, "pods", false},
		{"nothing anew", role("x", "", "view", "pods"), []*rbacv1.ClusterRole{role("a", "view", "", "pods")}, "pods", true},
	} {
		t.Run(tc.it, func(t *testing.T) {
			before := slices.Clone(tc.all)
			rules, same, err := decide(tc.role, tc.all)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range rules {
				got = append(got, r.Resources...)
			}
			if strings.Join(got, " ") != tc.want || same != tc.same {
				t.Errorf("%q same %v, want %q %v", got, same, tc.want, tc.same)
			}
			if !slices.Equal(before, tc.all) {
				t.Error("what is shared was sorted in place")
			}
		})
	}
	bad := role("x", "", "view", "")
	bad.AggregationRule.ClusterRoleSelectors[0].MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}}
	if _, _, err := decide(bad, nil); err == nil {
		t.Error("a selector that selects nothing readable was taken for one that selects nothing")
	}
}
