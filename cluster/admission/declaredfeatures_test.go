package admission

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/version"

	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/kindtest"
)

func TestAPodIsChangedAsItsNodeSaysItCan(t *testing.T) {
	const resizesPods = "InPlacePodLevelResourcesVerticalScaling"
	plugin := DeclaredFeatures{Version: version.MajorMinor(1, 37), Reader: clienttest.New(t, kind.NewTable(core.Kinds()),
		kindtest.Read(t, core.Node(), `{metadata: {name: plain}}`),
		kindtest.Read(t, core.Node(), `{metadata: {name: able}, status: {declaredFeatures: [`+resizesPods+`, SomethingElse]}}`))}
	pod := func(node, cpu, init string) *corev1.Pod {
		p := kindtest.Create(t, core.Pod(), `{metadata: {name: p, namespace: shop}, spec: {resources: {requests: {cpu: "`+cpu+`"}},
			initContainers: [{name: i, image: i, resources: {requests: {cpu: "`+init+`"}}}], containers: [{name: c, image: i}]}}`).(*corev1.Pod)
		p.Spec.NodeName, p.Generation = node, 1
		return p
	}
	for _, test := range []struct {
		it, node, sub string
		change        func(*corev1.Pod)
		same          bool // in its generation
		refusal       string
	}{
		{it: "a change that needs nothing", node: "plain", change: func(p *corev1.Pod) { p.Spec.Containers[0].Image = "j" }},
		{it: "other resources for the pod, where nobody can give them", node: "plain", sub: "resize",
			change:  func(p *corev1.Pod) { p.Spec = pod("plain", "2", "1").Spec },
			refusal: `pods "p" is forbidden: pod update requires features InPlacePodLevelResourcesVerticalScaling which are not available on node "plain"`},
		{it: "the same where the node can", node: "able", sub: "resize", change: func(p *corev1.Pod) { p.Spec = pod("able", "2", "1").Spec }},
		{it: "more than the node can", node: "able", sub: "resize", change: func(p *corev1.Pod) { p.Spec = pod("able", "2", "2").Spec },
			refusal: "requires features InPlacePodVerticalScalingInitContainers which are not available"},
		{it: "before it has a node", sub: "resize", change: func(p *corev1.Pod) { p.Spec = pod("", "2", "2").Spec }},
		{it: "on a node that is gone", node: "gone", sub: "resize", change: func(p *corev1.Pod) { p.Spec = pod("gone", "2", "1").Spec },
			refusal: `node "gone" not found`},
		{it: "in its status", node: "plain", sub: "status", change: func(p *corev1.Pod) { p.Spec = pod("plain", "2", "1").Spec }},
		{it: "in nothing that counts", node: "plain", same: true, change: func(p *corev1.Pod) { p.Spec = pod("plain", "2", "1").Spec }},
	} {
		t.Run(test.it, func(t *testing.T) {
			old := pod(test.node, "1", "1")
			now := old.DeepCopy()
			test.change(now)
			if !test.same {
				now.Generation++
			}
			a := create(core.Pod(), now)
			a.Request.Name, a.Request.Subresource, a.Operation, a.Old = "p", test.sub, Update, old
			err := plugin.Review(t.Context(), a)
			if (err == nil) != (test.refusal == "") || err != nil && !strings.Contains(err.Error(), test.refusal) {
				t.Errorf("got %v, want %q", err, test.refusal)
			}
		})
	}
}
