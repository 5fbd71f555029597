package disruption

import (
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/controller/controllertest"
	"sampan/cluster/controller/pods"
	"sampan/cluster/kind"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/batch"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/policy"
)

func run(t *testing.T, test func(t *testing.T, w *clienttest.Fake), objs ...kind.Object) {
	synctest.Test(t, func(t *testing.T) {
		w := controllertest.New(t, kind.NewTable(core.Kinds(), apps.Kinds(), batch.Kinds(), policy.Kinds()), objs...)
		w.Validate = false
		w.Start(New(Config{Client: w, Log: slog.New(slog.DiscardHandler)}))
		test(t, w.Fake)
	})
}

func status(t *testing.T, w client.Reader) policyv1.PodDisruptionBudgetStatus {
	t.Helper()
	b, err := client.Get[*policyv1.PodDisruptionBudget](t.Context(), w, "default", "b")
	if err != nil {
		t.Fatal(err)
	}
	return b.Status
}

func owned(p *corev1.Pod, api, kind, name string) *corev1.Pod {
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: api, Kind: kind, Name: name, UID: "uid-of-rs", Controller: new(true)}}
	return p
}

func TestABudgetFollowsTheScaleOfItsPodsOwner(t *testing.T) {
	labels := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "uid-of-d"}, Spec: appsv1.DeploymentSpec{Replicas: new(int32(3)), Selector: labels}}
	rs := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-1", UID: "uid-of-rs",
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: "web", UID: "uid-of-d", Controller: new(true)}}},
		Spec: appsv1.ReplicaSetSpec{Replicas: new(int32(1)), Selector: labels}}
	run(t, func(t *testing.T, w *clienttest.Fake) {
		if s := status(t, w); s.ExpectedPods != 3 || s.DesiredHealthy != 2 || s.DisruptionsAllowed != 0 {
			t.Errorf("status %+v", s)
		}
		next := d.DeepCopy()
		next.Spec.Replicas = new(int32(2))
		next.Generation++
		w.Put(next)
		synctest.Wait()
		if s := status(t, w); s.ExpectedPods != 2 || s.DisruptionsAllowed != 1 {
			t.Errorf("status %+v", s)
		}
	}, d, rs, budget("", "1"), owned(pod("a", "ready"), "apps/v1", "ReplicaSet", "web-1"), owned(pod("b", "ready"), "apps/v1", "ReplicaSet", "web-1"))
}

func TestAnOwnerWithoutScaleIsSaid(t *testing.T) {
	run(t, func(t *testing.T, w *clienttest.Fake) {
		if s := status(t, w); len(s.Conditions) != 1 || s.Conditions[0].Message != "jobs.batch does not implement the scale subresource" {
			t.Errorf("status %+v", s)
		}
	}, budget("50%", ""), owned(pod("a", "ready"), "batch/v1", "Job", "pi"))
}

func TestAPodThatWasNotDisruptedIsFreed(t *testing.T) {
	run(t, func(t *testing.T, w *clienttest.Fake) {
		p := pod("a", "ready")
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()})
		w.Put(p)
		time.Sleep(3 * time.Minute)
		synctest.Wait()
		got, err := client.Get[*corev1.Pod](t.Context(), w, "default", "a")
		if err != nil || pods.Condition(got, corev1.DisruptionTarget).Status != corev1.ConditionFalse {
			t.Errorf("still marked: %+v %v", got.Status.Conditions, err)
		}
	})
}
