package namespace_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/controller/controllertest"
	"sampan/cluster/controller/namespace"
	"sampan/cluster/kind"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/core"
)

// world is the API with the controller running on it.
type world struct{ controllertest.World }

func with(t *testing.T, test func(w world), objs ...kind.Object) {
	synctest.Test(t, func(t *testing.T) {
		w := world{controllertest.New(t, kind.NewTable(core.Kinds(), apps.Kinds()), append(objs, space("shop"), space("bank"))...)}
		w.Validate = false
		w.Start(namespace.New(namespace.Config{Client: w, Log: slog.New(slog.DiscardHandler)}))
		test(w)
	})
}

func space(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}}}
}

func in(ns, name string) metav1.ObjectMeta { return metav1.ObjectMeta{Namespace: ns, Name: name} }

func running(ns, name string, finalizers ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: in(ns, name), Spec: corev1.PodSpec{NodeName: "n1"}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
	p.Finalizers = finalizers
	return p
}

func (w world) end(name string) {
	w.Helper()
	if err := client.Delete[*corev1.Namespace](w.Context(), w, "", name, nil); err != nil {
		w.Fatal(err)
	}
	synctest.Wait()
}

// has lists what there is, as "namespaces/shop pods/a".
func (w world) has(ns string) string {
	var all []string
	if _, err := client.Get[*corev1.Namespace](w.Context(), w, "", ns); err == nil {
		all = append(all, "namespace")
	}
	for _, k := range w.Kinds().All() {
		if k.Cluster {
			continue
		}
		objs, err := w.List(w.Context(), k, client.Query{Namespace: ns})
		if err != nil {
			w.Fatal(err)
		}
		for _, o := range objs {
			text := k.Plural + "/" + o.GetName()
			if o.GetDeletionTimestamp() != nil {
				text += "-leaving"
			}
			all = append(all, text)
		}
	}
	return strings.Join(all, " ")
}

func (w world) condition(ns string, typ corev1.NamespaceConditionType) string {
	got, err := client.Get[*corev1.Namespace](w.Context(), w, "", ns)
	if err != nil {
		return err.Error()
	}
	for _, c := range got.Status.Conditions {
		if c.Type == typ {
			return fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
		}
	}
	return "none"
}

func (w world) expect(ns, want string) {
	w.Helper()
	if got := w.has(ns); got != want {
		w.Errorf("%s has %q, want %q", ns, got, want)
	}
}

func TestANamespaceGoesWithAllThatIsInIt(t *testing.T) {
	with(t, func(w world) {
		w.end("shop")
		w.expect("shop", "")
		w.expect("bank", "namespace configmaps/a")
		for _, a := range w.Actions() {
			if a.Verb == "update" && a.Sub == "status" {
				t.Errorf("nobody reads %s of what is gone", a)
			}
		}
	},
		&corev1.ConfigMap{ObjectMeta: in("shop", "a")}, &corev1.Secret{ObjectMeta: in("shop", "a")},
		&corev1.Service{ObjectMeta: in("shop", "a")}, &corev1.Pod{ObjectMeta: in("shop", "unscheduled")},
		&corev1.ConfigMap{ObjectMeta: in("bank", "a")})
}

func TestNothingElseGoesBeforeThePods(t *testing.T) {
	with(t, func(w world) {
		w.end("shop")
		w.expect("shop", "namespace configmaps/a pods/a-leaving pods/b-leaving")
		if got := w.condition("shop", corev1.NamespaceContentRemaining); got != "True SomeResourcesRemain: Some resources are remaining: pods. has 2 resource instances" {
			t.Error(got)
		}
		if got := w.condition("shop", corev1.NamespaceDeletionContentFailure); !strings.HasPrefix(got, "False ContentDeleted") {
			t.Error(got)
		}
		pods := client.KindOf[*corev1.Pod](w)
		w.Drop(pods, "shop", "a") // the node has stopped it
		synctest.Wait()
		w.expect("shop", "namespace configmaps/a pods/b-leaving")
		w.Drop(pods, "shop", "b")
		synctest.Wait()
		w.expect("shop", "")
	}, running("shop", "a"), running("shop", "b"), &corev1.ConfigMap{ObjectMeta: in("shop", "a")})
}

func TestAFinalizerHoldsTheNamespaceAndIsNamed(t *testing.T) {
	with(t, func(w world) {
		w.end("shop")
		time.Sleep(time.Hour)
		synctest.Wait()
		w.expect("shop", "namespace configmaps/a-leaving")
		if got := w.condition("shop", corev1.NamespaceFinalizersRemaining); !strings.HasSuffix(got, "example.com/hold in 1 resource instances") {
			t.Error(got)
		}
		m, err := client.Get[*corev1.ConfigMap](w.Context(), w, "shop", "a")
		if err != nil {
			t.Fatal(err)
		}
		m = m.DeepCopy()
		m.Finalizers = nil
		if _, err := client.Update(w.Context(), w, m); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.expect("shop", "")
	}, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "a", Finalizers: []string{"example.com/hold"}}})
}

func TestAPodThatDoesNotStopIsReportedAfterItsGrace(t *testing.T) {
	with(t, func(w world) {
		w.end("shop")
		before := len(w.Actions())
		time.Sleep(29 * time.Second)
		if n := len(w.Actions()) - before; n != 0 {
			t.Errorf("%d writes while the pod has time: %v", n, w.Actions()[before:])
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := w.condition("shop", corev1.NamespaceDeletionContentFailure); !strings.HasSuffix(got, "unexpected items still remain in namespace: shop for gvr: /v1, Resource=pods") {
			t.Error(got)
		}
		if n := len(w.Actions()) - before; n != 1 {
			t.Errorf("%d writes, want 1: %v", n, w.Actions()[before:])
		}
	}, running("shop", "a"))
}

func TestAFailureIsReportedAndTriedAgain(t *testing.T) {
	with(t, func(w world) {
		var broken atomic.Bool
		broken.Store(true)
		w.Refuse(func(a clienttest.Action) error {
			if broken.Load() && a.Verb == "delete" && a.Kind.Plural == "secrets" {
				return apierrors.NewInternalError(errors.New("no"))
			}
			return nil
		})
		w.end("shop")
		w.expect("shop", "namespace secrets/a")
		if got := w.condition("shop", corev1.NamespaceDeletionContentFailure); got != "True ContentDeletionFailed: Failed to delete all resource types, 1 remaining: Internal error occurred: no" {
			t.Error(got)
		}
		broken.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		w.expect("shop", "")
	}, &corev1.Secret{ObjectMeta: in("shop", "a")}, &corev1.ConfigMap{ObjectMeta: in("shop", "a")})
}

// elsewhere is another server that keeps flunders.
type elsewhere struct {
	mu      sync.Mutex // guards all below
	left    int
	unknown []schema.GroupVersion
}

func (e *elsewhere) set(left int, unknown ...schema.GroupVersion) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.left, e.unknown = left, unknown
}

func (e *elsewhere) Empty(context.Context, string) (map[schema.GroupVersionResource][]*metav1.PartialObjectMetadata, []schema.GroupVersion, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.left == 0 {
		return nil, e.unknown, nil
	}
	of := schema.GroupVersionResource{Group: "wardle.example.com", Version: "v1", Resource: "flunders"}
	held := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Finalizers: []string{"example.com/hold"}}}
	return map[schema.GroupVersionResource][]*metav1.PartialObjectMetadata{of: slices.Repeat([]*metav1.PartialObjectMetadata{held}, e.left)}, e.unknown, nil
}

func TestANamespaceWaitsForWhatIsElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := world{controllertest.New(t, kind.NewTable(core.Kinds(), apps.Kinds()), space("shop"))}
		w.Validate = false
		e := &elsewhere{left: 2}
		w.Start(namespace.New(namespace.Config{Client: w, Log: slog.New(slog.DiscardHandler), Elsewhere: e}))
		w.end("shop")
		if got, want := w.condition("shop", corev1.NamespaceContentRemaining),
			"True SomeResourcesRemain: Some resources are remaining: flunders.wardle.example.com has 2 resource instances"; got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
		e.set(0, schema.GroupVersion{Group: "wardle.example.com", Version: "v1"})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if got, want := w.condition("shop", corev1.NamespaceDeletionDiscoveryFailure), "True DiscoveryFailed: Discovery failed for some groups, 1 failing"; !strings.HasPrefix(got, want) {
			t.Errorf("%s\nwant %s", got, want)
		}
		e.set(0)
		time.Sleep(10 * time.Minute) // the longest back-off
		synctest.Wait()
		w.expect("shop", "")
	})
}

func TestOtherFinalizersOfTheNamespaceStay(t *testing.T) {
	held := space("held")
	held.Spec.Finalizers = append(held.Spec.Finalizers, "example.com/last")
	with(t, func(w world) {
		w.end("held")
		w.expect("held", "namespace")
		ns, err := client.Get[*corev1.Namespace](w.Context(), w, "", "held")
		if err != nil || len(ns.Spec.Finalizers) != 1 || ns.Spec.Finalizers[0] != "example.com/last" {
			t.Errorf("finalizers %v, %v", ns.Spec.Finalizers, err)
		}
		if n := len(w.Actions()); n > 4 { // delete, report, finalize
			t.Errorf("it does not rest: %v", w.Actions())
		}
	}, held)
}

func TestWhatCameTooLateIsSweptAway(t *testing.T) {
	with(t, func(w world) {
		w.Refuse(func(a clienttest.Action) error {
			if a.Sub == "finalize" {
				w.Put(&corev1.ConfigMap{ObjectMeta: in("shop", "late")}) // admitted before the deletion began
			}
			return nil
		})
		w.end("shop")
		w.expect("shop", "")
	})
}

func TestANamespaceThatWasLeavingBeforeTheStartGoesToo(t *testing.T) {
	old := space("old")
	at := metav1.Now()
	old.DeletionTimestamp, old.Status.Phase = &at, corev1.NamespaceTerminating
	with(t, func(w world) { w.expect("old", "") }, old, &corev1.ConfigMap{ObjectMeta: in("old", "a")})
}
