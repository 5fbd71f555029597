package deployment

import (
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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/controller/controllertest"
	"sampan/cluster/controller/pods"
	"sampan/cluster/controller/replicaset"
	"sampan/cluster/kind"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/core"
)

// world is a deployment and a replica set controller at work on a client in
// memory, in a bubble of time. The pods are the test's.
type world struct{ controllertest.World }

func run(t *testing.T, test func(w world), objs ...kind.Object) {
	synctest.Test(t, func(t *testing.T) {
		w := world{controllertest.New(t, kind.NewTable(core.Kinds(), apps.Kinds()), objs...)}
		log := slog.New(slog.DiscardHandler)
		w.Start(New(Config{Client: w, Log: log}), replicaset.New(replicaset.Config{Client: w, Log: log}))
		test(w)
	})
}

func web(n int32, how ...func(*appsv1.Deployment)) *appsv1.Deployment {
	labels := map[string]string{"app": "web"}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", UID: "web-uid", Annotations: map[string]string{"kubernetes.io/change-cause": "first"}},
		Spec: appsv1.DeploymentSpec{Replicas: &n, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "web:1",
					TerminationMessagePolicy: corev1.TerminationMessageReadFile}}}}},
	}
	for _, h := range how {
		h(d)
	}
	return d
}

func rolling(surge, unavailable string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) {
		s, u := intstr.Parse(surge), intstr.Parse(unavailable)
		d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType,
			RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &s, MaxUnavailable: &u}}
	}
}

func recreate(d *appsv1.Deployment) {
	d.Spec.Strategy = appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}
}

func image(name string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = name }
}

func size(n int32) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { d.Spec.Replicas = &n }
}

// change is a user's edit.
func (w world) change(how ...func(*appsv1.Deployment)) {
	w.Helper()
	controllertest.Edit(w, w.deployment(), how...)
}

func (w world) deployment() *appsv1.Deployment {
	w.Helper()
	return controllertest.Get[*appsv1.Deployment](w, "default", "web")
}

// ready makes up to n pods of an image ready.
func (w world) ready(image string, n int) {
	for _, p := range controllertest.All[*corev1.Pod](w) {
		if n == 0 {
			break
		}
		if p.Spec.Containers[0].Image != image || p.DeletionTimestamp != nil || len(p.Status.Conditions) > 0 {
			continue
		}
		p = p.DeepCopy()
		controllertest.Ready(p, "node-1")
		w.Put(p)
		n--
	}
	synctest.Wait()
	for _, p := range controllertest.All[*corev1.Pod](w) { // what is to go, goes
		if p.DeletionTimestamp != nil {
			w.Drop(client.KindOf[*corev1.Pod](w), p.Namespace, p.Name)
		}
	}
	synctest.Wait()
}

// sets are the replica sets that have pods, by image: "web:1=2/3" is two of
// three available.
func (w world) sets() string {
	w.Helper()
	var all []string
	for _, rs := range controllertest.All[*appsv1.ReplicaSet](w) {
		if *rs.Spec.Replicas > 0 || rs.Status.Replicas > 0 {
			all = append(all, fmt.Sprintf("%s=%d/%d", rs.Spec.Template.Spec.Containers[0].Image, rs.Status.AvailableReplicas, *rs.Spec.Replicas))
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func (w world) wantSets(want string) {
	w.Helper()
	if got := w.sets(); got != want {
		w.Errorf("sets %q, want %q", got, want)
	}
}

func (w world) wantCondition(t appsv1.DeploymentConditionType, want string) {
	w.Helper()
	got := "none"
	if c := condition(w.deployment().Status.Conditions, t); c != nil {
		got = fmt.Sprintf("%s %s", c.Status, c.Reason)
	}
	if got != want {
		w.Errorf("%s is %s, want %s", t, got, want)
	}
}

func (w world) events() (all []string) {
	for _, e := range controllertest.All[*corev1.Event](w) {
		if e.InvolvedObject.Kind == "Deployment" {
			all = append(all, e.Reason+" "+e.Message)
		}
	}
	return all
}

func TestAFirstRollout(t *testing.T) {
	run(t, func(w world) {
		w.Put(web(3))
		synctest.Wait()
		w.wantSets("web:1=0/3")
		w.wantCondition(appsv1.DeploymentProgressing, "True ReplicaSetUpdated")
		w.wantCondition(appsv1.DeploymentAvailable, "False MinimumReplicasUnavailable")
		w.ready("web:1", 3)
		w.wantSets("web:1=3/3")
		w.wantCondition(appsv1.DeploymentProgressing, "True NewReplicaSetAvailable")
		w.wantCondition(appsv1.DeploymentAvailable, "True MinimumReplicasAvailable")

		d, rs := w.deployment(), controllertest.All[*appsv1.ReplicaSet](w)[0]
		s := d.Status
		if got := fmt.Sprint(s.ObservedGeneration, s.Replicas, s.UpdatedReplicas, s.ReadyReplicas, s.AvailableReplicas, s.UnavailableReplicas, *s.TerminatingReplicas); got != "1 3 3 3 3 0 0" {
			t.Errorf("status %s", got)
		}
		if d.Annotations[revisionAnnotation] != "1" || d.Spec.Template.Labels["pod-template-hash"] != "" {
			t.Errorf("deployment: annotations %v, template labels %v", d.Annotations, d.Spec.Template.Labels)
		}
		hash := rs.Labels["pod-template-hash"]
		if hash == "" || rs.Name != "web-"+hash || rs.Spec.Template.Labels["pod-template-hash"] != hash || rs.Spec.Selector.MatchLabels["pod-template-hash"] != hash {
			t.Errorf("set %s: labels %v, template's %v, selector %v", rs.Name, rs.Labels, rs.Spec.Template.Labels, rs.Spec.Selector)
		}
		for key, want := range map[string]string{revisionAnnotation: "1", desiredAnnotation: "3", maximumAnnotation: "4", "kubernetes.io/change-cause": "first"} {
			if rs.Annotations[key] != want {
				t.Errorf("annotation %s is %q, want %q", key, rs.Annotations[key], want)
			}
		}
		if e := w.events(); len(e) != 1 || e[0] != "ScalingReplicaSet Scaled up replica set "+rs.Name+" from 0 to 3" {
			t.Errorf("events %q", e)
		}
	})
}

func TestARollingUpdateStaysWithinItsBounds(t *testing.T) {
	run(t, func(w world) {
		w.Put(web(3, rolling("1", "1")))
		synctest.Wait()
		w.ready("web:1", 3)
		w.change(image("web:2"))
		w.wantSets("web:1=2/2 web:2=0/2")
		w.wantCondition(appsv1.DeploymentProgressing, "True ReplicaSetUpdated")
		w.ready("web:2", 1)
		w.wantSets("web:1=1/1 web:2=1/3")
		w.ready("web:2", 2)
		w.wantSets("web:2=3/3")
		w.wantCondition(appsv1.DeploymentProgressing, "True NewReplicaSetAvailable")
		if r := w.deployment().Annotations[revisionAnnotation]; r != "2" {
			t.Errorf("revision %s, want 2", r)
		}
	})
}

func TestAnUpdateThatNeverGetsReadyKeepsTheOldPods(t *testing.T) {
	run(t, func(w world) {
		w.Put(web(4, rolling("25%", "0")))
		synctest.Wait()
		w.ready("web:1", 4)
		w.change(image("web:broken"))
		w.wantSets("web:1=4/4 web:broken=0/1")
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		w.wantSets("web:1=4/4 web:broken=0/1")
		w.wantCondition(appsv1.DeploymentProgressing, "False ProgressDeadlineExceeded")
		w.wantCondition(appsv1.DeploymentAvailable, "True MinimumReplicasAvailable")

		// What `kubectl rollout undo` does.
		w.change(image("web:1"))
		w.ready("web:1", 4)
		w.wantSets("web:1=4/4")
		w.wantCondition(appsv1.DeploymentProgressing, "True NewReplicaSetAvailable")
		if r := w.deployment().Annotations[revisionAnnotation]; r != "3" {
			t.Errorf("revision %s, want 3", r)
		}
		for _, rs := range controllertest.All[*appsv1.ReplicaSet](w) {
			if rs.Spec.Template.Spec.Containers[0].Image == "web:1" && (rs.Annotations[revisionAnnotation] != "3" || rs.Annotations[historyAnnotation] != "1") {
				t.Errorf("annotations %v, want revision 3, before that 1", rs.Annotations)
			}
		}
	})
}

func TestRecreateWaitsForTheLastOldPod(t *testing.T) {
	run(t, func(w world) {
		w.Put(web(2, recreate))
		synctest.Wait()
		w.ready("web:1", 2)
		// The pods take their time to leave.
		for _, p := range controllertest.All[*corev1.Pod](w) {
			p = p.DeepCopy()
			p.Finalizers = []string{"example.org/slow"}
			w.Put(p)
		}
		w.change(image("web:2"))
		w.wantSets("")
		for _, p := range controllertest.All[*corev1.Pod](w) {
			if p.DeletionTimestamp == nil {
				t.Errorf("pod %s of %s is not leaving", p.Name, p.Spec.Containers[0].Image)
			}
			w.wantSets("")
			w.Drop(client.KindOf[*corev1.Pod](w), p.Namespace, p.Name)
			synctest.Wait()
		}
		w.wantSets("web:2=0/2")
		w.ready("web:2", 2)
		w.wantCondition(appsv1.DeploymentProgressing, "True NewReplicaSetAvailable")
	})
}

func TestAPauseStopsTemplatesAndNotSizes(t *testing.T) {
	run(t, func(w world) {
		w.Put(web(2))
		synctest.Wait()
		w.ready("web:1", 2)
		w.change(func(d *appsv1.Deployment) { d.Spec.Paused = true }, image("web:2"))
		w.wantSets("web:1=2/2")
		w.wantCondition(appsv1.DeploymentProgressing, "Unknown DeploymentPaused")
		w.change(size(3))
		w.wantSets("web:1=2/3")
		w.ready("web:1", 1)
		w.change(func(d *appsv1.Deployment) { d.Spec.Paused = false })
		w.ready("web:2", 5)
		w.ready("web:2", 5)
		w.ready("web:2", 5)
		w.wantSets("web:2=3/3")
		w.wantCondition(appsv1.DeploymentProgressing, "True NewReplicaSetAvailable")
	})
}

func TestASizeIsSharedWhileRolling(t *testing.T) {
	run(t, func(w world) {
		w.Put(web(10, rolling("3", "2")))
		synctest.Wait()
		w.ready("web:1", 10)
		w.change(image("web:2"))
		w.wantSets("web:1=8/8 web:2=0/5")
		w.change(size(30)) // the example of upstream's documentation, times three
		w.wantSets("web:1=8/20 web:2=0/13")
	})
}

func TestHistoryIsTrimmed(t *testing.T) {
	run(t, func(w world) {
		limit := int32(2)
		w.Put(web(1, func(d *appsv1.Deployment) { d.Spec.RevisionHistoryLimit = &limit }))
		synctest.Wait()
		for i := 1; i <= 6; i++ {
			if i > 1 {
				w.change(image(fmt.Sprintf("web:%d", i)))
			}
			w.ready(fmt.Sprintf("web:%d", i), 1)
		}
		var left []string
		for _, rs := range controllertest.All[*appsv1.ReplicaSet](w) {
			left = append(left, rs.Annotations[revisionAnnotation])
		}
		slices.Sort(left)
		if !slices.Equal(left, []string{"4", "5", "6"}) {
			t.Errorf("revisions %v are left, want 4, 5 and 6", left)
		}
	})
}

func TestANameThatIsTakenIsAvoided(t *testing.T) {
	d := web(1)
	d = clienttest.New(nil, kind.NewTable(apps.Kinds()), d).Put(d).(*appsv1.Deployment) // with defaults
	taken := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-" + pods.TemplateHash(&d.Spec.Template, nil)},
		Spec: appsv1.ReplicaSetSpec{Replicas: new(int32), Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "other"}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "other"}}, Spec: d.Spec.Template.Spec}}}
	run(t, func(w world) {
		w.Put(web(1))
		time.Sleep(time.Second)
		synctest.Wait()
		w.wantSets("web:1=0/1")
		if n := w.deployment().Status.CollisionCount; n == nil || *n != 1 {
			t.Errorf("collision count %v, want 1", n)
		}
	}, taken)
}

func TestAnOrphanedSetIsTaken(t *testing.T) {
	run(t, func(w world) {
		w.Put(web(2))
		synctest.Wait()
		w.ready("web:1", 2)
		w.Drop(client.KindOf[*appsv1.Deployment](w), "default", "web")
		rs := controllertest.All[*appsv1.ReplicaSet](w)[0].DeepCopy()
		rs.OwnerReferences = nil
		w.Put(rs)
		d := web(2)
		d.UID = "another"
		w.Put(d)
		synctest.Wait()
		w.wantSets("web:1=2/2")
		all := controllertest.All[*appsv1.ReplicaSet](w)
		if len(all) != 1 || metav1.GetControllerOf(all[0]) == nil || metav1.GetControllerOf(all[0]).UID != "another" {
			t.Errorf("%d sets, the first is controlled by %+v", len(all), all[0].OwnerReferences)
		}
	})
}

func TestWhatForbidsASetIsSaid(t *testing.T) {
	run(t, func(w world) {
		w.Refuse(func(a clienttest.Action) error {
			if a.Verb == "create" && a.Kind.Plural == "replicasets" {
				return apierrors.NewForbidden(schema.GroupResource{Group: "apps", Resource: "replicasets"}, "", errors.New("exceeded quota"))
			}
			return nil
		})
		w.Put(web(1))
		synctest.Wait()
		w.wantCondition(appsv1.DeploymentProgressing, "False ReplicaSetCreateError")
		w.Refuse(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		w.wantSets("web:1=0/1")
	})
}

func TestWhatForbidsPodsIsShown(t *testing.T) {
	run(t, func(w world) {
		w.RefusePods()
		w.Put(web(1))
		synctest.Wait()
		w.wantCondition(appsv1.DeploymentReplicaFailure, "True FailedCreate")
		w.Refuse(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		w.wantCondition(appsv1.DeploymentReplicaFailure, "none")
	})
}

func TestNothingIsWrittenWhenAllIsWell(t *testing.T) {
	run(t, func(w world) {
		w.Put(web(3))
		synctest.Wait()
		w.ready("web:1", 3)
		w.Forget()
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if a := w.Actions(); len(a) != 0 {
			t.Errorf("wrote %v", a)
		}
	})
}
