package admission

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
)

func TestANamespaceIsMadeWhereThereIsNone(t *testing.T) {
	world := clienttest.New(t, kind.NewTable(core.Kinds()), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "there"}})
	p := AutoProvision{Reader: world, Client: func() client.Client { return world }}
	for _, tc := range []struct {
		it, namespace string
		change        func(a *Attempt)
		made          bool
	}{
		{it: "there", namespace: "there", made: true},
		{it: "new", namespace: "new", made: true},
		{it: "only tried", namespace: "dry", change: func(a *Attempt) { a.Request.DryRun = true }},
		{it: "not for an update", namespace: "late", change: func(a *Attempt) { a.Operation = Update }},
	} {
		t.Run(tc.it, func(t *testing.T) {
			a := create(client.KindOf[*corev1.ConfigMap](world), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "m", Namespace: tc.namespace}})
			a.Request.Namespace = tc.namespace
			if tc.change != nil {
				tc.change(a)
			}
			if err := p.Mutate(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			if _, err := client.Get[*corev1.Namespace](t.Context(), world, "", tc.namespace); (err == nil) != tc.made {
				t.Errorf("the namespace: %v", err)
			}
		})
	}
}
