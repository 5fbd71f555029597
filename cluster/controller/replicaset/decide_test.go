package replicaset

import (
	"errors"
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
)

// noon is when everything below happens.
var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// pod describes one pod in words: "unscheduled", "starting", "ready",
// "failed", "leaving"; and with a value "on=node", "cost=5", "since=1h" (ready
// since), "age=1h", "restarts=3".
func pod(name, words string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), Labels: map[string]string{"app": "web"}}}
	p.Spec.NodeName, p.Status.Phase = "node-1", corev1.PodRunning
	p.CreationTimestamp = metav1.NewTime(noon.Add(-time.Hour))
	ready := corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(noon.Add(-time.Hour))}
	for _, word := range strings.Fields(words) {
		word, value, _ := strings.Cut(word, "=")
		ago := func() metav1.Time {
			d, err := time.ParseDuration(value)
			if err != nil {
				panic(err)
			}
			return metav1.NewTime(noon.Add(-d))
		}
		switch word {
		case "unscheduled":
			p.Spec.NodeName, p.Status.Phase = "", corev1.PodPending
		case "starting":
			p.Status.Phase = corev1.PodPending
		case "ready":
			p.Status.Conditions = []corev1.PodCondition{ready}
		case "since":
			ready.LastTransitionTime = ago()
			p.Status.Conditions = []corev1.PodCondition{ready}
		case "failed":
			p.Status.Phase = corev1.PodFailed
		case "leaving":
			p.DeletionTimestamp = &metav1.Time{Time: noon}
		case "on":
			p.Spec.NodeName = value
		case "cost":
			p.Annotations = map[string]string{corev1.PodDeletionCost: value}
		case "age":
			p.CreationTimestamp = ago()
		case "restarts":
			var n int32
			fmt.Sscan(value, &n)
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{RestartCount: 0}, {RestartCount: n}}
		default:
			panic(word)
		}
	}
	return p
}

func names(all []*corev1.Pod) (some []string) {
	for _, p := range all {
		some = append(some, p.Name)
	}
	return some
}

func TestDecide(t *testing.T) {
	for _, c := range []struct {
		it      string
		want    int32
		pods    []*corev1.Pod
		related []*corev1.Pod
		leaving bool
		create  int
		remove  []string
	}{
		{it: "creates what is missing", want: 3,
			pods: []*corev1.Pod{pod("a", "ready")}, create: 2},
		{it: "replaces a failed pod and leaves it for the collector", want: 1,
			pods: []*corev1.Pod{pod("a", "failed")}, create: 1},
		{it: "does not count a pod that is leaving", want: 1,
			pods: []*corev1.Pod{pod("a", "leaving ready")}, create: 1},
		{it: "stops the pod that serves least", want: 1,
			pods:   []*corev1.Pod{pod("a", "ready"), pod("b", "starting"), pod("c", "unscheduled")},
			remove: []string{"c", "b"}},
		{it: "stops the cheap one, whatever else it is", want: 1,
			pods:   []*corev1.Pod{pod("a", "ready age=10h"), pod("b", "ready cost=-1 age=20h"), pod("c", "ready cost=3")},
			remove: []string{"b", "a"}},
		{it: "takes a cost that is no number for none", want: 1,
			pods:   []*corev1.Pod{pod("a", "ready cost=-5"), pod("b", "ready cost=-99x")},
			remove: []string{"a"}},
		{it: "thins out where most of their kind are", want: 2,
			pods:    []*corev1.Pod{pod("a", "ready on=one"), pod("b", "ready on=two"), pod("c", "ready on=two")},
			related: []*corev1.Pod{pod("a", "ready on=one"), pod("b", "ready on=two"), pod("c", "ready on=two"), pod("old-1", "ready on=one"), pod("old-2", "ready on=one")},
			remove:  []string{"a"}},
		{it: "stops who became ready last", want: 1,
			pods:   []*corev1.Pod{pod("a", "since=10h"), pod("b", "since=1m"), pod("c", "since=1h")},
			remove: []string{"b", "c"}},
		{it: "does not tell times of one magnitude apart: restarts count", want: 1,
			pods:   []*corev1.Pod{pod("a", "since=1h restarts=1"), pod("b", "since=61m restarts=3")},
			remove: []string{"b"}},
		{it: "stops the younger", want: 1,
			pods:   []*corev1.Pod{pod("a", "starting age=10h"), pod("b", "starting age=1m")},
			remove: []string{"b"}},
		{it: "stops all, in any order", want: 0,
			pods:   []*corev1.Pod{pod("a", "ready"), pod("b", "starting")},
			remove: []string{"a", "b"}},
		{it: "makes no more than 500 at once", want: 600, create: 500},
		{it: "leaves the pods of a set that is leaving to the collector", want: 3, leaving: true,
			pods: []*corev1.Pod{pod("a", "ready")}},
		{it: "does nothing when all is well", want: 1,
			pods: []*corev1.Pod{pod("a", "starting")}},
	} {
		t.Run(c.it, func(t *testing.T) {
			rs := web(c.want)
			if c.leaving {
				rs.DeletionTimestamp = &metav1.Time{Time: noon}
			}
			if c.related == nil {
				c.related = c.pods
			}
			d := decide(rs, c.pods, c.related, noon)
			if removed := names(d.remove); d.create != c.create || !slices.Equal(removed, c.remove) {
				t.Errorf("create %d, remove %v; want create %d, remove %v", d.create, removed, c.create, c.remove)
			}
		})
	}
}

// Whatever the pods are, carrying out a decision leads to one that does
// nothing, what serves is not stopped while something else could be, and the
// order that pods come in does not matter.
func TestOneDecisionIsEnough(t *testing.T) {
	states := []string{"unscheduled", "starting", "ready", "failed", "leaving", "since=1s", "since=5h", "ready restarts=3", "ready on=node-2", "ready cost=1"}
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 0))
		rs := web(r.Int32N(6))
		var all []*corev1.Pod
		for i := range r.IntN(10) {
			all = append(all, pod(fmt.Sprint("p", i), states[r.IntN(len(states))]))
		}
		d := decide(rs, all, all, noon)
		shuffled := slices.Clone(all)
		r.Shuffle(len(all), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		if again := decide(rs, shuffled, shuffled, noon); *rs.Spec.Replicas > 0 && !slices.Equal(names(again.remove), names(d.remove)) {
			t.Fatalf("seed %d: removes %v or, in another order, %v", seed, names(d.remove), names(again.remove))
		}
		kept := slices.DeleteFunc(slices.Clone(all), func(p *corev1.Pod) bool { return slices.Contains(d.remove, p) })
		for _, gone := range d.remove {
			for _, stays := range active(kept) {
				if serves(gone) && !serves(stays) {
					t.Fatalf("seed %d: %s serves and goes, %s does not and stays", seed, gone.Name, stays.Name)
				}
			}
		}
		for range d.create {
			kept = append(kept, pod("new", "unscheduled"))
		}
		if d = decide(rs, kept, kept, noon); d.create != 0 || len(d.remove) != 0 {
			t.Fatalf("seed %d: second decision is %+v, want nothing", seed, d)
		}
		if s, _ := status(rs, kept, nil, noon); s.Replicas != *rs.Spec.Replicas || s.AvailableReplicas > s.ReadyReplicas || s.ReadyReplicas > s.Replicas {
			t.Fatalf("seed %d: status %+v for %d replicas", seed, s, *rs.Spec.Replicas)
		}
	}
}

func serves(p *corev1.Pod) bool { return len(p.Status.Conditions) > 0 }

func TestStatus(t *testing.T) {
	other := pod("c", "ready")
	other.Labels = map[string]string{"app": "old"} // the selector is wider than the template
	rs := web(3)
	rs.Generation, rs.Spec.MinReadySeconds = 7, 60
	s, again := status(rs, []*corev1.Pod{pod("a", "since=10s"), pod("b", "since=30s"), other,
		pod("d", "starting"), pod("e", "ready leaving"), pod("f", "failed"), pod("g", "failed leaving")}, nil, noon)
	one := int32(1)
	want := appsv1.ReplicaSetStatus{Replicas: 4, FullyLabeledReplicas: 3, ReadyReplicas: 3, AvailableReplicas: 1, TerminatingReplicas: &one, ObservedGeneration: 7}
	if fmt.Sprint(s.Replicas, s.FullyLabeledReplicas, s.ReadyReplicas, s.AvailableReplicas, *s.TerminatingReplicas, s.ObservedGeneration) !=
		fmt.Sprint(want.Replicas, want.FullyLabeledReplicas, want.ReadyReplicas, want.AvailableReplicas, 1, want.ObservedGeneration) {
		t.Errorf("status %+v, want %+v", s, want)
	}
	if again != 30*time.Second {
		t.Errorf("look again in %v, want in 30s, when b becomes available", again)
	}
}

func TestAFailureIsShownUntilAllIsWell(t *testing.T) {
	rs := web(2)
	s, _ := status(rs, nil, errors.New("exceeded quota"), noon)
	if len(s.Conditions) != 1 || s.Conditions[0].Reason != "FailedCreate" || s.Conditions[0].Message != "exceeded quota" || s.Conditions[0].Status != corev1.ConditionTrue {
		t.Fatalf("conditions %+v", s.Conditions)
	}
	rs.Status = s
	s, _ = status(rs, nil, errors.New("something else"), noon.Add(time.Hour))
	if len(s.Conditions) != 1 || s.Conditions[0].Message != "exceeded quota" || !s.Conditions[0].LastTransitionTime.Time.Equal(noon) {
		t.Errorf("conditions %+v, want the first one kept", s.Conditions)
	}
	if s, _ = status(rs, nil, nil, noon); len(s.Conditions) != 0 || len(rs.Status.Conditions) != 1 {
		t.Errorf("conditions %+v; those of the object are %+v", s.Conditions, rs.Status.Conditions)
	}
	s, _ = status(web(0), []*corev1.Pod{pod("a", "ready")}, errors.New("no leader"), noon)
	if s.Conditions[0].Reason != "FailedDelete" {
		t.Errorf("reason %s, want FailedDelete", s.Conditions[0].Reason)
	}
}

func TestExplain(t *testing.T) {
	rs := web(3)
	rs.Spec.MinReadySeconds = 60
	rs.Status.Conditions = []appsv1.ReplicaSetCondition{{Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, Reason: "FailedCreate", Message: "exceeded quota"}}
	got := Explain(rs, []*corev1.Pod{pod("a", "since=20s"), pod("b", "starting"), pod("c", "leaving")}, noon)
	want := []string{
		"missing: 1 of 3 pods",
		"ReplicaFailure: FailedCreate: exceeded quota",
		"not ready: 1 of 2 pods",
		"ready, but not yet for minReadySeconds=60: 1 pod; the next one will be in 40s",
		"terminating, and counting no more: 1 pod",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got = Explain(web(1), []*corev1.Pod{pod("a", "ready")}, noon); len(got) > 0 {
		t.Errorf("got %q, want nothing to say", got)
	}
}
