package policy

import (
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestEveryBindingBindsARoleThatIsThere(t *testing.T) {
	p := Bootstrap()
	roles := map[string]bool{}
	for _, r := range p.ClusterRoles {
		if roles[r.Name] {
			t.Errorf("ClusterRole %s is there twice", r.Name)
		}
		roles[r.Name] = true
		if r.AggregationRule == nil && len(r.Rules) == 0 {
			t.Errorf("ClusterRole %s gives nothing", r.Name)
		}
	}
	for _, r := range p.Roles {
		roles[r.Namespace+"/"+r.Name] = true
	}
	bound := map[string]bool{}
	for _, b := range p.ClusterRoleBindings {
		if bound[b.Name] {
			t.Errorf("ClusterRoleBinding %s is there twice", b.Name)
		}
		bound[b.Name] = true
		if b.RoleRef.Kind != "ClusterRole" || !roles[b.RoleRef.Name] {
			t.Errorf("ClusterRoleBinding %s binds %v", b.Name, b.RoleRef)
		}
	}
	for _, b := range p.RoleBindings {
		if b.RoleRef.Kind != "Role" || !roles[b.Namespace+"/"+b.RoleRef.Name] || len(b.Subjects) == 0 {
			t.Errorf("RoleBinding %s/%s binds %v to %v", b.Namespace, b.Name, b.RoleRef, b.Subjects)
		}
	}
	// Upstream's 1.37 has these many (bootstrappolicy/testdata), own.txt a few more.
	if got := []int{len(p.ClusterRoles), len(p.ClusterRoleBindings), len(p.Roles), len(p.RoleBindings)}; !slices.Equal(got, []int{77, 58, 8, 8}) {
		t.Errorf("%v", got)
	}
}

func TestTheTextReads(t *testing.T) {
	p := &Policy{}
	p.read("test", `# words
ClusterRole edit into admin from edit
	get,list core,apps: pods deployments/scale named a b
	get /api /api/*
ClusterRole system:controller:x
	get core: pods
RoleBinding n/b of Role r
	User u
	ServiceAccount m/s
`)
	edit := p.ClusterRoles[0]
	if edit.Labels["rbac.authorization.k8s.io/aggregate-to-admin"] != "true" ||
		edit.AggregationRule.ClusterRoleSelectors[0].MatchLabels["rbac.authorization.k8s.io/aggregate-to-edit"] != "true" {
		t.Errorf("%+v", edit)
	}
	r := edit.Rules[0]
	if !slices.Equal(r.APIGroups, []string{"", "apps"}) || !slices.Equal(r.Resources, []string{"pods", "deployments/scale"}) ||
		!slices.Equal(r.ResourceNames, []string{"a", "b"}) || !slices.Equal(r.Verbs, []string{"get", "list"}) {
		t.Errorf("%+v", r)
	}
	if r := edit.Rules[1]; !slices.Equal(r.NonResourceURLs, []string{"/api", "/api/*"}) || r.Resources != nil {
		t.Errorf("%+v", r)
	}
	if b := p.ClusterRoleBindings[0]; b.Name != "system:controller:x" || b.Subjects[0] != (rbacv1.Subject{
		Kind: "ServiceAccount", Namespace: metav1.NamespaceSystem, Name: "x"}) {
		t.Errorf("%+v", b)
	}
	if b := p.RoleBindings[0]; b.Namespace != "n" || b.Name != "b" || b.RoleRef.Name != "r" || b.Subjects[0].APIGroup != rbacv1.GroupName ||
		b.Subjects[1].Namespace != "m" {
		t.Errorf("%+v", b)
	}
}

func TestNonsensePanics(t *testing.T) {
	for _, text := range []string{"Robot r", "ClusterRole", "\tget core: pods", "ClusterRole r\n\tget"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%q reads", text)
				}
			}()
			(&Policy{}).read("test", text)
		}()
	}
}

func TestNodesHaveRules(t *testing.T) {
	if len(Node()) < 10 {
		t.Errorf("%v", Node())
	}
}

func BenchmarkBootstrap(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Bootstrap()
	}
}
