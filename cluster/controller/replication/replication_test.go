package replication

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/controller/controllertest"
	"sampan/cluster/controller/replicaset"
	"sampan/cluster/kind"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/core"
)

// world is a controller at work on a client in memory, in a bubble of time.
type world struct{ controllertest.World }

func run(t *testing.T, test func(w world)) {
	synctest.Test(t, func(t *testing.T) {
		w := world{controllertest.New(t, kind.NewTable(core.Kinds(), apps.Kinds()))}
		w.Start(New(replicaset.Config{Client: w, Log: slog.New(slog.DiscardHandler)}))
		test(w)
	})
}

func web(n int32) *corev1.ReplicationController {
	return &corev1.ReplicationController{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "web-uid"},
		Spec: corev1.ReplicationControllerSpec{Replicas: &n,
			Template: &corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "web"}},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "web:1",
					TerminationMessagePolicy: corev1.TerminationMessageReadFile}}}}},
	}
}

func (w world) pods() []*corev1.Pod { return controllertest.All[*corev1.Pod](w) }

func (w world) rc() *corev1.ReplicationController {
	return controllertest.Get[*corev1.ReplicationController](w, "default", "web")
}

func (w world) scale(n int32) {
	controllertest.Change(w, w.rc(), func(rc *corev1.ReplicationController) { rc.Spec.Replicas = &n; rc.Generation++ })
}

func TestAControllerGetsItsPods(t *testing.T) {
	run(t, func(w world) {
		w.Put(web(2))
		synctest.Wait()
		if got := w.pods(); len(got) != 2 {
			w.Fatalf("%d pods, want 2", len(got))
		}
		for _, p := range w.pods() {
			ref := metav1.GetControllerOf(p)
			if ref == nil || ref.UID != "web-uid" || ref.Kind != "ReplicationController" || ref.APIVersion != "v1" || !*ref.BlockOwnerDeletion {
				w.Errorf("%s is controlled by %+v", p.Name, ref)
			}
			controllertest.Change(w, p, func(p *corev1.Pod) {
				p.Status.Phase = corev1.PodRunning
				p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}}
			})
		}
		s := w.rc().Status
		if s.Replicas != 2 || s.ReadyReplicas != 2 || s.AvailableReplicas != 2 || s.FullyLabeledReplicas != 2 || s.ObservedGeneration != 1 {
			w.Errorf("status %+v", s)
		}
		w.scale(1)
		if got := w.pods(); len(got) != 1 {
			w.Errorf("%d pods, want 1", len(got))
		}
		events, err := client.List[*corev1.Event](w.Context(), w, client.Query{Namespace: "default"})
		if err != nil || len(events) != 3 || events[0].InvolvedObject.Kind != "ReplicationController" || events[0].Source.Component != "replication-controller" {
			w.Errorf("events %+v, %v", events, err)
		}
	})
}

func TestPodsAreTakenAndLetGoByTheirLabels(t *testing.T) {
	run(t, func(w world) {
		w.Put(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "orphan", Labels: map[string]string{"app": "web"}},
			Spec: web(1).Spec.Template.Spec})
		synctest.Wait()
		w.Put(web(1))
		synctest.Wait()
		got := w.pods()
		if len(got) != 1 || metav1.GetControllerOf(got[0]) == nil {
			w.Fatalf("%d pods, want the orphan, adopted", len(got))
		}
		controllertest.Change(w, got[0], func(p *corev1.Pod) { p.Labels = map[string]string{"app": "debug"} })
		if got = w.pods(); len(got) != 2 || got[0].Name != "orphan" || metav1.GetControllerOf(got[0]) != nil {
			w.Errorf("%d pods, want the released one and a new one", len(got))
		}
	})
}

func TestAQuotaIsSaidInAConditionUntilItFits(t *testing.T) {
	run(t, func(w world) {
		w.RefusePods()
		w.Put(web(3))
		synctest.Wait()
		c := w.rc().Status.Conditions
		if len(c) != 1 || c[0].Type != corev1.ReplicationControllerReplicaFailure || c[0].Status != corev1.ConditionTrue ||
			c[0].Reason != "FailedCreate" || !strings.Contains(c[0].Message, "exceeded quota") {
			w.Errorf("conditions %+v", c)
		}
		w.scale(0)
		time.Sleep(time.Second)
		synctest.Wait()
		if c := w.rc().Status.Conditions; len(c) != 0 {
			w.Errorf("conditions %+v, want none when no pod is wanted", c)
		}
	})
}

func TestNothingIsWrittenWhenAllIsWell(t *testing.T) {
	run(t, func(w world) {
		w.Put(web(2))
		synctest.Wait()
		w.Forget()
		w.Put(w.rc().DeepCopy())
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if a := w.Actions(); len(a) != 0 {
			w.Errorf("wrote %v", a)
		}
	})
}
