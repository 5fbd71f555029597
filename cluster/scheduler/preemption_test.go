package scheduler

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func started(ago time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.StartTime = &metav1.Time{Time: preemptNow.Add(-ago)} }
}

var preemptNow = time.Unix(1_000_000, 0)

func never(p *corev1.Pod) {
	policy := corev1.PreemptNever
	p.Spec.PreemptionPolicy = &policy
}

func TestPreempt(t *testing.T) {
	one := []*corev1.Node{node("n1")}
	two := []*corev1.Node{node("n1", zone("a")), node("n2", zone("b"))}
	cpu := func(q string) func(*corev1.Pod) { return asks("cpu", q) }
	const short = "0/1 nodes are available: 1 Insufficient cpu."
	budget := func(allowed int32) *policyv1.PodDisruptionBudget {
		b := &policyv1.PodDisruptionBudget{}
		b.Namespace, b.Spec.Selector, b.Status.DisruptionsAllowed = "default", selector("app", "db"), allowed
		return b
	}
	for _, c := range []struct {
		it      string
		nodes   []*corev1.Node
		pods    []*corev1.Pod
		pod     *corev1.Pod
		budgets []*policyv1.PodDisruptionBudget
		booked  string
		node    string
		victims []string
		says    string
	}{
		{it: "takes the place of a lesser pod", nodes: one, pods: []*corev1.Pod{pod("x", on("n1"), cpu("4"))}, pod: pod("a", priority(1)),
			node: "n1", victims: []string{"x"}, says: short + " preemption: found a potential placement for pod on node n1, preempting 1 victims"},
		{it: "leaves its equals alone", nodes: one, pods: []*corev1.Pod{pod("x", priority(1), on("n1"), cpu("4"))}, pod: pod("a", priority(1)),
			says: short + " preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."},
		{it: "may be too modest for it", nodes: one, pods: []*corev1.Pod{pod("x", on("n1"), cpu("4"))}, pod: pod("a", priority(1), never),
			says: short + " preemption: not eligible due to preemptionPolicy=Never."},
		{it: "does not ask for what would not help", nodes: one, pods: []*corev1.Pod{pod("x", on("n1"), cpu("4"))}, pod: pod("a", priority(1), selects("none")),
			says: "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."},
		{it: "does not ask for more than a node has", nodes: one, pods: []*corev1.Pod{pod("x", on("n1"), cpu("4"))}, pod: pod("a", priority(1), cpu("5")),
			says: short + " preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."},
		{it: "says what is in the way still", nodes: one, pods: []*corev1.Pod{pod("x", on("n1"), cpu("1")), pod("y", priority(2), on("n1"), cpu("3"))},
			pod: pod("a", priority(1), cpu("2")), says: short + " preemption: 0/1 nodes are available: 1 Insufficient cpu."},
		{it: "asks no more than needed, and the least", nodes: one, pods: []*corev1.Pod{pod("x", priority(1), on("n1"), cpu("2")), pod("y", priority(2), on("n1"), cpu("1")), pod("z", priority(3), on("n1"), cpu("1"))},
			pod: pod("a", priority(4), cpu("2")), node: "n1", victims: []string{"x"}},
		{it: "of equals asks the youngest", nodes: one, pods: []*corev1.Pod{pod("x", on("n1"), cpu("2"), started(time.Hour)), pod("y", on("n1"), cpu("2"), started(time.Minute))},
			pod: pod("a", priority(4), cpu("2")), node: "n1", victims: []string{"y"}},
		{it: "prefers the node with the lesser victim", nodes: two, pods: []*corev1.Pod{pod("x", priority(2), on("n1"), cpu("4")), pod("y", priority(1), on("n2"), cpu("4"))},
			pod: pod("a", priority(4)), node: "n2", victims: []string{"y"}},
		{it: "prefers the node with fewer victims", nodes: two, pods: []*corev1.Pod{pod("x1", on("n1"), cpu("2")), pod("x2", on("n1"), cpu("2")), pod("y", on("n2"), cpu("4"))},
			pod: pod("a", priority(4), cpu("4")), node: "n2", victims: []string{"y"}},
		{it: "prefers to break no budget", nodes: two, pods: []*corev1.Pod{pod("x", labelled("app", "db"), on("n1"), cpu("4")), pod("y", priority(3), on("n2"), cpu("4"))},
			pod: pod("a", priority(4)), budgets: []*policyv1.PodDisruptionBudget{budget(0)}, node: "n2", victims: []string{"y"}},
		{it: "keeps a budget's pod before others on a node", nodes: one, pods: []*corev1.Pod{pod("x", labelled("app", "db"), on("n1"), cpu("2")), pod("y", priority(3), on("n1"), cpu("2"))},
			pod: pod("a", priority(4), cpu("2")), budgets: []*policyv1.PodDisruptionBudget{budget(0)}, node: "n1", victims: []string{"y"}},
		{it: "breaks a budget if it must", nodes: one, pods: []*corev1.Pod{pod("x", labelled("app", "db"), on("n1"), cpu("4"))},
			pod: pod("a", priority(4)), budgets: []*policyv1.PodDisruptionBudget{budget(0)}, node: "n1", victims: []string{"x"}},
		{it: "has those leave who do not want it near", nodes: one, pods: []*corev1.Pod{pod("x", apart(corev1.LabelHostname, "app", "web"), on("n1")), pod("y", on("n1"))},
			pod: pod("a", priority(1), labelled("app", "web")), node: "n1", victims: []string{"x"}},
		{it: "has as many leave as spreading needs", nodes: two, pods: []*corev1.Pod{pod("v", priority(9), labelled("app", "web"), on("n1"), cpu("4")),
			pod("x1", labelled("app", "web"), on("n2"), cpu("1")), pod("x2", labelled("app", "web"), on("n2"), cpu("1")), pod("x3", labelled("app", "web"), on("n2"), cpu("1"))},
			pod: pod("a", priority(5), labelled("app", "web"), cpu("2"), spreads("zone", 1, corev1.DoNotSchedule, "app", "web")), node: "n2", victims: []string{"x2", "x3"}},
		{it: "waits where room is being made", nodes: one, booked: "n1", pods: []*corev1.Pod{pod("x", on("n1"), cpu("4"), leavingPod, func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: corev1.PodReasonPreemptionByScheduler}}
		})}, pod: pod("a", priority(1)), says: short + " preemption: not eligible due to a terminating pod on the nominated node."},
	} {
		t.Run(c.it, func(t *testing.T) {
			s := NewSnapshot(c.nodes, c.pods)
			p := NewPod(c.pod)
			s.Book(p, c.booked)
			found, _ := Place(p, s, Plugins(), 0, rand.New(rand.NewPCG(1, 1)))
			if found.Node != "" {
				t.Fatalf("it fits on %s", found.Node)
			}
			got, remark := Preempt(p, found, s, Plugins(), c.budgets, 0, preemptNow)
			var victims []string
			for _, v := range got.Victims {
				victims = append(victims, v.Name)
			}
			slices.Sort(victims)
			found.Remark = remark
			if got.Node != c.node || !slices.Equal(victims, c.victims) {
				t.Errorf("%s: %v, want %s: %v (%s)", got.Node, victims, c.node, c.victims, found.Message())
			}
			if c.says != "" && found.Message() != c.says {
				t.Errorf("says %q\nwant %q", found.Message(), c.says)
			}
			if again, _ := Place(p, s, Plugins(), 0, rand.New(rand.NewPCG(1, 1))); again.Node != "" {
				t.Error("the snapshot is not as before: the pod fits")
			}
		})
	}
}

// Room that is kept for a pod is nobody else's who is less important.
func TestBookedRoomIsKept(t *testing.T) {
	for _, c := range []struct {
		it   string
		pod  *corev1.Pod
		node string
	}{
		{it: "the one it is for", pod: pod("vip", priority(5), asks("cpu", "3")), node: "n1"},
		{it: "a more important one", pod: pod("a", priority(6), asks("cpu", "3")), node: "n1"},
		{it: "one that fits beside it", pod: pod("a", asks("cpu", "1")), node: "n1"},
		{it: "not a lesser one", pod: pod("a", asks("cpu", "2"))},
	} {
		t.Run(c.it, func(t *testing.T) {
			s := NewSnapshot([]*corev1.Node{node("n1")}, nil)
			s.Book(NewPod(pod("vip", priority(5), asks("cpu", "3"))), "n1")
			if got, _ := Place(NewPod(c.pod), s, Plugins(), 0, rand.New(rand.NewPCG(1, 1))); got.Node != c.node {
				t.Errorf("node %q, want %q", got.Node, c.node)
			}
		})
	}
}
