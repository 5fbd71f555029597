package replicaset

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/controller/controllertest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/core"
)

// world is a controller at work on a client in memory, in a bubble of time.
type world struct{ controllertest.World }

func run(t *testing.T, test func(w world), objs ...kind.Object) {
	synctest.Test(t, func(t *testing.T) {
		w := world{controllertest.New(t, kind.NewTable(core.Kinds(), apps.Kinds()), objs...)}
		w.Start(New(Config{Client: w, Log: slog.New(slog.DiscardHandler)}))
		test(w)
	})
}

func web(n int32) *appsv1.ReplicaSet {
	labels := map[string]string{"app": "web"}
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "web-uid"},
		Spec: appsv1.ReplicaSetSpec{Replicas: &n, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "web:1",
					TerminationMessagePolicy: corev1.TerminationMessageReadFile}}}}},
	}
}

func (w world) pods() []*corev1.Pod { return controllertest.All[*corev1.Pod](w) }

func (w world) set() *appsv1.ReplicaSet {
	return controllertest.Get[*appsv1.ReplicaSet](w, "default", "web")
}

func (w world) scale(n int32) {
	controllertest.Change(w, w.set(), func(rs *appsv1.ReplicaSet) { rs.Spec.Replicas = &n; rs.Generation++ })
}

func (w world) ready(p *corev1.Pod) {
	controllertest.Change(w, p, func(p *corev1.Pod) { controllertest.Ready(p, "node-1") })
}

// counts is the status in short: replicas, labelled, ready, available, terminating.
func (w world) counts() string {
	s := w.set().Status
	return fmt.Sprint(s.Replicas, s.FullyLabeledReplicas, s.ReadyReplicas, s.AvailableReplicas, *s.TerminatingReplicas)
}

func (w world) wantCounts(want string) {
	w.Helper()
	if got := w.counts(); got != want {
		w.Errorf("replicas, labelled, ready, available, terminating are %s, want %s", got, want)
	}
}

func (w world) events() (all []string) {
	events, err := client.List[*corev1.Event](w.Context(), w, client.Query{Namespace: "default"})
	if err != nil {
		w.Fatal(err)
	}
	for _, e := range events {
		all = append(all, e.Type+" "+e.Reason+" "+e.Message)
	}
	return all
}

func TestASetGetsItsPods(t *testing.T) {
	run(t, func(w world) {
		w.Put(web(3))
		synctest.Wait()
		if got := w.pods(); len(got) != 3 {
			w.Fatalf("%d pods, want 3", len(got))
		}
		w.wantCounts("3 3 0 0 0")
		for _, p := range w.pods() {
			ref := metav1.GetControllerOf(p)
			if ref == nil || ref.UID != "web-uid" || ref.Kind != "ReplicaSet" || ref.APIVersion != "apps/v1" || !*ref.BlockOwnerDeletion {
				w.Errorf("%s is controlled by %+v", p.Name, ref)
			}
			if !strings.HasPrefix(p.Name, "web-") || p.Labels["app"] != "web" {
				w.Errorf("pod %s has labels %v", p.Name, p.Labels)
			}
			w.ready(p)
		}
		w.wantCounts("3 3 3 3 0")
		if g := w.set().Status.ObservedGeneration; g != 1 {
			w.Errorf("observed generation %d, want 1", g)
		}
		if events := w.events(); len(events) != 3 || !strings.HasPrefix(events[0], "Normal SuccessfulCreate Created pod: web-") {
			w.Errorf("events %q", events)
		}
	})
}

func TestALostPodIsReplacedAndASurplusStopped(t *testing.T) {
	run(t, func(w world) {
		w.Put(web(2))
		synctest.Wait()
		for _, p := range w.pods() {
			w.ready(p)
		}
		lost := w.pods()[0]
		if !w.Drop(client.KindOf[*corev1.Pod](w), lost.Namespace, lost.Name) {
			w.Fatal("no such pod")
		}
		synctest.Wait()
		if got := w.pods(); len(got) != 2 {
			w.Fatalf("%d pods, want 2", len(got))
		}
		w.wantCounts("2 2 1 1 0")
		w.scale(1)
		got := w.pods()
		if len(got) != 1 || got[0].Spec.NodeName == "" {
			w.Fatalf("left are %d pods, %+v; want the one that serves", len(got), got)
		}
		w.wantCounts("1 1 1 1 0")
	})
}

func TestALeavingPodIsReplacedAtOnce(t *testing.T) {
	run(t, func(w world) {
		w.Put(web(1))
		synctest.Wait()
		controllertest.Change(w, w.pods()[0], func(p *corev1.Pod) {
			now, grace := metav1.Now(), int64(30)
			p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &now, &grace
		})
		if got := w.pods(); len(got) != 2 {
			w.Fatalf("%d pods, want one leaving and one new", len(got))
		}
		w.wantCounts("1 1 0 0 1")
	})
}

func TestOrphansAreTakenAndStrangersLetGo(t *testing.T) {
	orphan := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "orphan", Labels: map[string]string{"app": "web"}},
		Spec: web(1).Spec.Template.Spec}
	run(t, func(w world) {
		w.Put(web(1))
		synctest.Wait()
		got := w.pods()
		if len(got) != 1 || metav1.GetControllerOf(got[0]) == nil {
			w.Fatalf("pods %+v, want the orphan, adopted", got)
		}
		controllertest.Change(w, got[0], func(p *corev1.Pod) { p.Labels = map[string]string{"app": "debug"} })
		if got = w.pods(); len(got) != 2 {
			w.Fatalf("%d pods, want the released one and a new one", len(got))
		}
		for _, p := range got {
			if owned := metav1.GetControllerOf(p) != nil; owned == (p.Name == "orphan") {
				w.Errorf("%s: controlled %v", p.Name, owned)
			}
		}
		// One that comes back is one too many.
		for _, p := range got {
			if p.Name == "orphan" {
				controllertest.Change(w, p, func(p *corev1.Pod) { p.Labels = map[string]string{"app": "web"} })
			}
		}
		if got = w.pods(); len(got) != 1 {
			w.Errorf("%d pods, want 1", len(got))
		}
	}, orphan)
}

func TestAPodIsAvailableAfterMinReadySeconds(t *testing.T) {
	run(t, func(w world) {
		rs := web(1)
		rs.Spec.MinReadySeconds = 10
		w.Put(rs)
		synctest.Wait()
		w.ready(w.pods()[0])
		w.wantCounts("1 1 1 0 0")
		time.Sleep(9 * time.Second)
		synctest.Wait()
		w.wantCounts("1 1 1 0 0")
		time.Sleep(time.Second + time.Millisecond)
		synctest.Wait()
		w.wantCounts("1 1 1 1 0")
	})
}

func TestWhatForbidsPodsIsSaidOnceAndTriedAgain(t *testing.T) {
	run(t, func(w world) {
		var full atomic.Bool
		var tries atomic.Int32
		full.Store(true)
		w.Refuse(func(a clienttest.Action) error {
			if a.Verb != "create" || a.Kind.Plural != "pods" {
				return nil
			}
			tries.Add(1)
			if full.Load() {
				return apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "", errors.New("exceeded quota"))
			}
			return nil
		})
		w.Put(web(100))
		synctest.Wait()
		if n := tries.Load(); n != 1 {
			w.Errorf("%d tries at once, want 1: they would all fail alike", n)
		}
		c := w.set().Status.Conditions
		if len(c) != 1 || c[0].Type != appsv1.ReplicaSetReplicaFailure || c[0].Reason != "FailedCreate" || !strings.Contains(c[0].Message, "exceeded quota") {
			w.Errorf("conditions %+v", c)
		}
		full.Store(false)
		time.Sleep(time.Second)
		synctest.Wait()
		w.wantCounts("100 100 0 0 0")
		if c := w.set().Status.Conditions; len(c) != 0 {
			w.Errorf("conditions %+v, want none after all", c)
		}
	})
}

func TestNothingIsWrittenWhenAllIsWell(t *testing.T) {
	run(t, func(w world) {
		w.Put(web(3))
		synctest.Wait()
		for _, p := range w.pods() {
			w.ready(p)
		}
		w.Forget()
		controllertest.Change(w, w.pods()[0], func(p *corev1.Pod) { p.Annotations = map[string]string{"a": "b"} })
		w.Put(w.set().DeepCopy())
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if a := w.Actions(); len(a) != 0 {
			w.Errorf("wrote %v", a)
		}
	})
}

func TestAStatusThatSomebodyElseWroteIsMended(t *testing.T) {
	run(t, func(w world) {
		w.Put(web(2))
		synctest.Wait()
		rs := w.set().DeepCopy()
		rs.Status.Replicas = 7
		w.Put(rs)
		synctest.Wait()
		w.wantCounts("2 2 0 0 0")
	})
}
