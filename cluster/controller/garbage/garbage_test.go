package garbage

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/controller/controllertest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/coordination"
	"sampan/cluster/kind/core"
)

// world is a controller at work on a client in memory, in a bubble of time.
// Objects are config maps, except for those with a name of another kind.
type world struct {
	controllertest.World
	collector *Controller
}

func run(t *testing.T, test func(w world), objs ...kind.Object) {
	synctest.Test(t, func(t *testing.T) {
		w := controllertest.New(t, kind.NewTable(core.Kinds(), apps.Kinds()), objs...)
		w.Validate = false
		c := New(Config{Client: w, Log: slog.New(slog.DiscardHandler)})
		w.Start(c)
		test(world{w, c})
	})
}

// obj is called name and owned by those named; "!" in front of an owner
// means that it blocks the owner's end.
func obj(name string, owners ...string) *corev1.ConfigMap {
	o := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, UID: types.UID(name)}}
	for _, owner := range owners {
		owner, block := strings.CutPrefix(owner, "!")
		o.OwnerReferences = append(o.OwnerReferences, ref("v1", "ConfigMap", owner, block))
	}
	return o
}

func ref(version, kind, name string, block bool) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: version, Kind: kind, Name: name, UID: types.UID(name), BlockOwnerDeletion: &block}
}

func (w world) delete(name string, policy metav1.DeletionPropagation) {
	w.Helper()
	if err := client.Delete[*corev1.ConfigMap](w.Context(), w, "default", name, &metav1.DeleteOptions{PropagationPolicy: &policy}); err != nil {
		w.Fatal(err)
	}
	synctest.Wait()
}

// want is what is left: names, with the owners of each: "pod<set,other".
func (w world) want(names ...string) {
	w.Helper()
	synctest.Wait()
	got := []string{}
	for _, k := range w.Kinds().All() {
		objs, err := w.List(w.Context(), k, client.Query{})
		if err != nil {
			w.Fatal(err)
		}
		for _, o := range objs {
			var owners []string
			for _, r := range o.GetOwnerReferences() {
				owners = append(owners, r.Name)
			}
			line := o.GetName()
			if len(owners) > 0 {
				line += "<" + strings.Join(owners, ",")
			}
			got = append(got, line)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, names) {
		w.Errorf("left are %q, want %q", got, names)
	}
}

func TestBackgroundTakesAllThatHangsOnIt(t *testing.T) {
	run(t, func(w world) {
		w.delete("deployment", metav1.DeletePropagationBackground)
		w.want("bystander")
	}, obj("deployment"), obj("set", "!deployment"), obj("pod-1", "!set"), obj("pod-2", "set"), obj("bystander"))
}

func TestOrphansStay(t *testing.T) {
	run(t, func(w world) {
		w.delete("deployment", metav1.DeletePropagationOrphan)
		w.want("pod<set", "set")
	}, obj("deployment"), obj("set", "!deployment"), obj("pod", "!set"))
}

func TestOneOwnerIsEnoughToStay(t *testing.T) {
	run(t, func(w world) {
		w.delete("a", metav1.DeletePropagationBackground)
		w.want("b", "shared<b")
		w.delete("b", metav1.DeletePropagationBackground)
		w.want()
	}, obj("a"), obj("b"), obj("shared", "a", "b"))
}

func TestForegroundEndsWithTheOwner(t *testing.T) {
	slow := obj("pod", "!set")
	slow.Finalizers = []string{"example.org/slow"}
	run(t, func(w world) {
		w.delete("deployment", metav1.DeletePropagationForeground)
		w.want("deployment", "pod<set", "set<deployment")
		// The pod ends; then the set may, then the deployment.
		p, err := client.Get[*corev1.ConfigMap](w.Context(), w, "default", "pod")
		if err != nil || p.DeletionTimestamp == nil {
			t.Fatalf("pod %+v, err %v: want it leaving", p, err)
		}
		w.Drop(client.KindOf[*corev1.ConfigMap](w), "default", "pod")
		w.want()
	}, obj("deployment"), obj("set", "!deployment"), slow)
}

func TestForegroundDoesNotWaitForWhatDoesNotBlock(t *testing.T) {
	slow := obj("pod", "set")
	slow.Finalizers = []string{"example.org/slow"}
	run(t, func(w world) {
		w.delete("set", metav1.DeletePropagationForeground)
		w.want("pod<set")
	}, obj("set"), slow)
}

func TestForegroundLetsGoOfWhatOthersOwn(t *testing.T) {
	run(t, func(w world) {
		w.delete("a", metav1.DeletePropagationForeground)
		w.want("b", "shared<b")
	}, obj("a"), obj("b"), obj("shared", "!a", "!b"))
}

func TestCyclesEnd(t *testing.T) {
	for _, policy := range []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationForeground} {
		t.Run(string(policy), func(t *testing.T) {
			run(t, func(w world) {
				w.delete("a", policy)
				w.want()
			}, obj("a", "!c"), obj("b", "!a"), obj("c", "!b"))
		})
	}
}

func TestWhatHasNoOwnerAtStartIsCollected(t *testing.T) {
	other := obj("reborn")
	other.UID = "another-uid"
	run(t, func(w world) { w.want("reborn") },
		obj("orphan", "never-was"), obj("heir", "reborn"), other)
}

func TestAnOwnerWhoseKindNobodyKnowsIsBelieved(t *testing.T) {
	o := obj("part")
	o.OwnerReferences = []metav1.OwnerReference{ref("example.org/v1", "Whole", "whole", true)}
	run(t, func(w world) { w.want("part<whole") }, o)
}

func TestOwnersOutsideOfNamespaces(t *testing.T) {
	lease := obj("lease")
	lease.OwnerReferences = []metav1.OwnerReference{ref("v1", "Node", "node-1", false)}
	// What is in no namespace cannot say where its owner is.
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-2", UID: "node-2", OwnerReferences: []metav1.OwnerReference{ref("v1", "ConfigMap", "gone", false)}}}
	run(t, func(w world) {
		w.want("lease<node-1", "node-1", "node-2<gone")
		w.Drop(client.KindOf[*corev1.Node](w), "", "node-1")
		w.want("node-2<gone")
	}, lease, node, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", UID: "node-1"}})
}

func TestPodsOfADeletedSetLeaveGracefully(t *testing.T) {
	grace := int64(30)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "pod", UID: "pod",
		OwnerReferences: []metav1.OwnerReference{ref("apps/v1", "ReplicaSet", "set", true)}},
		Spec: corev1.PodSpec{NodeName: "node-1", TerminationGracePeriodSeconds: &grace}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	set := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "set", UID: "set"}}
	run(t, func(w world) {
		w.Drop(client.KindOf[*appsv1.ReplicaSet](w), "default", "set")
		synctest.Wait()
		p, err := client.Get[*corev1.Pod](w.Context(), w, "default", "pod")
		if err != nil || p.DeletionTimestamp == nil || *p.DeletionGracePeriodSeconds != 30 {
			t.Errorf("pod %+v, err %v: want it leaving within 30 s", p, err)
		}
	}, pod, set)
}

func TestAFasterWriterIsNotOverruled(t *testing.T) {
	run(t, func(w world) {
		first := true
		w.Refuse(func(a clienttest.Action) error {
			if a.Verb == "delete" && a.Name == "part" && first {
				first = false
				w.Put(obj("part", "new-owner")) // adopted, just now
			}
			return nil
		})
		w.Drop(client.KindOf[*corev1.ConfigMap](w), "default", "old-owner")
		time.Sleep(time.Second)
		w.want("new-owner", "part<new-owner")
		if first {
			t.Error("nothing was tried")
		}
	}, obj("old-owner"), obj("new-owner"), obj("part", "old-owner"))
}

func TestKindsThatComeLaterAreFollowed(t *testing.T) {
	run(t, func(w world) {
		for _, k := range coordination.Kinds() {
			w.Kinds().Add(k)
		}
		lease := coordination.Kinds()[0].New()
		lease.SetNamespace("default")
		lease.SetName("lease")
		lease.SetOwnerReferences([]metav1.OwnerReference{ref("v1", "ConfigMap", "gone", false)})
		w.Put(lease)
		w.want()
	})
}

func TestManyDependentsAreFewWrites(t *testing.T) {
	objs := []kind.Object{obj("set")}
	for i := range 200 {
		objs = append(objs, obj(fmt.Sprint("pod-", i), "!set"))
	}
	run(t, func(w world) {
		w.delete("set", metav1.DeletePropagationForeground)
		w.want()
		if n := len(w.Actions()); n != 202 { // the set, its finalizer, and each pod
			t.Errorf("%d writes, want 202", n)
		}
	}, objs...)
}

func TestAFailureIsTriedAgain(t *testing.T) {
	run(t, func(w world) {
		fail := 3
		w.Refuse(func(a clienttest.Action) error {
			if a.Verb == "delete" && a.Name == "part" && fail > 0 {
				fail--
				return apierrors.NewInternalError(fmt.Errorf("no leader"))
			}
			return nil
		})
		w.Drop(client.KindOf[*corev1.ConfigMap](w), "default", "owner")
		time.Sleep(time.Minute)
		w.want()
	}, obj("owner"), obj("part", "owner"))
}
