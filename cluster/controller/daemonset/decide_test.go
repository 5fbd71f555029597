package daemonset

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sampan/cluster/controller/history"
)

// noon is when everything below happens.
var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// pod describes one pod in words: the node it is on, or with "?" asks for;
// "old" or "new"; "ready", "since=10s" (ready since), "failed", "succeeded",
// "leaving", "age=1h".
func pod(name, words string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(noon.Add(-time.Hour)),
		Labels: map[string]string{"app": "web"}}, Status: corev1.PodStatus{Phase: corev1.PodPending}}
	since := noon.Add(-time.Hour)
	ready := func() {
		p.Status.Phase = corev1.PodRunning
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(since)}}
	}
	for _, word := range strings.Fields(words) {
		word, value, _ := strings.Cut(word, "=")
		ago := func() time.Time {
			d, err := time.ParseDuration(value)
			if err != nil {
				panic(err)
			}
			return noon.Add(-d)
		}
		switch word {
		case "old", "new":
			p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] = word
		case "ready":
			ready()
		case "since":
			since = ago()
			ready()
		case "failed":
			p.Status.Phase = corev1.PodFailed
		case "succeeded":
			p.Status.Phase = corev1.PodSucceeded
		case "leaving":
			p.DeletionTimestamp = &metav1.Time{Time: noon}
		case "age":
			p.CreationTimestamp = metav1.NewTime(ago())
		default:
			if node, asks := strings.CutSuffix(word, "?"); asks {
				p.Spec.Affinity = onNode(nil, node)
			} else {
				p.Spec.NodeName = word
			}
		}
	}
	return p
}

// node describes a node: its name and then labels, as "disk=ssd", and taints,
// as "!NoSchedule".
func node(words string) *corev1.Node {
	name, rest, _ := strings.Cut(words, " ")
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{}}}
	for _, word := range strings.Fields(rest) {
		if effect, ok := strings.CutPrefix(word, "!"); ok {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: "k", Effect: corev1.TaintEffect(effect)})
			continue
		}
		key, value, _ := strings.Cut(word, "=")
		n.Labels[key] = value
	}
	return n
}

func nodes(all ...string) (some []*corev1.Node) {
	for _, words := range all {
		some = append(some, node(words))
	}
	return some
}

func web() *appsv1.DaemonSet {
	labels := map[string]string{"app": "web"}
	one, none := intstr.FromInt32(1), intstr.FromInt32(0)
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "web-uid"},
		Spec: appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels},
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: appsv1.RollingUpdateDaemonSetStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &one, MaxSurge: &none}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "web:1",
					TerminationMessagePolicy: corev1.TerminationMessageReadFile}}}}},
	}
}

// strategy is "unavailable=2", "surge=50%", "OnDelete".
func strategy(ds *appsv1.DaemonSet, words string) *appsv1.DaemonSet {
	s := &ds.Spec.UpdateStrategy
	word, value, _ := strings.Cut(words, "=")
	v, none := intstr.Parse(value), intstr.FromInt32(0)
	switch word {
	case "unavailable":
		s.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &v, MaxSurge: &none}
	case "surge":
		s.RollingUpdate = &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &none, MaxSurge: &v}
	case "OnDelete":
		s.Type, s.RollingUpdate = appsv1.OnDeleteDaemonSetStrategyType, nil
	case "":
	default:
		panic(words)
	}
	return ds
}

func names(all []*corev1.Pod) (some []string) {
	for _, p := range all {
		some = append(some, p.Name)
	}
	return some
}

func never(string) time.Duration { return 0 }

func TestKeep(t *testing.T) {
	for _, c := range []struct {
		it       string
		nodes    []*corev1.Node
		pods     []*corev1.Pod
		strategy string
		selector map[string]string
		tolerate corev1.TaintEffect
		wait     time.Duration
		create   []string
		remove   []string
		again    time.Duration
	}{
		{it: "puts a pod on each node", nodes: nodes("a", "b"), create: []string{"a", "b"}},
		{it: "counts a pod that only asks for its node", nodes: nodes("a", "b"), pods: []*corev1.Pod{pod("p", "a?")}, create: []string{"b"}},
		{it: "leaves out nodes that the template does not select", nodes: nodes("a disk=ssd", "b"), selector: map[string]string{"disk": "ssd"}, create: []string{"a"}},
		{it: "takes pods off nodes that are selected no more", nodes: nodes("a"), selector: map[string]string{"disk": "ssd"},
			pods: []*corev1.Pod{pod("p", "a ready"), pod("q", "a leaving")}, remove: []string{"p"}},
		{it: "does not go where a taint forbids it", nodes: nodes("a !NoSchedule", "b !NoExecute", "c !PreferNoSchedule"), create: []string{"c"}},
		{it: "goes where it is tolerated", nodes: nodes("a !NoSchedule", "b !NoExecute"), tolerate: corev1.TaintEffectNoSchedule, create: []string{"a"}},
		{it: "stays where only new pods are forbidden", nodes: nodes("a !NoSchedule", "b !NoExecute"),
			pods: []*corev1.Pod{pod("p", "a ready"), pod("q", "b ready")}, remove: []string{"q"}},
		{it: "replaces what has ended", nodes: nodes("a", "b"), pods: []*corev1.Pod{pod("p", "a failed"), pod("q", "b succeeded")}, remove: []string{"p", "q"}},
		{it: "waits before it replaces what fails again and again", nodes: nodes("a"), wait: 4 * time.Second,
			pods: []*corev1.Pod{pod("p", "a failed")}, again: 4 * time.Second},
		{it: "replaces only one failed pod of a node", nodes: nodes("a"),
			pods: []*corev1.Pod{pod("p", "a failed"), pod("q", "a failed")}, remove: []string{"p"}, again: firstWait},
		{it: "waits for a pod that leaves", nodes: nodes("a"), pods: []*corev1.Pod{pod("p", "a leaving")}},
		{it: "does not wait for one that is over and held by somebody", nodes: nodes("a"), pods: []*corev1.Pod{pod("p", "a leaving failed")}, create: []string{"a"}},
		{it: "keeps the oldest of several", nodes: nodes("a"),
			pods: []*corev1.Pod{pod("p", "a age=1m"), pod("q", "a age=5m"), pod("r", "a? age=9m")}, remove: []string{"p", "r"}},
		{it: "removes a pod that asks for a node that is gone", nodes: nodes("a"), pods: []*corev1.Pod{pod("p", "a"), pod("q", "gone?"), pod("r", "gone")}, remove: []string{"q"}},
		{it: "lets a node have an old and a new pod while it surges", nodes: nodes("a"), strategy: "surge=1",
			pods: []*corev1.Pod{pod("p", "a old ready"), pod("q", "a new")}},
		{it: "but only one of each", nodes: nodes("a"), strategy: "surge=1",
			pods: []*corev1.Pod{pod("p", "a old ready age=3m"), pod("q", "a old ready age=2m"), pod("r", "a new age=1m"), pod("s", "a new age=1s")}, remove: []string{"q", "s"}},
		{it: "ends the old one when the new one is available", nodes: nodes("a"), strategy: "surge=1",
			pods: []*corev1.Pod{pod("p", "a old ready"), pod("q", "a new ready")}, remove: []string{"p"}},
		{it: "and when it serves no more", nodes: nodes("a"), strategy: "surge=1",
			pods: []*corev1.Pod{pod("p", "a old"), pod("q", "a new")}, remove: []string{"p"}},
		{it: "does not wait for a pod that leaves where it surges", nodes: nodes("a"), strategy: "surge=1",
			pods: []*corev1.Pod{pod("p", "a leaving")}, create: []string{"a"}},
	} {
		t.Run(c.it, func(t *testing.T) {
			ds := strategy(web(), c.strategy)
			ds.Spec.Template.Spec.NodeSelector = c.selector
			if c.tolerate != "" {
				ds.Spec.Template.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists, Effect: c.tolerate}}
			}
			v := newView(ds, c.nodes, c.pods, "new", noon, func(string) time.Duration { return c.wait })
			d := v.keep()
			if removed := names(d.remove); !slices.Equal(d.create, c.create) || !slices.Equal(removed, c.remove) || d.again != c.again {
				t.Errorf("create %v, remove %v, again %v; want %v, %v, %v", d.create, removed, d.again, c.create, c.remove, c.again)
			}
		})
	}
}

func TestRoll(t *testing.T) {
	old3 := []*corev1.Pod{pod("p", "a old ready"), pod("q", "b old ready"), pod("r", "c old ready")}
	for _, c := range []struct {
		it       string
		nodes    []*corev1.Node
		pods     []*corev1.Pod
		strategy string
		minReady int32
		create   []string
		remove   []string
	}{
		{it: "replaces one at a time", nodes: nodes("a", "b", "c"), pods: old3, remove: []string{"p"}},
		{it: "or as many as may be unavailable", nodes: nodes("a", "b", "c"), strategy: "unavailable=50%", pods: old3, remove: []string{"p", "q"}},
		{it: "waits for the new pod", nodes: nodes("a", "b"), pods: []*corev1.Pod{pod("p", "a new"), pod("q", "b old ready")}},
		{it: "until it has been ready long enough", nodes: nodes("a", "b"), minReady: 60,
			pods: []*corev1.Pod{pod("p", "a new since=59s"), pod("q", "b old ready")}},
		{it: "and goes on then", nodes: nodes("a", "b"), minReady: 60,
			pods: []*corev1.Pod{pod("p", "a new since=60s"), pod("q", "b old ready")}, remove: []string{"q"}},
		{it: "waits for a node without a pod", nodes: nodes("a", "b"), pods: []*corev1.Pod{pod("q", "b old ready")}},
		{it: "replaces at once what serves nobody", nodes: nodes("a", "b", "c"),
			pods: []*corev1.Pod{pod("p", "a old"), pod("q", "b old ready"), pod("r", "c old")}, remove: []string{"p", "r"}},
		{it: "leaves a node with several old pods to keep", nodes: nodes("a", "b"),
			pods: []*corev1.Pod{pod("p", "a old"), pod("o", "a old"), pod("q", "b old ready")}},
		{it: "leaves pods that wait to be deleted by their user", nodes: nodes("a"), strategy: "OnDelete", pods: []*corev1.Pod{pod("p", "a old ready")}},
		{it: "has nothing to do when all is new", nodes: nodes("a", "b"), pods: []*corev1.Pod{pod("p", "a new ready"), pod("q", "b new ready")}},
		{it: "surges on one node at a time", nodes: nodes("a", "b", "c"), strategy: "surge=1", pods: old3, create: []string{"a"}},
		{it: "or on a share of them, rounded up", nodes: nodes("a", "b", "c"), strategy: "surge=50%", pods: old3, create: []string{"a", "b"}},
		{it: "waits for who surges", nodes: nodes("a", "b"), strategy: "surge=1",
			pods: []*corev1.Pod{pod("p", "a old ready"), pod("n", "a new"), pod("q", "b old ready")}},
		{it: "ends the old one for the new", nodes: nodes("a", "b"), strategy: "surge=1",
			pods: []*corev1.Pod{pod("p", "a old ready"), pod("n", "a new ready"), pod("q", "b old ready")}, create: []string{"b"}, remove: []string{"p"}},
		{it: "surges freely where the old one serves nobody", nodes: nodes("a", "b"), strategy: "surge=1",
			pods: []*corev1.Pod{pod("p", "a old"), pod("q", "b old")}, create: []string{"a", "b"}},
		{it: "keeps a pod that is selected no more until others serve", nodes: nodes("a !NoSchedule", "b disk=ssd"), strategy: "surge=1",
			pods: []*corev1.Pod{pod("p", "a old ready"), pod("n", "b new")}},
		{it: "and ends it then", nodes: nodes("a !NoSchedule", "b"), strategy: "surge=1",
			pods: []*corev1.Pod{pod("p", "a old ready"), pod("n", "b new ready")}, remove: []string{"p"}},
	} {
		t.Run(c.it, func(t *testing.T) {
			ds := strategy(web(), c.strategy)
			ds.Spec.MinReadySeconds = c.minReady
			v := newView(ds, c.nodes, c.pods, "new", noon, never)
			d := v.roll()
			if removed := names(d.remove); !slices.Equal(d.create, c.create) || !slices.Equal(removed, c.remove) {
				t.Errorf("create %v, remove %v; want %v, %v", d.create, removed, c.create, c.remove)
			}
		})
	}
}

// From any state, doing what is decided, while pods become ready, leads to one
// new pod on each node, without ever fewer available than the strategy allows.
func TestEveryRollOutEnds(t *testing.T) {
	states := []string{"old ready", "old", "new ready", "new", "old failed", "old leaving", "old ready age=2h"}
	strategies := []string{"unavailable=1", "unavailable=2", "unavailable=100%", "surge=1", "surge=100%"}
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 0))
		ds := strategy(web(), strategies[r.IntN(len(strategies))])
		size := 1 + r.IntN(5)
		var on []*corev1.Node
		var all []*corev1.Pod
		for i := range size {
			on = append(on, node(fmt.Sprint("n", i)))
			for j := range r.IntN(3) {
				all = append(all, pod(fmt.Sprintf("p%d-%d", i, j), fmt.Sprintf("n%d %s", i, states[r.IntN(len(states))])))
			}
		}
		done := false
		for round := 0; round < 100 && !done; round++ {
			acted := false
			for _, decide := range []func(*view) decision{(*view).keep, (*view).roll} {
				v := newView(ds, on, all, "new", noon, never)
				_, unavailable, _ := v.bounds(size)
				before, _ := v.status()
				d := decide(&v)
				acted = acted || len(d.create)+len(d.remove) > 0
				all = slices.DeleteFunc(all, func(p *corev1.Pod) bool { return slices.Contains(d.remove, p) || p.DeletionTimestamp != nil })
				for _, n := range d.create {
					all = append(all, pod(fmt.Sprintf("r%d-%s", round, n), n+" new"))
				}
				v = newView(ds, on, all, "new", noon, never)
				after, _ := v.status()
				if after.NumberAvailable < before.NumberAvailable && int(after.NumberUnavailable) > unavailable &&
					ds.Spec.UpdateStrategy.RollingUpdate.MaxSurge.IntValue() == 0 && len(d.over) == 0 && before.NumberAvailable == int32(size) {
					t.Fatalf("seed %d: %d of %d are unavailable, %d may be", seed, after.NumberUnavailable, size, unavailable)
				}
			}
			for _, p := range all {
				if p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodPending && r.IntN(2) == 0 {
					*p = *pod(p.Name, p.Spec.NodeName+" "+p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey]+" ready")
				}
			}
			v := newView(ds, on, all, "new", noon, never)
			s, _ := v.status()
			done = !acted && len(all) == size && int(s.NumberAvailable) == size && int(s.UpdatedNumberScheduled) == size
		}
		if !done {
			t.Fatalf("seed %d: ends with %v", seed, names(all))
		}
	}
}

func TestStatus(t *testing.T) {
	ds := web()
	ds.Generation, ds.Spec.MinReadySeconds = 4, 60
	ds.Status.Conditions = []appsv1.DaemonSetCondition{{Type: "mine"}}
	v := newView(ds, nodes("a", "b", "c", "d", "e !NoSchedule"), []*corev1.Pod{
		pod("a", "a new since=2m"), pod("b", "b old since=50s"), pod("c", "c new"), pod("e", "e old ready"), pod("x", "a? new age=1s")}, "new", noon, never)
	s, again := v.status()
	got := fmt.Sprint(s.DesiredNumberScheduled, s.CurrentNumberScheduled, s.NumberReady, s.NumberAvailable, s.UpdatedNumberScheduled,
		s.NumberUnavailable, s.NumberMisscheduled, s.ObservedGeneration, len(s.Conditions), again)
	if want := "4 3 2 1 2 3 1 4 1 10s"; got != want {
		t.Errorf("desired, current, ready, available, updated, unavailable, misscheduled, generation, conditions, again are %s, want %s", got, want)
	}
}

func TestFailuresAreWaitedForLongerAndLonger(t *testing.T) {
	var p patience
	a := attempt{"uid", 1, "a"}
	now := noon
	for _, want := range []time.Duration{0, time.Second, 2 * time.Second, 4 * time.Second} {
		if got := p.wait(a, now); got != want {
			t.Fatalf("waits %v, want %v", got, want)
		}
		now = now.Add(want)
		p.failed(a, now)
	}
	if got := p.wait(attempt{"uid", 2, "a"}, now); got != 0 {
		t.Errorf("another generation waits %v", got)
	}
	for range 20 {
		p.failed(a, now)
	}
	if got := p.wait(a, now); got != maxWait {
		t.Errorf("waits %v, want no more than %v", got, maxWait)
	}
	p.failed(attempt{"uid", 3, "a"}, now.Add(2*maxWait+1))
	if len(p.known) != 1 {
		t.Errorf("remembers %v", p.known)
	}
}

func TestDaemonsTolerateWhatBefallsTheirNode(t *testing.T) {
	mine := corev1.Toleration{Key: "mine", Operator: corev1.TolerationOpExists}
	short := int64(5)
	got := tolerations(&corev1.PodSpec{HostNetwork: true, Tolerations: []corev1.Toleration{mine,
		{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &short}}})
	var texts []string
	for _, x := range got {
		texts = append(texts, strings.TrimPrefix(x.Key, "node.kubernetes.io/")+":"+string(x.Effect))
		if x.TolerationSeconds != nil {
			t.Errorf("%s is tolerated for a time only", x.Key)
		}
	}
	want := "mine: not-ready:NoExecute unreachable:NoExecute disk-pressure:NoSchedule memory-pressure:NoSchedule pid-pressure:NoSchedule unschedulable:NoSchedule network-unavailable:NoSchedule"
	if strings.Join(texts, " ") != want {
		t.Errorf("tolerates %s\nwant %s", strings.Join(texts, " "), want)
	}
}

func TestRevisionsAreSortedByWhatTheyKeep(t *testing.T) {
	rev := func(name string, number int64, data string) *appsv1.ControllerRevision {
		r := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{appsv1.DefaultDaemonSetUniqueLabelKey: name}}, Revision: number}
		r.Data.Raw = []byte(data)
		return r
	}
	p := sort([]*appsv1.ControllerRevision{rev("c", 3, "x"), rev("a", 1, "now"), rev("b", 2, "now"), rev("d", 7, "y")}, []byte("now"))
	if p.current.Name != "b" || len(p.doubles) != 1 || p.doubles[0].Name != "a" || len(p.old) != 2 || p.number != 8 {
		t.Errorf("sorted to %+v", p)
	}
	ds := web()
	limit := int32(1)
	ds.Spec.RevisionHistoryLimit = &limit
	old := []*appsv1.ControllerRevision{rev("a", 1, ""), rev("b", 2, ""), rev("c", 3, "")}
	used := []*corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{appsv1.DefaultDaemonSetUniqueLabelKey: "a"}}}}
	if got := superfluous(ds, old, used); len(got) != 2 || got[0].Name != "b" || got[1].Name != "c" {
		t.Errorf("removes %v, want those without pods, the oldest first", got)
	}
	if got := superfluous(ds, old[:1], nil); len(got) != 0 {
		t.Errorf("removes %v within the limit", got)
	}
}

func TestWhy(t *testing.T) {
	ds := web()
	patch, err := history.Patch(&ds.Spec.Template)
	if err != nil {
		t.Fatal(err)
	}
	r := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{appsv1.DefaultDaemonSetUniqueLabelKey: "new"}}}
	r.Data.Raw = patch
	revisions := []*appsv1.ControllerRevision{r}
	for _, c := range []struct {
		nodes []*corev1.Node
		pods  []*corev1.Pod
		want  string
	}{
		{nodes("a"), []*corev1.Pod{pod("p", "a new ready")}, ""},
		{nodes("a", "b"), []*corev1.Pod{pod("p", "a new")}, "node b gets a pod; available: 0 of 2 pods"},
		{nodes("a"), []*corev1.Pod{pod("p", "a old ready")}, "pod p will be deleted; left of earlier templates: 1 pod"},
		{nodes("a !NoSchedule"), []*corev1.Pod{pod("p", "a new ready")}, "no node is selected by the template, or all have taints that it does not tolerate; on nodes where none should be: 1 pod"},
	} {
		if got := strings.Join(Explain(ds, c.nodes, c.pods, revisions, noon), "; "); got != c.want {
			t.Errorf("because %q, want %q", got, c.want)
		}
	}
	if got := Explain(ds, nil, nil, nil, noon); len(got) != 1 {
		t.Errorf("without a revision: %q", got)
	}
}
