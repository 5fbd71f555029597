package scheduler

import (
	"fmt"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// node is a machine of 4 cores, 8 GiB and 10 pods, changed by with.
func node(name string, with ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
	n.Status.Allocatable = corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"),
		corev1.ResourcePods: resource.MustParse("10"),
	}
	for _, f := range with {
		f(n)
	}
	return n
}

func tainted(effect corev1.TaintEffect) func(*corev1.Node) {
	return func(n *corev1.Node) {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "for", Value: "db", Effect: effect})
	}
}

func cordoned(n *corev1.Node) { n.Spec.Unschedulable = true }

func zone(z string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels["zone"] = z }
}

// pod asks for one core and 1 GiB, changed by with.
func pod(name string, with ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name)}}
	p.Spec.SchedulerName = Name
	p.Spec.Containers = []corev1.Container{{Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("1Gi")}}}}
	for _, f := range with {
		f(p)
	}
	return p
}

func on(node string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Spec.NodeName = node } }

func asks(name corev1.ResourceName, q string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Requests[name] = resource.MustParse(q) }
}

func hostPort(port int32, ip string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers[0].Ports = []corev1.ContainerPort{{HostPort: port, HostIP: ip, Protocol: corev1.ProtocolTCP}}
	}
}

func tolerates(p *corev1.Pod) {
	p.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
}

func selects(z string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"zone": z} }
}

func prefers(z string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{Weight: 50,
				Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{
					{Key: "zone", Operator: corev1.NodeSelectorOpIn, Values: []string{z}}}}}}}}
	}
}

// names has a pod go to a node of that name, as a daemon set's pods do.
func names(node string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
				{MatchFields: []corev1.NodeSelectorRequirement{{Key: "metadata.name", Operator: corev1.NodeSelectorOpIn, Values: []string{node}}}}}}}}
	}
}

func TestPlace(t *testing.T) {
	for _, c := range []struct {
		it    string
		nodes []*corev1.Node
		pods  []*corev1.Pod
		pod   *corev1.Pod
		node  string
		says  string
	}{
		{it: "says so when there are no nodes", pod: pod("a"), says: "no nodes available to schedule pods"},
		{it: "prefers the emptier node", nodes: []*corev1.Node{node("n1"), node("n2")},
			pods: []*corev1.Pod{pod("x", on("n1"))}, pod: pod("a"), node: "n2"},
		{it: "does not overfill a node", nodes: []*corev1.Node{node("n1")},
			pods: []*corev1.Pod{pod("x", on("n1"), asks("cpu", "3500m"))}, pod: pod("a"),
			says: "0/1 nodes are available: 1 Insufficient cpu."},
		{it: "does not count a pod that has ended", nodes: []*corev1.Node{node("n1")},
			pods: []*corev1.Pod{pod("x", on("n1"), asks("cpu", "4"), func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })},
			pod:  pod("a"), node: "n1"},
		{it: "counts each reason over the nodes, sorted",
			nodes: []*corev1.Node{node("n1", tainted(corev1.TaintEffectNoSchedule)), node("n2", cordoned), node("n3", cordoned)},
			pod:   pod("a"),
			says:  "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 node(s) were unschedulable."},
		{it: "lets a pod tolerate taints", nodes: []*corev1.Node{node("n1", tainted(corev1.TaintEffectNoExecute), cordoned)},
			pod: pod("a", tolerates), node: "n1"},
		{it: "avoids a node that prefers not to", nodes: []*corev1.Node{node("n1", tainted(corev1.TaintEffectPreferNoSchedule)), node("n2")},
			pod: pod("a"), node: "n2"},
		{it: "follows the node selector", nodes: []*corev1.Node{node("n1", zone("a")), node("n2", zone("b"))},
			pod: pod("a", selects("b")), node: "n2"},
		{it: "names a selector that matches nothing", nodes: []*corev1.Node{node("n1", zone("a"))},
			pod: pod("a", selects("b")), says: "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."},
		{it: "goes to the node that it names", nodes: []*corev1.Node{node("n1"), node("n2"), node("n3")}, pod: pod("a", names("n2")), node: "n2"},
		{it: "goes to no other", nodes: []*corev1.Node{node("n1"), node("n2", cordoned), node("n3")}, pod: pod("a", names("n2")),
			says: "0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]."},
		{it: "waits for it", nodes: []*corev1.Node{node("n1")}, pod: pod("a", names("n2")),
			says: "0/1 nodes are available: 1 node(s) didn't satisfy plugin(s) [NodeAffinity]."},
		{it: "prefers the zone asked for", nodes: []*corev1.Node{node("n1", zone("a")), node("n2", zone("b"))},
			pod: pod("a", prefers("a")), node: "n1"},
		{it: "keeps a host port to one pod", nodes: []*corev1.Node{node("n1")},
			pods: []*corev1.Pod{pod("x", on("n1"), hostPort(80, ""))}, pod: pod("a", hostPort(80, "127.0.0.1")),
			says: "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."},
		{it: "gives one host port on two addresses to two pods", nodes: []*corev1.Node{node("n1")},
			pods: []*corev1.Pod{pod("x", on("n1"), hostPort(80, "127.0.0.2"))}, pod: pod("a", hostPort(80, "127.0.0.1")), node: "n1"},
		{it: "knows extended resources", nodes: []*corev1.Node{node("n1")}, pod: pod("a", asks("example.com/gpu", "1")),
			says: "0/1 nodes are available: 1 Insufficient example.com/gpu."},
	} {
		t.Run(c.it, func(t *testing.T) {
			got, _ := Place(NewPod(c.pod), NewSnapshot(c.nodes, c.pods), Plugins(), 0, rand.New(rand.NewPCG(1, 1)))
			if got.Node != c.node {
				t.Fatalf("node %q, want %q (%s)", got.Node, c.node, got.Message())
			}
			if c.node == "" && got.Message() != c.says {
				t.Errorf("says %q\nwant %q", got.Message(), c.says)
			}
		})
	}
}

// Whatever comes and goes, no node is ever given more than it has, and a
// snapshot changed step by step equals one made anew.
func TestRoomIsNeverOverspent(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		nodes := []*corev1.Node{node("n1"), node("n2", zone("b")), node("n3")}
		s := NewSnapshot(nodes, nil)
		live := map[string]*corev1.Pod{}
		for i := range 60 {
			if r.IntN(4) == 0 {
				for name, p := range live {
					s.DropPod(p.UID)
					delete(live, name)
					break
				}
				continue
			}
			p := pod(fmt.Sprint("p", i), asks("cpu", fmt.Sprint(r.IntN(3000), "m")), asks("memory", fmt.Sprint(r.IntN(3), "Gi")))
			if got, _ := Place(NewPod(p), s, Plugins(), r.IntN(3), r); got.Node != "" {
				p.Spec.NodeName = got.Node
				s.SetPod(NewPod(p), got.Node)
				live[p.Name] = p
			}
		}
		var pods []*corev1.Pod
		for _, p := range live {
			pods = append(pods, p)
		}
		anew := NewSnapshot(nodes, pods)
		for i, n := range s.Nodes {
			if n.Taken.CPU > n.Room.CPU || n.Taken.Memory > n.Room.Memory || n.Taken.Pods > n.Room.Pods {
				t.Fatalf("seed %d: node %s gave %+v of %+v", seed, n.Name, n.Taken, n.Room)
			}
			if w := anew.Nodes[i]; w.Taken.CPU != n.Taken.CPU || w.Taken.Memory != n.Taken.Memory || w.Taken.Pods != n.Taken.Pods {
				t.Fatalf("seed %d: node %s takes %+v, anew %+v", seed, n.Name, n.Taken, w.Taken)
			}
		}
	}
}
