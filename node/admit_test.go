package node

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/client"
	"sampan/node/pod/podtest"
)

func TestAPodThatDoesNotFitFails(t *testing.T) {
	inWorld(t, &podtest.Runtime{}, func(w *world) {
		port := func(p *corev1.Pod) {
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 8080}}
		}
		w.create(aPod("one", port))
		w.create(aPod("two", port))
		if p := w.pod("two"); p.Status.Phase != corev1.PodFailed || p.Status.Reason != "NodePorts" {
			t.Errorf("status: %+v", p.Status)
		}
		w.create(aPod("elsewhere", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"no": "such"} }))
		if p := w.pod("elsewhere"); p.Status.Reason != "NodeAffinity" || p.Status.Message != "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector" {
			t.Errorf("status: %+v", p.Status)
		}
		// A label counts at once, not with the node's next report.
		n, err := client.Get[*corev1.Node](context.Background(), w.api, "", "n1")
		if err != nil {
			t.Fatal(err)
		}
		n = n.DeepCopy()
		n.Labels["no"] = "such"
		w.api.Put(n)
		w.create(aPod("here", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"no": "such"} }))
		if p := w.pod("here"); p.Status.Phase != corev1.PodRunning {
			t.Errorf("status: %+v", p.Status)
		}
		w.delete("two", 30)
		w.after(2 * time.Second)
		if w.pod("two") != nil {
			t.Error("a refused pod cannot be deleted")
		}
	})
}
