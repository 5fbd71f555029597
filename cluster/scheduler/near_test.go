package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

func selector(key, value string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
}

func affinity(p *corev1.Pod) *corev1.Affinity {
	if p.Spec.Affinity == nil {
		p.Spec.Affinity = &corev1.Affinity{}
	}
	if p.Spec.Affinity.PodAffinity == nil {
		p.Spec.Affinity.PodAffinity, p.Spec.Affinity.PodAntiAffinity = &corev1.PodAffinity{}, &corev1.PodAntiAffinity{}
	}
	return p.Spec.Affinity
}

// together has a pod near those with a label, apart away from them.
func together(topology, key, value string, with ...func(*corev1.PodAffinityTerm)) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		a := affinity(p).PodAffinity
		a.RequiredDuringSchedulingIgnoredDuringExecution = append(a.RequiredDuringSchedulingIgnoredDuringExecution, podTerm(topology, key, value, with))
	}
}

func apart(topology, key, value string, with ...func(*corev1.PodAffinityTerm)) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		a := affinity(p).PodAntiAffinity
		a.RequiredDuringSchedulingIgnoredDuringExecution = append(a.RequiredDuringSchedulingIgnoredDuringExecution, podTerm(topology, key, value, with))
	}
}

func podTerm(topology, key, value string, with []func(*corev1.PodAffinityTerm)) corev1.PodAffinityTerm {
	t := corev1.PodAffinityTerm{TopologyKey: topology, LabelSelector: selector(key, value)}
	for _, f := range with {
		f(&t)
	}
	return t
}

// fond is a preference, with a weight below 0 not to be near.
func fond(weight int32, topology, key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		t := corev1.WeightedPodAffinityTerm{Weight: max(weight, -weight), PodAffinityTerm: podTerm(topology, key, value, nil)}
		a := affinity(p)
		if weight > 0 {
			a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution = append(a.PodAffinity.PreferredDuringSchedulingIgnoredDuringExecution, t)
		} else {
			a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution = append(a.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution, t)
		}
	}
}

func spreads(topology string, skew int32, when corev1.UnsatisfiableConstraintAction, key, value string, with ...func(*corev1.TopologySpreadConstraint)) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		c := corev1.TopologySpreadConstraint{MaxSkew: skew, TopologyKey: topology, WhenUnsatisfiable: when, LabelSelector: selector(key, value)}
		for _, f := range with {
			f(&c)
		}
		p.Spec.TopologySpreadConstraints = append(p.Spec.TopologySpreadConstraints, c)
	}
}

func in(namespace string) func(*corev1.Pod) { return func(p *corev1.Pod) { p.Namespace = namespace } }

func leavingPod(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }

func TestPlaceNearOtherPods(t *testing.T) {
	web := labelled("app", "web")
	two := []*corev1.Node{node("n1", zone("a")), node("n2", zone("b"))}
	three := []*corev1.Node{node("n1", zone("a")), node("n2", zone("a")), node("n3", zone("b"))}
	const (
		unlike   = "node(s) didn't match pod topology spread constraints"
		outside  = "node(s) didn't match pod topology spread constraints (missing required label)"
		alone    = "node(s) didn't match pod affinity rules"
		crowded  = "node(s) didn't match pod anti-affinity rules"
		unwanted = "node(s) didn't satisfy existing pods anti-affinity rules"
	)
	hard := corev1.DoNotSchedule
	for _, c := range []struct {
		it    string
		nodes []*corev1.Node
		pods  []*corev1.Pod
		pod   *corev1.Pod
		kin   bool
		node  string // or one of those that says is about
		says  string
	}{
		{it: "goes where its friends are", nodes: two, pods: []*corev1.Pod{pod("x", web, on("n2"), asks("cpu", "2"))},
			pod: pod("a", together("zone", "app", "web")), node: "n2"},
		{it: "waits for its friends", nodes: two, pod: pod("a", together("zone", "app", "web")), says: "0/2 nodes are available: 2 " + alone + "."},
		{it: "may be the first of its own", nodes: two[:1], pod: pod("a", web, together("zone", "app", "web")), node: "n1"},
		{it: "is not the first where the label is missing", nodes: []*corev1.Node{node("n1")}, pod: pod("a", web, together("zone", "app", "web")),
			says: "0/1 nodes are available: 1 " + alone + "."},
		{it: "wants one friend that matches all", nodes: two, pods: []*corev1.Pod{pod("x", web, on("n1")), pod("y", labelled("tier", "db"), on("n2"))},
			pod: pod("a", together("zone", "app", "web"), together("zone", "tier", "db")), says: "0/2 nodes are available: 2 " + alone + "."},
		{it: "keeps away", nodes: two, pods: []*corev1.Pod{pod("x", web, on("n1"))}, pod: pod("a", apart("zone", "app", "web"), asks("cpu", "4")), node: "n2"},
		{it: "says so", nodes: two[:1], pods: []*corev1.Pod{pod("x", web, on("n1"))}, pod: pod("a", apart("zone", "app", "web")),
			says: "0/1 nodes are available: 1 " + crowded + "."},
		{it: "is kept away", nodes: two[:1], pods: []*corev1.Pod{pod("x", apart("zone", "app", "web"), on("n1"))}, pod: pod("a", web),
			says: "0/1 nodes are available: 1 " + unwanted + "."},
		{it: "is kept away from the whole domain", nodes: three, pods: []*corev1.Pod{pod("x", apart("zone", "app", "web"), on("n1"))}, pod: pod("a", web), node: "n3"},
		{it: "knows its own namespace", nodes: two[:1], pods: []*corev1.Pod{pod("x", web, in("other"), on("n1"))}, pod: pod("a", apart("zone", "app", "web")), node: "n1"},
		{it: "knows named namespaces", nodes: two[:1], pods: []*corev1.Pod{pod("x", web, in("other"), on("n1"))},
			pod:  pod("a", apart("zone", "app", "web", func(t *corev1.PodAffinityTerm) { t.Namespaces = []string{"other"} })),
			says: "0/1 nodes are available: 1 " + crowded + "."},
		{it: "knows namespaces by label", nodes: two[:1], pods: []*corev1.Pod{pod("x", web, in("red"), on("n1"))},
			pod:  pod("a", apart("zone", "app", "web", func(t *corev1.PodAffinityTerm) { t.NamespaceSelector = selector("colour", "red") })),
			says: "0/1 nodes are available: 1 " + crowded + "."},
		{it: "keeps away from pods of its version only", nodes: two[:1], pods: []*corev1.Pod{pod("x", web, labelled("v", "1"), on("n1"))},
			pod:  pod("a", web, labelled("v", "2"), apart("zone", "app", "web", func(t *corev1.PodAffinityTerm) { t.MatchLabelKeys = []string{"v"} })),
			node: "n1"},
		{it: "keeps away from pods of other versions only", nodes: two[:1], pods: []*corev1.Pod{pod("x", web, labelled("v", "2"), on("n1"))},
			pod:  pod("a", web, labelled("v", "2"), apart("zone", "app", "web", func(t *corev1.PodAffinityTerm) { t.MismatchLabelKeys = []string{"v"} })),
			node: "n1"},
		{it: "likes to be near", nodes: two, pods: []*corev1.Pod{pod("x", web, on("n1"), asks("cpu", "1m"))}, pod: pod("a", fond(100, "zone", "app", "web")), node: "n1"},
		{it: "likes to be apart", nodes: two, pods: []*corev1.Pod{pod("x", web, on("n1"), asks("cpu", "1m")), pod("y", on("n2"), asks("cpu", "2"))},
			pod: pod("a", fond(-100, "zone", "app", "web")), node: "n2"},
		{it: "is liked", nodes: two, pods: []*corev1.Pod{pod("x", fond(100, "zone", "app", "web"), on("n1"), asks("cpu", "1m"))}, pod: pod("a", web), node: "n1"},

		{it: "evens out", nodes: two, pods: []*corev1.Pod{pod("x", web, on("n1"), asks("cpu", "1m")), pod("y", on("n2"), asks("cpu", "2"))},
			pod: pod("a", web, spreads("zone", 1, hard, "app", "web")), node: "n2"},
		{it: "may be uneven by the skew", nodes: two, pods: []*corev1.Pod{pod("x", web, on("n1"), asks("cpu", "1m")), pod("y", on("n2"), asks("cpu", "3"))},
			pod: pod("a", web, spreads("zone", 2, hard, "app", "web")), node: "n1"},
		{it: "says that it cannot", nodes: append([]*corev1.Node{node("n0")}, node("n1", zone("a")), node("n2", zone("b"), cordoned)),
			pods: []*corev1.Pod{pod("x", web, on("n1"))}, pod: pod("a", web, spreads("zone", 1, hard, "app", "web")),
			says: "0/3 nodes are available: 1 " + unlike + ", 1 " + outside + ", 1 node(s) were unschedulable."},
		{it: "counts only nodes that it could go to", nodes: two, pods: []*corev1.Pod{pod("x", web, on("n1"))},
			pod: pod("a", web, selects("a"), spreads("zone", 1, hard, "app", "web")), node: "n1"},
		{it: "counts all nodes if told to", nodes: two, pods: []*corev1.Pod{pod("x", web, on("n1"))},
			pod: pod("a", web, selects("a"), spreads("zone", 1, hard, "app", "web", func(c *corev1.TopologySpreadConstraint) {
				ignore := corev1.NodeInclusionPolicyIgnore
				c.NodeAffinityPolicy = &ignore
			})), says: "0/2 nodes are available: 1 node(s) didn't match Pod's node affinity/selector, 1 " + unlike + "."},
		{it: "leaves out tainted nodes if told to", nodes: []*corev1.Node{two[0], node("n2", zone("b"), tainted(corev1.TaintEffectNoSchedule))},
			pods: []*corev1.Pod{pod("x", web, on("n1"))},
			pod: pod("a", web, spreads("zone", 1, hard, "app", "web", func(c *corev1.TopologySpreadConstraint) {
				honour := corev1.NodeInclusionPolicyHonor
				c.NodeTaintsPolicy = &honour
			})), node: "n1"},
		{it: "wants enough domains", nodes: two[:1], pods: []*corev1.Pod{pod("x", web, on("n1"))},
			pod: pod("a", web, spreads("zone", 1, hard, "app", "web", func(c *corev1.TopologySpreadConstraint) {
				least := int32(2)
				c.MinDomains = &least
			})), says: "0/1 nodes are available: 1 " + unlike + "."},
		{it: "does not count who is leaving", nodes: two, pods: []*corev1.Pod{pod("x", web, leavingPod, on("n1"), asks("cpu", "1m")), pod("y", on("n2"), asks("cpu", "3"))},
			pod: pod("a", web, spreads("zone", 1, hard, "app", "web")), node: "n1"},
		{it: "keeps two rules at once", nodes: three, pods: []*corev1.Pod{pod("x", web, on("n1")), pod("y", web, on("n3"), asks("cpu", "1m"))},
			pod: pod("a", web, spreads("zone", 1, hard, "app", "web"), spreads(corev1.LabelHostname, 1, hard, "app", "web"), asks("cpu", "1m")), node: "n2"},
		{it: "would rather even out", nodes: two, pods: []*corev1.Pod{pod("x", web, on("n1"), asks("cpu", "1m")), pod("y", on("n2"), asks("cpu", "1500m"), asks("memory", "3Gi"))},
			pod: pod("a", web, spreads("zone", 1, corev1.ScheduleAnyway, "app", "web")), node: "n2"},
		{it: "evens out with its kin by itself", kin: true, nodes: two, pods: []*corev1.Pod{pod("x", web, on("n1"), asks("cpu", "1m")), pod("y", on("n2"), asks("cpu", "1500m"), asks("memory", "3Gi"))},
			pod: pod("a", web), node: "n2"},
	} {
		t.Run(c.it, func(t *testing.T) {
			s := NewSnapshot(c.nodes, c.pods)
			s.SetSpace("red", map[string]string{"colour": "red"})
			p := NewPod(c.pod)
			if c.kin {
				p.Kin = labels.SelectorFromSet(c.pod.Labels)
			}
			got, _ := Place(p, s, Plugins(), 0, rand.New(rand.NewPCG(1, 1)))
			if got.Node != c.node {
				t.Fatalf("node %q, want %q (%s)", got.Node, c.node, got.Message())
			}
			if c.node == "" && got.Message() != c.says {
				t.Errorf("says %q\nwant %q", got.Message(), c.says)
			}
		})
	}
}

func TestImagesThatAreThere(t *testing.T) {
	has := func(name string, size int64) func(*corev1.Node) {
		return func(n *corev1.Node) {
			n.Status.Images = append(n.Status.Images, corev1.ContainerImage{Names: []string{name}, SizeBytes: size})
		}
	}
	p := pod("a", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "example.com:5000/big" })
	s := NewSnapshot([]*corev1.Node{node("n1"), node("n2", has("example.com:5000/big:latest", 900<<20)), node("n3")}, nil)
	if got, _ := Place(NewPod(p), s, Plugins(), 0, rand.New(rand.NewPCG(1, 1))); got.Node != "n2" {
		t.Errorf("placed on %s, want n2, which has the image", got.Node)
	}
	s.SetNode(node("n2"))
	if len(s.images) != 0 {
		t.Errorf("images that no node has any more: %v", s.images)
	}
}

// Whatever comes, goes and changes, what is counted step by step is what a
// snapshot made anew counts, and places as that would.
func TestCountsAreExact(t *testing.T) {
	sorts := []func(*corev1.Pod){
		labelled("app", "web"), labelled("app", "db"), apart("zone", "app", "web"), together("zone", "app", "db"),
		fond(7, "zone", "app", "web"), fond(-3, corev1.LabelHostname, "app", "db"), leavingPod, in("red"),
		spreads("zone", 2, corev1.DoNotSchedule, "app", "web"), spreads(corev1.LabelHostname, 1, corev1.ScheduleAnyway, "app", "db"),
		apart(corev1.LabelHostname, "app", "web", func(t *corev1.PodAffinityTerm) { t.NamespaceSelector = selector("colour", "red") }),
	}
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 1))
		s := NewSnapshot(nil, nil)
		nodes, pods, spaces := map[string]*corev1.Node{}, map[string]*corev1.Pod{}, map[string]string{}
		for step := range 60 {
			switch r.IntN(6) {
			case 0:
				n := node(fmt.Sprint("n", r.IntN(5)), zone(fmt.Sprint(r.IntN(2))))
				if r.IntN(4) == 0 {
					delete(n.Labels, "zone")
				}
				nodes[n.Name] = n
				s.SetNode(n)
			case 1:
				name := fmt.Sprint("n", r.IntN(5))
				delete(nodes, name)
				s.DropNode(name)
			case 2:
				name := fmt.Sprint("p", r.IntN(20))
				delete(pods, name)
				s.DropPod(types.UID(name))
			case 3:
				colour := []string{"red", "blue"}[r.IntN(2)]
				spaces["red"] = colour
				s.SetSpace("red", map[string]string{"colour": colour})
			default:
				p := pod(fmt.Sprint("p", r.IntN(20)), on(fmt.Sprint("n", r.IntN(6))), asks("cpu", "1m"))
				for range r.IntN(4) {
					sorts[r.IntN(len(sorts))](p)
				}
				pods[p.Name] = p
				s.SetPod(NewPod(p), p.Spec.NodeName)
			}
			anew := NewSnapshot(slices.Collect(mapValues(nodes)), slices.Collect(mapValues(pods)))
			for name, colour := range spaces {
				anew.SetSpace(name, map[string]string{"colour": colour})
			}
			probe := pod("probe", sorts[r.IntN(len(sorts))], sorts[r.IntN(len(sorts))])
			probe.Spec.NodeName = ""
			a, b := NewPod(probe), NewPod(probe)
			a.Kin = labels.SelectorFromSet(labels.Set{"app": "web"})
			b.Kin = a.Kin
			got, _ := Place(a, s, Plugins(), 0, rand.New(rand.NewPCG(seed, uint64(step))))
			want, _ := Place(b, anew, Plugins(), 0, rand.New(rand.NewPCG(seed, uint64(step))))
			if got.Node != want.Node || len(got.Rejected) > 0 && got.Message() != want.Message() {
				t.Fatalf("seed %d step %d: %q %s\nanew %q %s", seed, step, got.Node, got.Message(), want.Node, want.Message())
			}
		}
		for _, p := range pods {
			s.DropPod(p.UID)
		}
		if len(s.held) > 0 || len(s.holding.loose)+len(s.holding.by) > 0 {
			t.Fatalf("seed %d: terms of pods that are gone: %v", seed, s.held)
		}
	}
}

func mapValues[K comparable, V any](m map[K]V) func(yield func(V) bool) {
	return func(yield func(V) bool) {
		for _, v := range m {
			if !yield(v) {
				return
			}
		}
	}
}
