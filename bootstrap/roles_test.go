package bootstrap

import (
	"context"
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/auth/policy"
	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/rbac"
)

func rule(resource string, verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: verbs, APIGroups: []string{""}, Resources: []string{resource}}
}

// wanted is a small policy with one object of each kind.
func wanted() *policy.Policy {
	meta := func(ns string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: ns, Name: "x", Labels: map[string]string{"kubernetes.io/bootstrapping": "rbac-defaults"},
			Annotations: map[string]string{rbacv1.AutoUpdateAnnotationKey: "true"}}
	}
	ann := []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "ann"}}
	return &policy.Policy{
		ClusterRoles:        []*rbacv1.ClusterRole{{ObjectMeta: meta(""), Rules: []rbacv1.PolicyRule{rule("pods", "get", "list")}}},
		Roles:               []*rbacv1.Role{{ObjectMeta: meta("n"), Rules: []rbacv1.PolicyRule{rule("pods", "get")}}},
		ClusterRoleBindings: []*rbacv1.ClusterRoleBinding{{ObjectMeta: meta(""), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "x"}, Subjects: ann}},
		RoleBindings:        []*rbacv1.RoleBinding{{ObjectMeta: meta("n"), RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "x"}, Subjects: ann}},
	}
}

func TestRolesAreMissedAndMended(t *testing.T) {
	fake := clienttest.New(t, kind.NewTable(rbac.Kinds()))
	ctx := context.Background()
	write := func() int {
		t.Helper()
		before := len(fake.Actions())
		if err := keepPolicy(ctx, fake, wanted()); err != nil {
			t.Fatal(err)
		}
		return len(fake.Actions()) - before
	}
	if n := write(); n != 4 {
		t.Errorf("%d writes into an empty store, want 4", n)
	}
	if n := write(); n != 0 {
		t.Errorf("%d writes where nothing is missing", n)
	}

	role, err := client.Get[*rbacv1.ClusterRole](ctx, fake, "", "x")
	if err != nil {
		t.Fatal(err)
	}
	role = role.DeepCopy()
	role.Labels = map[string]string{"mine": "too"}
	role.Rules = []rbacv1.PolicyRule{rule("pods", "get"), rule("nodes", "get")}
	fake.Put(role)
	binding, err := client.Get[*rbacv1.ClusterRoleBinding](ctx, fake, "", "x")
	if err != nil {
		t.Fatal(err)
	}
	binding = binding.DeepCopy()
	binding.RoleRef.Name, binding.UID = "other", "1"
	fake.Put(binding)
	local, err := client.Get[*rbacv1.RoleBinding](ctx, fake, "n", "x")
	if err != nil {
		t.Fatal(err)
	}
	local = local.DeepCopy()
	local.Subjects = []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "bob"}}
	fake.Put(local)
	write()

	if role, err = client.Get[*rbacv1.ClusterRole](ctx, fake, "", "x"); err != nil {
		t.Fatal(err)
	}
	if want := []rbacv1.PolicyRule{rule("pods", "get"), rule("nodes", "get"), rule("pods", "list")}; !kind.Equal(role.Rules, want) {
		t.Errorf("rules %v, want what was there and what was missing: %v", role.Rules, want)
	}
	if role.Labels["mine"] != "too" || role.Labels["kubernetes.io/bootstrapping"] == "" {
		t.Errorf("labels %v", role.Labels)
	}
	if binding, err = client.Get[*rbacv1.ClusterRoleBinding](ctx, fake, "", "x"); err != nil || binding.RoleRef.Name != "x" {
		t.Errorf("a binding of another role stays: %v (%v)", binding, err)
	}
	if local, err = client.Get[*rbacv1.RoleBinding](ctx, fake, "n", "x"); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range local.Subjects {
		names = append(names, s.Name)
	}
	if !slices.Equal(names, []string{"bob", "ann"}) {
		t.Errorf("subjects %q", names)
	}

	role = role.DeepCopy()
	role.Annotations = map[string]string{rbacv1.AutoUpdateAnnotationKey: "false"}
	role.Rules = nil
	fake.Put(role)
	if n := write(); n != 0 {
		t.Errorf("%d writes to a role that is to be left alone", n)
	}
}

func TestAggregationIsMended(t *testing.T) {
	by := func(labels ...string) *rbacv1.AggregationRule {
		r := &rbacv1.AggregationRule{}
		for _, l := range labels {
			r.ClusterRoleSelectors = append(r.ClusterRoleSelectors, metav1.LabelSelector{MatchLabels: map[string]string{l: "true"}})
		}
		return r
	}
	for _, tc := range []struct {
		it                string
		have, want, after *rbacv1.AggregationRule
		verdict           verdict
	}{
		{"none stays none", nil, nil, nil, fine},
		{"what is gathered stays gathered", by("a"), by("a"), by("a"), fine},
		{"more is fine", by("a", "b"), by("a"), by("a", "b"), fine},
		{"what is missing comes", by("b"), by("a"), by("b", "a"), update},
		{"a role that gathers", nil, by("a"), by("a"), update},
		{"a role that must not gather", by("a"), nil, nil, update},
	} {
		t.Run(tc.it, func(t *testing.T) {
			have := &rbacv1.ClusterRole{AggregationRule: tc.have}
			if got := mendClusterRole(have, &rbacv1.ClusterRole{AggregationRule: tc.want}); got != tc.verdict || !kind.Equal(have.AggregationRule, tc.after) {
				t.Errorf("%v %v, want %v %v", got, have.AggregationRule, tc.verdict, tc.after)
			}
		})
	}
}
