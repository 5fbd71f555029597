package clusterrole_test

import (
	"log/slog"
	"testing"
	"testing/synctest"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/controller/clusterrole"
	"sampan/cluster/controller/controllertest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/rbac"
)

func TestRulesFollowTheRolesThatAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gathers := func(name, into, from string) *rbacv1.ClusterRole {
			return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"into": into}},
				AggregationRule: &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"into": from}}}}}
		}
		gives := func(name, into, resource string) *rbacv1.ClusterRole {
			return &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"into": into}},
				Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{resource}}}}
		}
		w := controllertest.New(t, kind.NewTable(rbac.Kinds()), gathers("edit", "", "edit"), gathers("view", "edit", "view"), gives("a", "view", "pods"))
		w.Validate = false
		w.Start(clusterrole.New(clusterrole.Config{Client: w, Log: slog.New(slog.DiscardHandler)}))
		check := func(what, name string, want int) {
			t.Helper()
			synctest.Wait()
			if r := controllertest.Get[*rbacv1.ClusterRole](w, "", name); len(r.Rules) != want {
				t.Errorf("%s: %s has rules %v, want %d", what, name, r.Rules, want)
			}
		}
		check("at first", "view", 1)
		check("and further on", "edit", 1)
		w.Put(gives("b", "view", "services"))
		check("another role", "edit", 2)
		w.Drop(rbac.ClusterRole(), "", "a")
		check("one role less", "edit", 1)
		before := len(w.Actions())
		w.Put(gives("c", "other", "nodes"))
		check("a role that nobody gathers", "edit", 1)
		if after := len(w.Actions()); after != before {
			t.Errorf("%d writes for nothing", after-before)
		}
	})
}
