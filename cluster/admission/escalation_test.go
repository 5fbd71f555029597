package admission

import (
	"context"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/kind"
	"sampan/cluster/kind/rbac"
	"sampan/cluster/request"
)

// powers is what each user has: rules, and verbs for "escalate" and "bind".
type powers struct {
	rules map[string][]rbacv1.PolicyRule
	verbs map[string]string // "user verb resource name"
	roles map[string][]rbacv1.PolicyRule
}

func (p powers) May(_ context.Context, u request.User, verb, resource, _, name string) bool {
	return p.verbs[u.Name] == verb+" "+resource+" "+name
}

func (p powers) RulesFor(_ context.Context, u request.User, _ string) ([]rbacv1.PolicyRule, error) {
	return p.rules[u.Name], nil
}

func (p powers) RulesOf(_ context.Context, ref rbacv1.RoleRef, _ string) ([]rbacv1.PolicyRule, error) {
	if rules, ok := p.roles[ref.Name]; ok {
		return rules, nil
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{Group: rbacv1.GroupName, Resource: "clusterroles"}, ref.Name)
}

func TestNobodyGivesWhatHeDoesNotHave(t *testing.T) {
	rule := func(verbs, resource string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{Verbs: strings.Split(verbs, " "), APIGroups: []string{""}, Resources: []string{resource}}
	}
	all := rbacv1.PolicyRule{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}}
	paths := rbacv1.PolicyRule{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}}
	p := powers{
		rules: map[string][]rbacv1.PolicyRule{"ann": {rule("get list", "pods")}, "root": {all, paths}},
		verbs: map[string]string{"esc": "escalate clusterroles r", "binder": "bind clusterroles big"},
		roles: map[string][]rbacv1.PolicyRule{"small": {rule("get", "pods")}, "big": {rule("delete get", "nodes")}},
	}
	e := Escalation{May: p, Rules: p}
	role := func(rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
		return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Rules: rules}
	}
	gathering := role()
	gathering.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{}}}
	bind := func(name string) *rbacv1.RoleBinding {
		return &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "b"},
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name}}
	}
	finalized := role(all)
	finalized.Finalizers = []string{"x/y"}
	const held = ` (groups=["g"]) is attempting to grant RBAC permissions not currently held:` + "\n"
	for _, tc := range []struct {
		it       string
		user     string
		verb     string
		old, obj kind.Object
		want     string
	}{
		{"what he has", "ann", "create", nil, role(rule("get", "pods")), ""},
		{"not more", "ann", "create", nil, role(rule("get delete", "pods"), rule("create", "nodes")), `clusterroles.rbac.authorization.k8s.io "r" is forbidden: user "ann"` + held +
			`{APIGroups:[""], Resources:["nodes"], Verbs:["create"]}` + "\n" + `{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}`},
		{"not by a change", "ann", "update", role(), role(rule("delete", "pods")), `clusterroles.rbac.authorization.k8s.io "r" is forbidden: user "ann"` + held +
			`{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}`},
		{"who may do everything, everything", "root", "create", nil, role(all, paths), ""},
		{"who may escalate a role, everything", "esc", "update", role(), role(all), ""},
		{"but not by making one of that name", "esc", "create", nil, role(all), `clusterroles.rbac.authorization.k8s.io "r" is forbidden: user "esc"` + held +
			`{APIGroups:["*"], Resources:["*"], Verbs:["*"]}`},
		{"nothing gathered", "ann", "create", nil, gathering, `clusterroles.rbac.authorization.k8s.io "r" is forbidden: must have cluster-admin privileges to use the aggregationRule`},
		{"nor kept from being gathered", "ann", "update", gathering, role(), `clusterroles.rbac.authorization.k8s.io "r" is forbidden: must have cluster-admin privileges to use the aggregationRule`},
		{"gathered by who may do everything", "root", "create", nil, gathering, ""},
		{"what is only let go", "ann", "update", finalized, role(all), ""},
		{"a role within his own", "ann", "create", nil, bind("small"), ""},
		{"not a role beyond", "ann", "create", nil, bind("big"), `rolebindings.rbac.authorization.k8s.io "b" is forbidden: user "ann"` + held +
			`{APIGroups:[""], Resources:["nodes"], Verbs:["delete" "get"]}`},
		{"one that he may bind", "binder", "create", nil, bind("big"), ""},
		{"not one that is missing", "ann", "create", nil, bind("none"), `rolebindings.rbac.authorization.k8s.io "none" not found`},
	} {
		t.Run(tc.it, func(t *testing.T) {
			k := rbac.ClusterRole()
			if _, ok := tc.obj.(*rbacv1.RoleBinding); ok {
				k = rbac.RoleBinding()
			}
			a := &Attempt{Operation: Create, Object: tc.obj, Request: request.Request{Verb: tc.verb, Kind: k, GVK: k.GVK,
				Namespace: tc.obj.GetNamespace(), Name: tc.obj.GetName(), User: request.User{Name: tc.user, Groups: []string{"g"}}}}
			if tc.old != nil {
				a.Operation, a.Old = Update, tc.old
			}
			got := ""
			if err := e.Mutate(t.Context(), a); err != nil {
				got = err.Error()
			}
			if got != tc.want {
				t.Errorf("%s\nwant %s", got, tc.want)
			}
			a.Request.User.Groups = append(a.Request.User.Groups, "system:masters")
			if err := e.Mutate(t.Context(), a); err != nil {
				t.Errorf("a master: %v", err)
			}
		})
	}
}
