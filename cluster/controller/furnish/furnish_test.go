package furnish_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/controller/furnish"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
)

func TestEveryNamespaceHasItAndKeepsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leaving := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "leaving"}, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating}}
		fake := clienttest.New(t, kind.NewTable(core.Kinds()), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, leaving)
		ctx, stop := context.WithCancel(t.Context())
		over := make(chan error, 1)
		go func() { over <- furnish.RootCA(fake, slog.New(slog.DiscardHandler), "PEM").Run(ctx) }()
		defer func() {
			stop()
			if err := <-over; err != nil {
				t.Error(err)
			}
		}()
		has := func(namespace string) string {
			synctest.Wait()
			m, err := client.Get[*corev1.ConfigMap](ctx, fake, namespace, "kube-root-ca.crt")
			if err != nil {
				return ""
			}
			return m.Data["ca.crt"]
		}
		if has("a") != "PEM" || has("leaving") != "" {
			t.Errorf("a has %q, leaving has %q", has("a"), has("leaving"))
		}
		fake.Put(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "b"}})
		if has("b") != "PEM" {
			t.Error("a new namespace has none")
		}
		fake.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "kube-root-ca.crt"}, Data: map[string]string{"ca.crt": "EVIL"}})
		if has("a") != "PEM" {
			t.Error("a change was not put right")
		}
		fake.Drop(client.KindOf[*corev1.ConfigMap](fake), "b", "kube-root-ca.crt")
		if has("b") != "PEM" {
			t.Error("deleted, it did not come back")
		}
	})
}
