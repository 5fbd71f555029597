package nodelife

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/controller/controllertest"
	"sampan/cluster/controller/pods"
	"sampan/cluster/kind"
)

// world is the API with the controller running on it.
type world struct{ controllertest.World }

func with(t *testing.T, test func(w world), objs ...kind.Object) {
	synctest.Test(t, func(t *testing.T) {
		w := world{controllertest.New(t, clienttest.Kinds(), objs...)}
		w.Validate = false
		w.Start(New(Config{Client: w, Log: slog.New(slog.DiscardHandler)}))
		test(w)
	})
}

// machine is a node in a state, see node.
func machine(name, words string) *corev1.Node {
	n := node(words)
	n.Name, n.CreationTimestamp = name, metav1.Time{}
	return n
}

// after lets time pass.
func (w world) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// renew writes a lease that lasts some seconds.
func (w world) renew(name string, seconds int32) {
	now := metav1.NowMicro()
	w.Put(&coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: name},
		Spec: coordinationv1.LeaseSpec{LeaseDurationSeconds: &seconds, RenewTime: &now}})
	synctest.Wait()
}

// is checks a node: its readiness and its taints.
func (w world) is(name, want string) {
	w.Helper()
	synctest.Wait()
	n, err := client.Get[*corev1.Node](w.Context(), w, "", name)
	if err != nil {
		w.Fatal(err)
	}
	if got := strings.TrimSpace(string(readiness(n.Status.Conditions)) + " " + shortTaints(n.Spec.Taints)); got != want {
		w.Errorf("%s is %q, want %q", name, got, want)
	}
}

// pod is what there is of one: "none", or whether it is ready, and what its
// DisruptionTarget says.
func (w world) pod(name string) string {
	w.Helper()
	synctest.Wait()
	p, err := client.Get[*corev1.Pod](w.Context(), w, "shop", name)
	if apierrors.IsNotFound(err) {
		return "none"
	}
	if err != nil {
		w.Fatal(err)
	}
	text := "unready"
	if pods.Ready(p) {
		text = "ready"
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.DisruptionTarget {
			text += " " + c.Reason
		}
	}
	if p.DeletionTimestamp != nil {
		text += " leaving"
	}
	return text
}

func (w world) events() string {
	w.Helper()
	synctest.Wait()
	all, err := client.List[*corev1.Event](w.Context(), w, client.Query{})
	if err != nil {
		w.Fatal(err)
	}
	var texts []string
	for _, e := range all {
		texts = append(texts, e.Source.Component+" "+e.Reason+": "+e.Message)
	}
	slices.Sort(texts)
	return strings.Join(texts, "\n")
}

func (w world) podIs(name, want string) {
	w.Helper()
	if got := w.pod(name); got != want {
		w.Errorf("pod %s is %q, want %q", name, got, want)
	}
}

func runs(name, node string, tolerations ...corev1.Toleration) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec: corev1.PodSpec{NodeName: node, Tolerations: tolerations},
		Status: corev1.PodStatus{Phase: corev1.PodRunning,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}}
}

func forSeconds(key string, n int64) corev1.Toleration {
	return corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: &n}
}

func TestASilentNodeLosesItsPodsAfterTheirTime(t *testing.T) {
	with(t, func(w world) {
		keepAlive := func(d time.Duration) {
			for end := time.Now().Add(d); time.Now().Before(end); w.after(10 * time.Second) {
				w.renew("n2", 40)
			}
		}
		keepAlive(40 * time.Second)
		w.is("n1", "True")
		keepAlive(10 * time.Second)
		w.is("n1", "Unknown unreachable:NoExecute unreachable:NoSchedule")
		w.is("n2", "True")
		w.podIs("patient", "unready")
		w.podIs("hasty", "unready DeletionByTaintManager leaving")
		w.podIs("elsewhere", "ready")
		keepAlive(290 * time.Second)
		w.podIs("patient", "unready")
		keepAlive(20 * time.Second)
		w.podIs("patient", "unready DeletionByTaintManager leaving")
		w.is("n2", "True")
		w.podIs("elsewhere", "ready")
		if got := w.events(); !strings.Contains(got, "node-controller NodeNotReady: Node n1 status is now: NodeNotReady") ||
			!strings.Contains(got, "taint-eviction-controller TaintManagerEviction: Marking for deletion Pod shop/patient") ||
			!strings.Contains(got, "node-controller NodeNotReady: Node is not ready") {
			t.Error(got)
		}
	}, machine("n1", "ready"), machine("n2", "ready"), runs("patient", "n1", forSeconds("node.kubernetes.io/unreachable", 300)), runs("hasty", "n1"), runs("elsewhere", "n2"))
}

func TestANodeThatComesBackKeepsItsPods(t *testing.T) {
	with(t, func(w world) {
		w.renew("n2", 10000)
		w.after(100 * time.Second)
		w.is("n1", "Unknown unreachable:NoExecute unreachable:NoSchedule")
		back, err := client.Get[*corev1.Node](w.Context(), w, "", "n1")
		if err != nil {
			t.Fatal(err)
		}
		back = back.DeepCopy()
		back.Status.Conditions[0].Status, back.Status.Conditions[0].LastHeartbeatTime = corev1.ConditionTrue, metav1.Now()
		w.Put(back)
		w.is("n1", "True")
		w.renew("n1", 10000)
		w.after(time.Hour)
		w.podIs("a", "unready") // to be said by the node
		if got := w.events(); !strings.Contains(got, "TaintManagerEviction: Cancelling deletion of Pod shop/a") {
			t.Error(got)
		}
	}, machine("n1", "ready"), machine("n2", "ready"), runs("a", "n1", forSeconds("node.kubernetes.io/unreachable", 300)))
}

func TestALongLeaseIsBelieved(t *testing.T) {
	with(t, func(w world) {
		w.renew("n1", 240)
		w.after(200 * time.Second)
		w.is("n1", "True")
		w.renew("n1", 240)
		before := len(w.Actions())
		for range 100 {
			w.after(60 * time.Second)
			w.renew("n1", 240)
		}
		w.is("n1", "True")
		if n := len(w.Actions()) - before; n != 0 {
			t.Errorf("%d writes about a node that is well: %v", n, w.Actions()[before:])
		}
		w.after(241 * time.Second)
		w.is("n1", "Unknown unreachable:NoSchedule") // the only node is not emptied
		w.podIs("a", "unready")
		w.after(time.Hour)
		w.podIs("a", "unready")
	}, machine("n1", "ready"), runs("a", "n1"))
}

func TestANodeThatSaysItIsNotReady(t *testing.T) {
	with(t, func(w world) {
		w.renew("n1", 10000)
		w.Put(machine("n1", "unready full"))
		w.is("n1", "False disk-pressure:NoSchedule not-ready:NoSchedule")
		w.podIs("a", "ready") // it lives: what it says of its pods counts
		cordoned := machine("n1", "ready cordoned")
		w.Put(cordoned)
		w.is("n1", "True unschedulable:NoSchedule")
		w.Put(machine("n1", "ready"))
		w.is("n1", "True")
	}, machine("n1", "ready"), runs("a", "n1"))
}

func TestPeopleDrivePodsAwayWithTaints(t *testing.T) {
	with(t, func(w world) {
		w.renew("n1", 10000)
		w.Put(machine("n1", "ready other"))
		w.podIs("hasty", "ready DeletionByTaintManager leaving")
		w.podIs("tolerant", "ready")
		w.after(30 * time.Second)
		w.podIs("patient", "ready")
		w.Put(machine("n1", "ready"))
		w.after(time.Minute)
		w.podIs("patient", "ready")
		w.Put(machine("n1", "ready other"))
		w.Put(runs("late", "n1", forSeconds("example.com/gpu", 60)))
		w.after(59 * time.Second)
		w.podIs("patient", "ready") // its time began anew
		w.podIs("late", "ready")
		w.after(2 * time.Second)
		w.podIs("patient", "ready DeletionByTaintManager leaving")
		w.podIs("late", "ready DeletionByTaintManager leaving")
		w.podIs("tolerant", "ready")
	}, machine("n1", "ready"), runs("hasty", "n1"), runs("patient", "n1", forSeconds("example.com/gpu", 60)),
		runs("tolerant", "n1", corev1.Toleration{Operator: corev1.TolerationOpExists}))
}

func TestPodsOfADeletedNodeEnd(t *testing.T) {
	with(t, func(w world) {
		w.Drop(client.KindOf[*corev1.Node](w), "", "n1")
		w.after(39 * time.Second)
		w.podIs("a", "ready")
		w.after(2 * time.Second)
		w.podIs("a", "none")
		if got := w.events(); !strings.Contains(got, "node-controller RemovingNode: Node n1 event: Removing Node n1 from Controller") {
			t.Error(got)
		}
	}, machine("n1", "ready"), runs("a", "n1"))
}

func TestANodeThatIsMadeAgainInTimeKeepsItsPods(t *testing.T) {
	with(t, func(w world) {
		w.Drop(client.KindOf[*corev1.Node](w), "", "n1")
		w.after(20 * time.Second)
		w.Put(machine("n1", "ready"))
		w.renew("n1", 10000)
		w.after(time.Hour)
		w.podIs("a", "ready")
	}, machine("n1", "ready"), runs("a", "n1"))
}

func TestNodesAreEmptiedOneAfterTheOther(t *testing.T) {
	var objs []kind.Object
	for i := range 10 {
		objs = append(objs, machine(fmt.Sprint("n", i), "ready"))
	}
	with(t, func(w world) {
		for i := range 6 {
			w.renew(fmt.Sprint("n", i), 10000)
		}
		driven := func() (n int) {
			synctest.Wait()
			all, err := client.List[*corev1.Node](w.Context(), w, client.Query{})
			if err != nil {
				t.Fatal(err)
			}
			for _, node := range all {
				if strings.Contains(shortTaints(node.Spec.Taints), "unreachable:NoExecute") {
					n++
				}
			}
			return n
		}
		w.after(51 * time.Second) // four are silent
		for want := 1; want <= 4; want++ {
			if got := driven(); got != want {
				t.Errorf("%d nodes are emptied, want %d", got, want)
			}
			w.after(pace)
		}
	}, objs...)
}

func TestWhenAllWereSilentNobodyIsBlamed(t *testing.T) {
	with(t, func(w world) {
		w.after(51 * time.Second)
		w.is("n1", "Unknown unreachable:NoSchedule")
		w.is("n2", "Unknown unreachable:NoSchedule")
		back := machine("n1", "ready")
		back.Status.Conditions[0].LastHeartbeatTime = metav1.Now()
		w.Put(back)
		w.renew("n1", 10000)
		w.is("n1", "True")
		w.podIs("a", "unready")
	}, machine("n1", "ready"), machine("n2", "ready"), runs("a", "n2", corev1.Toleration{Key: "node.kubernetes.io/unreachable", Operator: corev1.TolerationOpExists}))
}

func TestWhoWasNotHeardWithAllOthersGetsItsTimeAnew(t *testing.T) {
	with(t, func(w world) {
		w.renew("n2", 100)
		w.after(80 * time.Second)
		w.is("n1", "Unknown unreachable:NoSchedule")
		w.is("n2", "False not-ready:NoSchedule")
		back := machine("n1", "ready")
		back.Status.Conditions[0].LastHeartbeatTime = metav1.Now()
		w.Put(back)
		w.renew("n1", 10000)
		w.after(90 * time.Second)
		w.is("n2", "False not-ready:NoExecute not-ready:NoSchedule")
		w.after(20 * time.Second)
		w.is("n2", "Unknown unreachable:NoExecute unreachable:NoSchedule")
	}, machine("n1", "unready"), machine("n2", "unready"))
}

func TestALabelIsNoSignOfLife(t *testing.T) {
	exact := machine("n1", "ready")
	exact.Status.Conditions[0].LastHeartbeatTime = metav1.NewTime(noon.Add(123456789))
	with(t, func(w world) {
		w.after(40 * time.Second)
		labelled := exact.DeepCopy()
		labelled.Labels = map[string]string{"a": "b"}
		labelled.Status.Conditions[0].LastHeartbeatTime = metav1.NewTime(noon) // as it is in JSON
		w.Put(labelled)
		w.after(11 * time.Second)
		w.is("n1", "Unknown unreachable:NoSchedule")
	}, exact)
}
