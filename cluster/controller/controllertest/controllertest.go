// Package controllertest is what the tests of controllers share: a world of
// objects in memory with controllers at work on it, in a bubble of time
// (testing/synctest).
package controllertest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/controller/history"
	"sampan/cluster/kind"
)

// World is a client in memory, and the test that looks at it.
type World struct {
	*testing.T
	*clienttest.Fake
	before *atomic.Pointer[func(clienttest.Action) error]
}

// New returns a world of these objects in which nobody works yet. Writes are
// checked by their kinds.
func New(t *testing.T, kinds *kind.Table, objs ...kind.Object) World {
	t.Helper()
	w := World{t, clienttest.New(t, kinds, objs...), &atomic.Pointer[func(clienttest.Action) error]{}}
	w.Validate = true
	w.Before = func(a clienttest.Action) error {
		if f := w.before.Load(); f != nil {
			return (*f)(a)
		}
		return nil
	}
	return w
}

// Refuse has the server ask f before each write and read, and nobody after
// Refuse(nil).
func (w World) Refuse(f func(clienttest.Action) error) {
	if f == nil {
		w.before.Store(nil)
		return
	}
	w.before.Store(&f)
}

// RefusePods has a quota forbid new pods.
func (w World) RefusePods() {
	w.Refuse(func(a clienttest.Action) error {
		if a.Verb == "create" && a.Kind.Plural == "pods" {
			return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("exceeded quota: mine"))
		}
		return nil
	})
}

// Controller is what can be at work.
type Controller interface {
	Run(ctx context.Context) error
}

// Start lets controllers work until stop, which may be called twice, or the end
// of the test, and waits until they have done what they find to do.
func (w World) Start(all ...Controller) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, len(all))
	for _, c := range all {
		go func() { over <- c.Run(ctx) }()
	}
	stop = sync.OnceFunc(func() {
		cancel()
		for range all {
			if err := <-over; err != nil {
				w.Error(err)
			}
		}
	})
	w.Cleanup(stop)
	synctest.Wait()
	return stop
}

// Lookout is a World, or what a test has made of one.
type Lookout interface {
	testing.TB
	client.Client
	Put(obj kind.Object) kind.Object
}

// All are the objects of type T.
func All[T client.Typed](w Lookout) []T {
	w.Helper()
	all, err := client.List[T](w.Context(), w, client.Query{})
	if err != nil {
		w.Fatal(err)
	}
	return all
}

// Get is the object of this name, which must be there.
func Get[T client.Typed](w Lookout, namespace, name string) T {
	w.Helper()
	obj, err := client.Get[T](w.Context(), w, namespace, name)
	if err != nil {
		w.Fatal(err)
	}
	return obj
}

// Edit changes obj as a user does, whatever has become of its status since,
// and waits until the controllers have followed.
func Edit[T client.Typed](w Lookout, obj T, how ...func(T)) {
	w.Helper()
	next := obj.DeepCopyObject().(T)
	for _, h := range how {
		h(next)
	}
	next.SetResourceVersion("")
	if _, err := client.Update(w.Context(), w, next); err != nil {
		w.Fatal(err)
	}
	synctest.Wait()
}

// Change puts a changed copy of obj in its place, status and all, and waits
// until the controllers have followed.
func Change[T client.Typed](w Lookout, obj T, how func(T)) {
	next := obj.DeepCopyObject().(T)
	how(next)
	w.Put(next)
	synctest.Wait()
}

// Ready makes p, a copy, one that runs on a node and is ready.
func Ready(p *corev1.Pod, node string) {
	p.Spec.NodeName, p.Status.Phase = node, corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
}

// WantRevisions compares number and image of each revision, from the first:
// "1=web:1 2=web:2".
func WantRevisions(w Lookout, want string) {
	w.Helper()
	var some []string
	for _, r := range history.Sort(All[*appsv1.ControllerRevision](w)) {
		t, err := history.Template(r)
		if err != nil {
			w.Fatal(err)
		}
		some = append(some, fmt.Sprintf("%d=%s", r.Revision, t.Spec.Containers[0].Image))
	}
	if got := strings.Join(some, " "); got != want {
		w.Errorf("revisions are %q, want %q", got, want)
	}
}
