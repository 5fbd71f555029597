package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/core"
)

// cluster is a scheduler at work on a client in memory.
type cluster struct {
	*testing.T
	fake *clienttest.Fake
}

func schedule(t *testing.T, before func(clienttest.Action) error, objs []kind.Object, then func(c *cluster)) {
	scheduleKinds(t, kind.NewTable(core.Kinds(), apps.Kinds()), before, objs, then)
}

func scheduleKinds(t *testing.T, kinds *kind.Table, before func(clienttest.Action) error, objs []kind.Object, then func(c *cluster)) {
	scheduleCounted(t, kinds, nil, before, objs, then)
}

func scheduleCounted(t *testing.T, kinds *kind.Table, m *Metrics, before func(clienttest.Action) error, objs []kind.Object, then func(c *cluster)) {
	synctest.Test(t, func(t *testing.T) {
		fake := clienttest.New(t, kinds, objs...)
		fake.Before = before
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- New(Config{Client: fake, Log: slog.New(slog.DiscardHandler), Metrics: m}).Run(ctx) }()
		synctest.Wait()
		then(&cluster{t, fake})
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (c *cluster) pod(name string) *corev1.Pod {
	c.Helper()
	p, err := client.Get[*corev1.Pod](c.Context(), c.fake, "default", name)
	if err != nil {
		c.Fatal(err)
	}
	return p
}

func (c *cluster) on(name, node string) {
	c.Helper()
	synctest.Wait()
	if got := c.pod(name).Spec.NodeName; got != node {
		c.Errorf("%s is on %q, want %q", name, got, node)
	}
}

// says looks for an event with a text in it.
func (c *cluster) says(about, reason, text string) {
	c.Helper()
	synctest.Wait()
	all, err := client.List[*corev1.Event](c.Context(), c.fake, client.Query{})
	if err != nil {
		c.Fatal(err)
	}
	if !slices.ContainsFunc(all, func(e *corev1.Event) bool {
		return e.InvolvedObject.Name == about && e.Reason == reason && strings.Contains(e.Message, text)
	}) {
		c.Errorf("no event %s of %s with %q", reason, about, text)
	}
}

var errNotNow = errors.New("not now")

func TestPodsAreBound(t *testing.T) {
	gated := pod("gated", func(p *corev1.Pod) { p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "wait"}} })
	foreign := pod("foreign", func(p *corev1.Pod) { p.Spec.SchedulerName = "other" })
	schedule(t, nil, []kind.Object{node("n1"), pod("a"), gated, foreign}, func(c *cluster) {
		c.on("a", "n1")
		c.says("a", "Scheduled", "Successfully assigned default/a to n1")
		c.on("gated", "")
		c.on("foreign", "")
		free := c.pod("gated").DeepCopy()
		free.Spec.SchedulingGates = nil
		c.fake.Put(free)
		c.on("gated", "n1")
	})
}

func TestABindingThatFailsIsTriedAgain(t *testing.T) {
	fails := 3
	schedule(t, func(a clienttest.Action) error {
		if a.Sub == "binding" && fails > 0 {
			fails--
			return errNotNow
		}
		return nil
	}, []kind.Object{node("n1"), pod("a")}, func(c *cluster) {
		c.on("a", "")
		time.Sleep(time.Minute)
		c.on("a", "n1")
	})
}

// More ends of bindings come at once than anything has room for.
func TestManyPodsAtOnce(t *testing.T) {
	objs := []kind.Object{big(0), big(1)}
	for i := range 1000 {
		objs = append(objs, pod(fmt.Sprint("p", i), asks("cpu", "1m"), asks("memory", "1")))
	}
	schedule(t, nil, objs, func(c *cluster) {
		for i := range 1000 {
			if c.pod(fmt.Sprint("p", i)).Spec.NodeName == "" {
				c.Fatalf("p%d has no node", i)
			}
		}
	})
}

func TestPodsOfAControllerAreSpread(t *testing.T) {
	rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "rs"}}
	rs.Spec.Selector = selector("app", "web")
	owned := func(p *corev1.Pod) {
		p.Labels = map[string]string{"app": "web"}
		p.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(rs, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))}
	}
	// By room alone n2 would be better.
	objs := []kind.Object{rs, node("n1"), node("n2"), pod("there", owned, on("n2"), asks("cpu", "1m"), asks("memory", "1")),
		pod("other", on("n1"), asks("cpu", "1"), asks("memory", "2Gi"))}
	schedule(t, nil, objs, func(c *cluster) {
		c.fake.Put(pod("new", owned, asks("cpu", "1m"), asks("memory", "1")))
		c.on("new", "n1")
	})
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
	service.Spec.Selector = map[string]string{"app": "web"}
	labelledOnly := func(p *corev1.Pod) { p.Labels = map[string]string{"app": "web"} }
	schedule(t, nil, append([]kind.Object{service}, objs[1:]...), func(c *cluster) {
		c.fake.Put(pod("new", labelledOnly, asks("cpu", "1m"), asks("memory", "1")))
		c.on("new", "n1")
	})
}

func TestRoomIsMade(t *testing.T) {
	stays := func(p *corev1.Pod) { p.Finalizers = []string{"example.com/stay"} }
	schedule(t, nil, []kind.Object{node("n1"), pod("victim", on("n1"), asks("cpu", "4"), stays)}, func(c *cluster) {
		c.fake.Put(pod("vip", priority(10), asks("cpu", "4")))
		c.on("vip", "")
		c.says("vip", "FailedScheduling", "0/1 nodes are available: 1 Insufficient cpu. preemption: found a potential placement for pod on node n1, preempting 1 victims")
		c.says("victim", "Preempted", "Preempted by pod vip on node n1")
		if got := c.pod("vip").Status.NominatedNodeName; got != "n1" {
			c.Errorf("nominated node %q, want n1", got)
		}
		victim := c.pod("victim")
		if victim.DeletionTimestamp == nil || len(victim.Status.Conditions) != 1 || victim.Status.Conditions[0].Type != corev1.DisruptionTarget ||
			victim.Status.Conditions[0].Message != "default-scheduler: preempting to accommodate a higher priority pod" {
			c.Errorf("victim %v %+v; want it leaving, and a condition that says why", victim.DeletionTimestamp, victim.Status.Conditions)
		}
		// Nobody takes the room meanwhile, and nobody else has to go.
		c.fake.Put(pod("sneaky", priority(1), asks("cpu", "4")))
		before := len(c.fake.Actions())
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		for _, a := range c.fake.Actions()[before:] {
			if a.Verb == "delete" {
				c.Errorf("again: %v", a)
			}
		}
		c.fake.Drop(core.Pod(), "default", "victim")
		time.Sleep(time.Minute)
		c.on("vip", "n1")
		c.on("sneaky", "")
	})
}

func TestAnEvictionThatFailsIsTriedAgain(t *testing.T) {
	fails := 1
	schedule(t, func(a clienttest.Action) error {
		if a.Verb == "delete" && fails > 0 {
			fails--
			return errNotNow
		}
		return nil
	}, []kind.Object{node("n1"), pod("victim", on("n1"), asks("cpu", "4")), pod("vip", priority(10), asks("cpu", "4"))}, func(c *cluster) {
		time.Sleep(time.Minute)
		synctest.Wait()
		if _, err := client.Get[*corev1.Pod](c.Context(), c.fake, "default", "victim"); err == nil && c.pod("victim").DeletionTimestamp == nil {
			c.Error("the victim stays")
		}
	})
}

func TestRoomThatAResizeLeavesIsUsed(t *testing.T) {
	shrinks := pod("x", on("n1"), asks("cpu", "4"))
	schedule(t, nil, []kind.Object{node("n1"), shrinks, pod("a")}, func(c *cluster) {
		c.on("a", "")
		running := c.pod("x").DeepCopy()
		running.Status.Phase = corev1.PodRunning // which changes nothing
		c.fake.Put(running)
		time.Sleep(time.Minute)
		c.on("a", "")
		smaller := c.pod("x").DeepCopy()
		asks("cpu", "1")(smaller)
		smaller.Generation++
		c.fake.Put(smaller)
		time.Sleep(time.Minute)
		c.on("a", "n1")
	})
}
