package namespace

import (
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/kind"
)

var (
	start      = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	configmaps = corev1.SchemeGroupVersion.WithResource("configmaps")
)

// pod is a running pod; words: "leaving", "ended", "held" by a finalizer.
func pod(name, words string) kind.Object {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop"}}
	thirty := int64(30)
	p.Spec.TerminationGracePeriodSeconds = &thirty
	p.Status.Phase = corev1.PodRunning
	for _, w := range strings.Fields(words) {
		switch w {
		case "leaving":
			at := metav1.NewTime(start)
			p.DeletionTimestamp = &at
		case "ended":
			p.Status.Phase = corev1.PodSucceeded
		case "held":
			p.Finalizers = []string{"example.com/hold"}
		}
	}
	return p
}

func configMap(name string, finalizers ...string) kind.Object {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", Finalizers: finalizers}}
}

func leaving() *corev1.Namespace {
	at := metav1.NewTime(start)
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", DeletionTimestamp: &at}}
}

func TestPodsGoFirst(t *testing.T) {
	maps := content{kind: configmaps, objects: []kind.Object{configMap("a")}}
	for _, c := range []struct {
		it   string
		all  []content
		want []string
	}{
		{"waits with the rest while there are pods", []content{maps, {kind: pods, objects: []kind.Object{pod("a", "leaving")}}}, []string{"pods"}},
		{"goes on when they are gone", []content{maps, {kind: pods}}, []string{"configmaps"}},
		{"has nothing to do in an empty namespace", []content{{kind: pods}}, nil},
	} {
		var got []string
		for _, w := range due(c.all) {
			got = append(got, w.kind.Resource)
		}
		if strings.Join(got, " ") != strings.Join(c.want, " ") {
			t.Errorf("%s: %v, want %v", c.it, got, c.want)
		}
	}
}

func TestWhatIsDeletedAgain(t *testing.T) {
	waits := pod("a", "leaving").(*corev1.Pod)
	waits.Finalizers = []string{metav1.FinalizerDeleteDependents}
	for _, c := range []struct {
		it   string
		o    kind.Object
		want bool
	}{
		{"one that nobody has deleted", pod("a", "held"), true},
		{"not one that is on its way", pod("a", "leaving"), false},
		{"one that waits for its dependants, which go as well", waits, true},
	} {
		if got := doomed(c.o); got != c.want {
			t.Errorf("%s: %v, want %v", c.it, got, c.want)
		}
	}
}

func TestWhenSomethingIsStuck(t *testing.T) {
	for _, c := range []struct {
		it     string
		remain content
		after  time.Duration
		again  time.Duration
		want   string
	}{
		{"waits for the pods' grace period", content{kind: pods, objects: []kind.Object{pod("a", "leaving")}}, 10 * time.Second, 20 * time.Second, ""},
		{"says so when pods have had it", content{kind: pods, objects: []kind.Object{pod("a", "leaving")}}, 30 * time.Second, 0,
			"unexpected items still remain in namespace: shop for gvr: /v1, Resource=pods"},
		{"does not wait for pods that have ended", content{kind: pods, objects: []kind.Object{pod("a", "leaving ended")}}, time.Second, 0,
			"unexpected items still remain in namespace: shop for gvr: /v1, Resource=pods"},
		{"leaves what a finalizer holds to its owner", content{kind: pods, objects: []kind.Object{pod("a", "leaving held")}}, time.Hour, 0, ""},
	} {
		now := start.Add(c.after)
		if got := patience(leaving(), []content{c.remain}, now); got != c.again {
			t.Errorf("%s: looks again after %v, want %v", c.it, got, c.again)
		}
		if got := errors.Join(stuck(leaving(), []content{c.remain}, now)...); (got == nil) != (c.want == "") || got != nil && got.Error() != c.want {
			t.Errorf("%s: %v, want %q", c.it, got, c.want)
		}
	}
}

func TestConditionsSayWhatIsNotDiscovered(t *testing.T) {
	metrics := schema.GroupVersion{Group: "metrics.k8s.io", Version: "v1beta1"}
	got := conditions(nil, nil, []error{undiscovered{metrics}}, start)
	if want := (corev1.NamespaceCondition{Type: "NamespaceDeletionDiscoveryFailure", Status: "True", Reason: "DiscoveryFailed", LastTransitionTime: metav1.NewTime(start),
		Message: "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: metrics.k8s.io/v1beta1: stale GroupVersion discovery: metrics.k8s.io/v1beta1"}); got[0] != want {
		t.Errorf("got  %+v\nwant %+v", got[0], want)
	}
	if got[2].Status != "False" {
		t.Errorf("what could not be asked for was not deleted wrongly: %+v", got[2])
	}
}

func TestConditionsSayWhatHoldsANamespace(t *testing.T) {
	remain := []content{
		{kind: configmaps, objects: []kind.Object{configMap("a", "example.com/hold"), configMap("b", "example.com/hold")}},
		{kind: pods, objects: []kind.Object{pod("a", "held")}},
	}
	first := conditions(nil, remain, []error{errors.New("b"), errors.New("a")}, start)
	want := []corev1.NamespaceCondition{
		{Type: "NamespaceDeletionDiscoveryFailure", Status: "False", Reason: "ResourcesDiscovered", Message: "All resources successfully discovered"},
		{Type: "NamespaceDeletionGroupVersionParsingFailure", Status: "False", Reason: "ParsedGroupVersions", Message: "All legacy kube types successfully parsed"},
		{Type: "NamespaceDeletionContentFailure", Status: "True", Reason: "ContentDeletionFailed", Message: "Failed to delete all resource types, 2 remaining: a, b"},
		{Type: "NamespaceContentRemaining", Status: "True", Reason: "SomeResourcesRemain",
			Message: "Some resources are remaining: configmaps. has 2 resource instances, pods. has 1 resource instances"},
		{Type: "NamespaceFinalizersRemaining", Status: "True", Reason: "SomeFinalizersRemain",
			Message: "Some content in the namespace has finalizers remaining: example.com/hold in 3 resource instances"},
	}
	if len(first) != len(want) {
		t.Fatalf("%d conditions, want %d", len(first), len(want))
	}
	for i := range want {
		want[i].LastTransitionTime = metav1.NewTime(start)
		if first[i] != want[i] {
			t.Errorf("got  %+v\nwant %+v", first[i], want[i])
		}
	}
	later := conditions(first, remain[:1], nil, start.Add(time.Minute))
	if c := later[3]; !c.LastTransitionTime.Equal(&first[3].LastTransitionTime) || c.Message == first[3].Message {
		t.Errorf("another message is no transition: %+v", c)
	}
	if c := later[2]; c.Status != "False" || c.Reason != "ContentDeleted" || !c.LastTransitionTime.Time.Equal(start.Add(time.Minute)) {
		t.Errorf("a failure that is over: %+v", c)
	}
	if first[2].Status != "True" {
		t.Error("what was given has changed")
	}
}
