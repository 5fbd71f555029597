package statefulset

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
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/controller/controllertest"
	"sampan/cluster/controller/history"
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

// wantPods compares the pods: name and image, and what they are about.
func (w world) wantPods(want string) {
	w.Helper()
	var some []string
	for _, p := range controllertest.All[*corev1.Pod](w) {
		text := p.Name + "=" + p.Spec.Containers[0].Image
		if leaving(p) {
			text += " leaving"
		}
		some = append(some, text)
	}
	if got := strings.Join(some, ", "); got != want {
		w.Errorf("pods are %q, want %q", got, want)
	}
}

func (w world) set() *appsv1.StatefulSet { return controllertest.All[*appsv1.StatefulSet](w)[0] }

func (w world) wantCounts(want string) {
	w.Helper()
	s := w.set().Status
	if got := fmt.Sprint(s.Replicas, s.ReadyReplicas, s.AvailableReplicas, s.CurrentReplicas, s.UpdatedReplicas); got != want {
		w.Errorf("replicas, ready, available, current, updated are %s, want %s", got, want)
	}
}

// change changes the set as a user does.
func (w world) change(how func(s *appsv1.StatefulSet)) {
	w.Helper()
	controllertest.Edit(w, w.set(), how)
}

func image(name string) func(*appsv1.StatefulSet) {
	return func(s *appsv1.StatefulSet) { s.Spec.Template.Spec.Containers[0].Image = name }
}

func scale(n int32) func(*appsv1.StatefulSet) {
	return func(s *appsv1.StatefulSet) { s.Spec.Replicas = &n }
}

// start makes a pod run, on a node, and be ready.
func (w world) start(name string) {
	w.Helper()
	controllertest.Change(w, controllertest.Get[*corev1.Pod](w, "default", name), func(p *corev1.Pod) { controllertest.Ready(p, "node-1") })
}

// settle starts pods, and lets go of those that leave, until nothing changes
// any more. It returns what was done, in order.
func (w world) settle() string {
	w.Helper()
	synctest.Wait()
	var done []string
	for range 60 {
		changed := false
		for _, p := range controllertest.All[*corev1.Pod](w) {
			switch {
			case leaving(p):
				done = append(done, "-"+p.Name)
				w.Drop(client.KindOf[*corev1.Pod](w), p.Namespace, p.Name)
				synctest.Wait()
			case p.Status.Phase == corev1.PodPending:
				done = append(done, "+"+p.Name)
				w.start(p.Name)
			default:
				continue
			}
			changed = true
			break
		}
		if !changed {
			return strings.Join(done, " ")
		}
	}
	w.Fatal("does not come to rest")
	return ""
}

func (w world) events() (some []string) {
	for _, e := range controllertest.All[*corev1.Event](w) {
		some = append(some, e.Type+" "+e.Reason+" "+e.Message)
	}
	return some
}

// with is a set with claims that pass validation.
func with(n int32, words string) *appsv1.StatefulSet {
	s := set(n, words)
	for i := range s.Spec.VolumeClaimTemplates {
		s.Spec.VolumeClaimTemplates[i].Spec = corev1.PersistentVolumeClaimSpec{AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}}}
	}
	return s
}

func TestPodsComeInOrderAndGoInReverse(t *testing.T) {
	run(t, func(w world) {
		w.Put(with(3, ""))
		synctest.Wait()
		w.wantPods("db-0=db:1")
		w.wantCounts("1 0 0 1 1")
		if done := w.settle(); done != "+db-0 +db-1 +db-2" {
			w.Errorf("started %s", done)
		}
		w.wantCounts("3 3 3 3 3")
		s := w.set().Status
		revision := controllertest.All[*appsv1.ControllerRevision](w)[0]
		if s.CurrentRevision != revision.Name || s.UpdateRevision != revision.Name || s.ObservedGeneration != 1 || *s.CollisionCount != 0 ||
			!strings.HasPrefix(revision.Name, "db-") || revision.Labels["controller.kubernetes.io/hash"] != strings.TrimPrefix(revision.Name, "db-") || revision.Labels["app"] != "db" {
			w.Errorf("status %+v, revision %+v", s, revision.ObjectMeta)
		}
		p := controllertest.All[*corev1.Pod](w)[1]
		if ref := metav1.GetControllerOf(p); ref == nil || ref.Kind != "StatefulSet" || ref.UID != "db-uid" || p.Spec.Hostname != "db-1" || p.Labels["controller-revision-hash"] != revision.Name {
			w.Errorf("made %+v", p)
		}
		w.change(scale(0))
		if done := w.settle(); done != "-db-2 -db-1 -db-0" {
			w.Errorf("stopped %s", done)
		}
		w.wantCounts("0 0 0 0 0")
		if got := w.events(); !slices.Contains(got, "Normal SuccessfulCreate Create Pod db-0 in StatefulSet db successful") ||
			!slices.Contains(got, "Normal SuccessfulDelete Delete Pod db-2 in StatefulSet db successful") {
			w.Errorf("events %q", got)
		}
	})
}

func TestAnUpdateAndTheWayBack(t *testing.T) {
	run(t, func(w world) {
		w.Put(with(3, ""))
		w.settle()
		first := w.set().Status.CurrentRevision
		w.change(image("db:2"))
		w.wantPods("db-0=db:1, db-1=db:1, db-2=db:1 leaving")
		if s := w.set().Status; s.CurrentRevision != first || s.UpdateRevision == first {
			w.Errorf("during the update: %+v", s)
		}
		if done := w.settle(); done != "-db-2 +db-2 -db-1 +db-1 -db-0 +db-0" {
			w.Errorf("updated %s", done)
		}
		w.wantPods("db-0=db:2, db-1=db:2, db-2=db:2")
		controllertest.WantRevisions(w, "1=db:1 2=db:2")
		w.change(image("db:1"))
		w.settle()
		w.wantPods("db-0=db:1, db-1=db:1, db-2=db:1")
		controllertest.WantRevisions(w, "2=db:2 3=db:1") // the same revision, as the latest
		if s := w.set().Status; s.CurrentRevision != first || s.UpdateRevision != first {
			w.Errorf("after the way back: %+v", s)
		}
	})
}

func TestAPodBelowThePartitionIsMadeOfTheOldTemplate(t *testing.T) {
	run(t, func(w world) {
		w.Put(with(3, "partition=2"))
		w.settle()
		w.change(image("db:2"))
		w.settle()
		w.wantPods("db-0=db:1, db-1=db:1, db-2=db:2")
		w.wantCounts("3 3 3 2 1")
		for _, name := range []string{"db-0", "db-2"} {
			w.Drop(client.KindOf[*corev1.Pod](w), "default", name)
		}
		w.settle()
		w.wantPods("db-0=db:1, db-1=db:1, db-2=db:2")
		w.change(func(s *appsv1.StatefulSet) { s.Spec.UpdateStrategy.RollingUpdate.Partition = new(int32(0)) })
		w.settle()
		w.wantPods("db-0=db:2, db-1=db:2, db-2=db:2")
	})
}

func TestAFailedPodIsMadeAnew(t *testing.T) {
	run(t, func(w world) {
		w.Put(with(1, ""))
		w.settle()
		p := controllertest.All[*corev1.Pod](w)[0].DeepCopy()
		before := p.UID
		p.Status.Phase = corev1.PodFailed
		w.Put(p)
		w.settle()
		if got := controllertest.All[*corev1.Pod](w); len(got) != 1 || got[0].UID == before || got[0].Name != "db-0" {
			w.Errorf("%d pods, the first %s", len(got), got[0].UID)
		}
	})
}

func TestOnlyPodsOfItsNameAreTaken(t *testing.T) {
	labels := map[string]string{"app": "db"}
	stranger := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "other-0", Labels: labels}, Spec: set(1, "").Spec.Template.Spec}
	orphan := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db-0", Labels: labels}, Spec: set(1, "").Spec.Template.Spec}
	run(t, func(w world) {
		w.Put(with(1, ""))
		w.settle()
		for _, p := range controllertest.All[*corev1.Pod](w) {
			if mine := metav1.GetControllerOf(p) != nil; mine != (p.Name == "db-0") {
				w.Errorf("%s: taken %v", p.Name, mine)
			}
		}
		p := controllertest.All[*corev1.Pod](w)[0].DeepCopy()
		p.Labels["app"] = "debug"
		w.Put(p)
		synctest.Wait()
		if p = controllertest.All[*corev1.Pod](w)[0]; metav1.GetControllerOf(p) != nil {
			w.Errorf("%s is still controlled although its labels say otherwise", p.Name)
		}
	}, stranger, orphan)
}

func TestClaimsAreMadeWithPodsAndStay(t *testing.T) {
	run(t, func(w world) {
		w.Put(with(2, "claims"))
		w.settle()
		var names []string
		for _, c := range controllertest.All[*corev1.PersistentVolumeClaim](w) {
			names = append(names, c.Name)
			if c.Labels["app"] != "db" || len(c.OwnerReferences) != 0 {
				w.Errorf("claim %+v", c.ObjectMeta)
			}
		}
		if strings.Join(names, " ") != "data-db-0 data-db-1" {
			w.Errorf("claims %v", names)
		}
		w.change(scale(0))
		w.settle()
		if n := len(controllertest.All[*corev1.PersistentVolumeClaim](w)); n != 2 {
			w.Errorf("%d claims are left, want 2", n)
		}
		if got := w.events(); !slices.Contains(got, "Normal SuccessfulCreate Create Claim data-db-0 Pod db-0 in StatefulSet db success") {
			w.Errorf("events %q", got)
		}
	})
}

func TestClaimsGoWithWhoOwnsThem(t *testing.T) {
	owner := func(w world, name string) string {
		c, err := client.Get[*corev1.PersistentVolumeClaim](w.Context(), w, "default", name)
		if err != nil {
			w.Fatal(err)
		}
		if ref := metav1.GetControllerOf(c); ref != nil {
			return ref.Kind + "/" + ref.Name
		}
		return ""
	}
	run(t, func(w world) {
		w.Put(with(2, "claims scaled deleted"))
		w.settle()
		if got := owner(w, "data-db-1"); got != "StatefulSet/db" {
			w.Errorf("the claim belongs to %q", got)
		}
		w.change(scale(1))
		if got := owner(w, "data-db-1"); got != "Pod/db-1" {
			w.Errorf("the claim of a pod that is one too many belongs to %q", got)
		}
		// The pod goes, its claim is on its way; a new pod waits for that.
		w.settle()
		w.change(scale(2))
		if n := len(controllertest.All[*corev1.Pod](w)); n != 1 {
			w.Errorf("%d pods, want 1: the claim of the second is still another's", n)
		}
		w.Drop(client.KindOf[*corev1.PersistentVolumeClaim](w), "default", "data-db-1")
		w.settle()
		if got := owner(w, "data-db-1"); got != "StatefulSet/db" || len(controllertest.All[*corev1.Pod](w)) != 2 {
			w.Errorf("the new claim belongs to %q", got)
		}
	})
}

func TestWhatForbidsAPodIsSaidAndTriedAgain(t *testing.T) {
	run(t, func(w world) {
		w.RefusePods()
		w.Put(with(1, ""))
		synctest.Wait()
		if got := w.events(); len(got) == 0 || !strings.HasPrefix(got[0], "Warning FailedCreate Create Pod db-0 in StatefulSet db failed error: ") {
			w.Errorf("events %q", got)
		}
		if w.set().Status.ObservedGeneration != 1 {
			w.Error("there is no status because there is no pod")
		}
		w.Refuse(nil)
		time.Sleep(time.Minute)
		w.settle()
		w.wantCounts("1 1 1 1 1")
	})
}

func TestOldRevisionsGo(t *testing.T) {
	run(t, func(w world) {
		s := with(1, "")
		s.Spec.RevisionHistoryLimit = new(int32(1))
		w.Put(s)
		w.settle()
		for i := 2; i < 6; i++ {
			w.change(image(fmt.Sprint("db:", i)))
			w.settle()
		}
		controllertest.WantRevisions(w, "4=db:4 5=db:5")
	})
}

func TestARevisionsNameThatIsTakenIsAvoided(t *testing.T) {
	s := with(1, "")
	defaulted := s.DeepCopy()
	apps.StatefulSet().Default(defaulted)
	patch, err := history.Patch(&defaulted.Spec.Template)
	if err != nil {
		t.Fatal(err)
	}
	taken := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db-" + patchHash(patch, 0)}}
	taken.Data.Raw = []byte(`{"spec":{"template":{"spec":{"containers":[{"image":"other"}]}}}}`)
	run(t, func(w world) {
		w.Put(s)
		w.settle()
		if st := w.set().Status; *st.CollisionCount != 1 || st.CurrentRevision != "db-"+patchHash(patch, 1) {
			w.Errorf("status %+v", st)
		}
	}, taken)
}

func TestANewDefaultIsNoNewTemplate(t *testing.T) {
	s := with(1, "")
	old := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "db-old", Labels: map[string]string{"app": "db"},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(s, setKind)}}, Revision: 1}
	old.Data.Raw = []byte(`{"spec":{"template":{"$patch":"replace","metadata":{"labels":{"app":"db"}},"spec":{"containers":[{"image":"db:1","name":"c","terminationMessagePolicy":"File"}]}}}}`)
	run(t, func(w world) {
		w.Put(s)
		w.settle()
		if r := controllertest.All[*appsv1.ControllerRevision](w); len(r) != 1 || w.set().Status.UpdateRevision != "db-old" {
			w.Errorf("%d revisions, the update is %s", len(r), w.set().Status.UpdateRevision)
		}
	}, old)
}

func TestAPodIsAvailableAfterMinReadySeconds(t *testing.T) {
	run(t, func(w world) {
		w.Put(with(2, "minReady=10"))
		w.settle()
		w.wantCounts("1 1 0 1 1")
		time.Sleep(10*time.Second + time.Millisecond)
		w.settle()
		w.wantCounts("2 2 1 2 2")
	})
}

func TestNothingIsWrittenWhenAllIsWell(t *testing.T) {
	run(t, func(w world) {
		w.Put(with(2, "claims deleted"))
		w.settle()
		w.Forget()
		w.Put(w.set().DeepCopy())
		p := controllertest.All[*corev1.Pod](w)[0].DeepCopy()
		p.Annotations = map[string]string{"a": "b"}
		w.Put(p)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if a := w.Actions(); len(a) != 0 {
			w.Errorf("wrote %v", a)
		}
	})
}

func TestAStatusThatSomebodyElseWroteIsMended(t *testing.T) {
	run(t, func(w world) {
		w.Put(with(1, ""))
		w.settle()
		s := w.set().DeepCopy()
		s.Status.ReadyReplicas, s.Status.Conditions = 0, []appsv1.StatefulSetCondition{{Type: "theirs", Status: "True"}}
		w.Put(s)
		synctest.Wait()
		w.wantCounts("1 1 1 1 1")
		if len(w.set().Status.Conditions) != 1 {
			w.Error("their condition is gone")
		}
	})
}
