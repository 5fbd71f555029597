package daemonset

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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/controller/controllertest"
	"sampan/cluster/controller/pods"
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

// pods are the daemon's pods by node, with the image and the words of pod.
func (w world) pods() string {
	w.Helper()
	var some []string
	for _, p := range controllertest.All[*corev1.Pod](w) {
		text := target(p) + ":" + p.Spec.Containers[0].Image
		if p.DeletionTimestamp != nil {
			text += " leaving"
		}
		some = append(some, text)
	}
	slices.Sort(some)
	return strings.Join(some, ", ")
}

func (w world) wantPods(want string) {
	w.Helper()
	if got := w.pods(); got != want {
		w.Errorf("pods are %q, want %q", got, want)
	}
}

func (w world) set() *appsv1.DaemonSet { return controllertest.All[*appsv1.DaemonSet](w)[0] }

// counts are desired, current, ready, updated, available and misscheduled.
func (w world) wantCounts(want string) {
	w.Helper()
	s := w.set().Status
	got := fmt.Sprint(s.DesiredNumberScheduled, s.CurrentNumberScheduled, s.NumberReady, s.UpdatedNumberScheduled, s.NumberAvailable, s.NumberMisscheduled)
	if got != want {
		w.Errorf("desired, current, ready, updated, available, misscheduled are %s, want %s", got, want)
	}
}

// change changes the daemon set as a user does.
func (w world) change(how func(ds *appsv1.DaemonSet)) {
	w.Helper()
	controllertest.Edit(w, w.set(), how)
}

func image(name string) func(*appsv1.DaemonSet) {
	return func(ds *appsv1.DaemonSet) { ds.Spec.Template.Spec.Containers[0].Image = name }
}

// settle binds pods and makes them ready, and lets go of those that leave,
// until nothing changes any more.
func (w world) settle() {
	w.Helper()
	synctest.Wait()
	for range 50 {
		changed := false
		for _, p := range controllertest.All[*corev1.Pod](w) {
			switch {
			case p.DeletionTimestamp != nil:
				w.Drop(client.KindOf[*corev1.Pod](w), p.Namespace, p.Name)
			case !pods.Ready(p) && !pods.Over(p):
				p = p.DeepCopy()
				controllertest.Ready(p, target(p))
				w.Put(p)
			default:
				continue
			}
			changed = true
			synctest.Wait()
		}
		if !changed {
			return
		}
	}
	w.Fatal("does not come to rest")
}

func TestEveryNodeGetsItsPod(t *testing.T) {
	run(t, func(w world) {
		w.Put(web())
		synctest.Wait()
		w.wantPods("a:web:1, b:web:1")
		w.settle()
		w.wantCounts("2 2 2 2 2 0")
		revision := controllertest.All[*appsv1.ControllerRevision](w)[0]
		for _, p := range controllertest.All[*corev1.Pod](w) {
			ref := metav1.GetControllerOf(p)
			if ref == nil || ref.Kind != "DaemonSet" || ref.UID != "web-uid" || !strings.HasPrefix(p.Name, "web-") {
				w.Errorf("%s is controlled by %+v", p.Name, ref)
			}
			if hash := p.Labels["controller-revision-hash"]; "web-"+hash != revision.Name || revision.Labels["controller-revision-hash"] != hash || len(p.Spec.Tolerations) != 6 {
				w.Errorf("%s has hash %q, its revision is %s, it tolerates %v", p.Name, hash, revision.Name, p.Spec.Tolerations)
			}
		}
		w.Put(node("c"))
		w.Put(node("d !NoSchedule"))
		synctest.Wait()
		w.wantPods("a:web:1, b:web:1, c:web:1")
		w.Put(node("a !NoExecute"))
		synctest.Wait()
		w.settle()
		w.wantPods("b:web:1, c:web:1")
		w.wantCounts("2 2 2 2 2 0")
	}, node("a"), node("b"))
}

func TestARevisionIsToTheByteWhatClientsCompare(t *testing.T) {
	run(t, func(w world) {
		w.Put(web())
		synctest.Wait()
		const want = `{"spec":{"template":{"$patch":"replace","metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"image":"web:1","imagePullPolicy":"IfNotPresent","name":"c",` +
			`"resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Always",` +
			`"schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}}}`
		if got := string(controllertest.All[*appsv1.ControllerRevision](w)[0].Data.Raw); got != want {
			w.Errorf("keeps\n%s\nwant\n%s", got, want)
		}
	})
}

func TestARollOutAndTheWayBack(t *testing.T) {
	run(t, func(w world) {
		w.Put(web())
		w.settle()
		w.change(image("web:2"))
		controllertest.WantRevisions(w, "1=web:1 2=web:2")
		w.wantPods("a:web:1 leaving, b:web:1")
		w.settle()
		w.wantPods("a:web:2, b:web:2")
		w.wantCounts("2 2 2 2 2 0")
		w.change(image("web:1"))
		w.settle()
		w.wantPods("a:web:1, b:web:1")
		controllertest.WantRevisions(w, "2=web:2 3=web:1") // the same revision, as the latest
	}, node("a"), node("b"))
}

func TestPodsOfTheRightTemplateAreLeftAloneOnTheWayBack(t *testing.T) {
	run(t, func(w world) {
		w.Put(web())
		w.settle()
		before := map[string]bool{}
		for _, p := range controllertest.All[*corev1.Pod](w) {
			before[p.Name] = true
		}
		w.change(image("does-not-exist"))
		w.change(image("web:1"))
		w.settle()
		w.wantPods("a:web:1, b:web:1, c:web:1")
		same := 0
		for _, p := range controllertest.All[*corev1.Pod](w) {
			if before[p.Name] {
				same++
			}
		}
		if same != 2 {
			w.Errorf("%d of 3 pods are those from before, want 2", same)
		}
	}, node("a"), node("b"), node("c"))
}

func TestOnlyTheLastRevisionsAreKept(t *testing.T) {
	run(t, func(w world) {
		ds := web()
		limit := int32(1)
		ds.Spec.RevisionHistoryLimit = &limit
		w.Put(ds)
		w.settle()
		for i := 2; i < 6; i++ {
			w.change(image(fmt.Sprint("web:", i)))
			w.settle()
		}
		controllertest.WantRevisions(w, "4=web:4 5=web:5")
	}, node("a"))
}

func TestALostRevisionIsWrittenAgain(t *testing.T) {
	run(t, func(w world) {
		w.Put(web())
		w.settle()
		r := controllertest.All[*appsv1.ControllerRevision](w)[0]
		w.Drop(client.KindOf[*appsv1.ControllerRevision](w), r.Namespace, r.Name)
		synctest.Wait()
		controllertest.WantRevisions(w, "1=web:1")
		w.wantPods("a:web:1")
	}, node("a"))
}

func TestARevisionsNameThatIsTakenIsAvoided(t *testing.T) {
	ds := web()
	k := apps.DaemonSet()
	defaulted := ds.DeepCopy()
	k.Default(defaulted)
	taken := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-" + pods.TemplateHash(&defaulted.Spec.Template, nil)}}
	taken.Data.Raw = []byte(`{"spec":{"template":{"spec":{"containers":[{"image":"other"}]}}}}`)
	run(t, func(w world) {
		w.Put(ds)
		time.Sleep(time.Second)
		synctest.Wait()
		w.wantPods("a:web:1")
		if n := w.set().Status.CollisionCount; n == nil || *n != 1 {
			w.Errorf("collisions %v, want 1", n)
		}
	}, node("a"), taken)
}

func TestAFailedPodIsReplacedWithPatience(t *testing.T) {
	run(t, func(w world) {
		w.Put(web())
		w.settle()
		fail := func() string {
			p := controllertest.All[*corev1.Pod](w)[0].DeepCopy()
			p.Status.Phase = corev1.PodFailed
			w.Put(p)
			synctest.Wait()
			return p.Name
		}
		failed := fail()
		w.settle()
		if p := controllertest.All[*corev1.Pod](w)[0]; p.Name == failed {
			w.Fatal("the failed pod is not replaced")
		}
		failed = fail()
		if p := controllertest.All[*corev1.Pod](w)[0]; p.Name != failed || p.DeletionTimestamp != nil {
			w.Error("the second one is replaced without waiting")
		}
		time.Sleep(firstWait + time.Millisecond)
		synctest.Wait()
		w.settle()
		w.wantPods("a:web:1")
		if p := controllertest.All[*corev1.Pod](w)[0]; p.Name == failed {
			w.Error("the second one is not replaced after waiting")
		}
		var told []string
		for _, e := range controllertest.All[*corev1.Event](w) {
			if e.Reason == "FailedDaemonPod" {
				told = append(told, e.Type+" "+e.Message)
			}
		}
		if want := "Warning Found failed daemon pod default/" + failed + " on node a, will try to kill it"; len(told) != 2 || told[1] != want {
			w.Errorf("events %q, want two, the last %q", told, want)
		}
	}, node("a"))
}

func TestPodsAreAvailableAfterMinReadySeconds(t *testing.T) {
	run(t, func(w world) {
		ds := web()
		ds.Spec.MinReadySeconds = 10
		w.Put(ds)
		w.settle()
		w.wantCounts("1 1 1 1 0 0")
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		w.wantCounts("1 1 1 1 1 0")
	}, node("a"))
}

func TestAStatusThatSomebodyElseWroteIsMended(t *testing.T) {
	run(t, func(w world) {
		w.Put(web())
		w.settle()
		ds := w.set().DeepCopy()
		ds.Status.NumberReady, ds.Status.Conditions = 7, []appsv1.DaemonSetCondition{{Type: "theirs", Status: "True"}}
		w.Put(ds)
		synctest.Wait()
		w.wantCounts("1 1 1 1 1 0")
		if c := w.set().Status.Conditions; len(c) != 1 {
			w.Errorf("conditions %v, want theirs", c)
		}
	}, node("a"))
}

func TestNothingIsWrittenWhenAllIsWell(t *testing.T) {
	run(t, func(w world) {
		w.Put(web())
		w.settle()
		w.Forget()
		busy := node("a")
		busy.Annotations = map[string]string{"seen": "now"}
		w.Put(busy)
		w.Put(w.set().DeepCopy())
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if a := w.Actions(); len(a) != 0 {
			w.Errorf("wrote %v", a)
		}
	}, node("a"))
}
