package furnish_test

import (
	"log/slog"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/controller/controllertest"
	"sampan/cluster/controller/furnish"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
)

func TestEveryNamespaceHasItAndKeepsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leaving := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "leaving"}, Status: corev1.NamespaceStatus{Phase: corev1.NamespaceTerminating}}
		w := controllertest.New(t, kind.NewTable(core.Kinds()), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, leaving)
		w.Validate = false
		w.Start(furnish.RootCA(w, slog.New(slog.DiscardHandler), "PEM"))
		has := func(namespace string) string {
			synctest.Wait()
			m, err := client.Get[*corev1.ConfigMap](t.Context(), w, namespace, "kube-root-ca.crt")
			if err != nil {
				return ""
			}
			return m.Data["ca.crt"]
		}
		if has("a") != "PEM" || has("leaving") != "" {
			t.Errorf("a has %q, leaving has %q", has("a"), has("leaving"))
		}
		w.Put(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "b"}})
		if has("b") != "PEM" {
			t.Error("a new namespace has none")
		}
		w.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "kube-root-ca.crt"}, Data: map[string]string{"ca.crt": "EVIL"}})
		if has("a") != "PEM" {
			t.Error("a change was not put right")
		}
		w.Drop(client.KindOf[*corev1.ConfigMap](w), "b", "kube-root-ca.crt")
		if has("b") != "PEM" {
			t.Error("deleted, it did not come back")
		}
	})
}
