package clusterrole_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/controller/clusterrole"
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
		fake := clienttest.New(t, kind.NewTable(rbac.Kinds()), gathers("edit", "", "edit"), gathers("view", "edit", "view"), gives("a", "view", "pods"))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- clusterrole.New(clusterrole.Config{Client: fake, Log: slog.New(slog.DiscardHandler)}).Run(ctx)
		}()
		check := func(what, name string, want int) {
			t.Helper()
			synctest.Wait()
			r, err := client.Get[*rbacv1.ClusterRole](ctx, fake, "", name)
			if err != nil || len(r.Rules) != want {
				t.Errorf("%s: %s has rules %v (%v), want %d", what, name, r.Rules, err, want)
			}
		}
		check("at first", "view", 1)
		check("and further on", "edit", 1)
		fake.Put(gives("b", "view", "services"))
		check("another role", "edit", 2)
		fake.Drop(rbac.ClusterRole(), "", "a")
		check("one role less", "edit", 1)
		before := len(fake.Actions())
		fake.Put(gives("c", "other", "nodes"))
		check("a role that nobody gathers", "edit", 1)
		if after := len(fake.Actions()); after != before {
			t.Errorf("%d writes for nothing", after-before)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
