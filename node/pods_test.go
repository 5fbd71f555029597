package node

import (
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	nodev1 "k8s.io/api/node/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"sampan/node/pod/podtest"
)

func TestAPodRunsAndIsReported(t *testing.T) {
	inWorld(t, &podtest.Runtime{}, func(w *world) {
		w.create(aPod("web"))
		p := w.pod("web")
		if p.Status.Phase != corev1.PodRunning || p.Status.PodIP != "10.0.0.1" || p.Status.HostIP != "192.168.1.1" || p.Status.QOSClass != corev1.PodQOSBestEffort {
			t.Fatalf("status is %+v", p.Status)
		}
		c := p.Status.ContainerStatuses[0]
		if !c.Ready || !*c.Started || c.RestartCount != 0 || !strings.HasPrefix(c.ContainerID, "test://") || c.State.Running == nil {
			t.Errorf("container status is %+v", c)
		}
		for _, ct := range []corev1.PodConditionType{corev1.PodReady, corev1.ContainersReady, corev1.PodInitialized, corev1.PodScheduled, corev1.PodReadyToStartContainers} {
			if condition(p, ct).Status != corev1.ConditionTrue {
				t.Errorf("condition %s is %+v", ct, condition(p, ct))
			}
		}
		for _, text := range []string{"already present on machine", "Created: Container created", "Started: Container started"} {
			w.said(text)
		}
		writes := len(w.api.Actions())
		w.after(50 * time.Second) // less than the lease's time
		if n := len(w.api.Actions()); n != writes {
			t.Errorf("an idle node made %d calls: %v", n-writes, w.api.Actions()[writes:])
		}
	})
}

func TestADeletedPodStopsInOrderAndGoes(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	r := &podtest.Runtime{Stopping: func(name string) (time.Duration, int32) { return 5 * time.Second, 0 }}
	inWorld(t, r, func(w *world) {
		w.create(aPod("web", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{
				{Name: "side1", Image: "app:1", RestartPolicy: &always}, {Name: "side2", Image: "app:1", RestartPolicy: &always}}
			p.Spec.Volumes = []corev1.Volume{{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "tmp", MountPath: "/tmp"}}
		}))
		if got := r.Running(); !slices.Equal(got, []string{"app", "side1", "side2"}) {
			t.Fatalf("running: %v; %+v", got, w.pod("web").Status)
		}
		calls := len(r.Calls())
		if len(w.cgroups) != 1 {
			t.Errorf("control groups: %v", w.cgroups)
		}
		w.delete("web", 30)
		w.after(time.Second)
		if p := w.pod("web"); p == nil || p.Status.Phase != corev1.PodRunning {
			t.Fatalf("while it stops: %+v", p)
		}
		for _, want := range []string{"app", "app side2", "app side2 side1"} {
			var stops []string
			for _, c := range r.Calls()[calls:] {
				if f := strings.Fields(c); f[0] == "StopContainer" {
					stops = append(stops, f[1])
				}
			}
			if got := strings.Join(stops, " "); got != want {
				t.Errorf("asked to stop %s, want %s", got, want)
			}
			w.after(5 * time.Second)
		}
		w.after(time.Second)
		if p := w.pod("web"); p != nil {
			t.Fatalf("it is still there: %+v", p.Status)
		}
		if boxes, containers := r.Left(); boxes != 0 || containers != 0 {
			t.Errorf("%d sandboxes, %d containers are left", boxes, containers)
		}
		for _, sub := range []string{"pods", "logs/pods"} {
			if left, _ := os.ReadDir(w.dir + "/" + sub); len(left) > 0 {
				t.Errorf("%s is left in %s", left[0].Name(), sub)
			}
		}
		if len(w.cgroups) != 0 {
			t.Errorf("control groups are left: %v", w.cgroups)
		}
		w.said("Killing: Stopping container app")
	})
}

func TestAForceDeletedPodIsStoppedToo(t *testing.T) {
	r := &podtest.Runtime{}
	inWorld(t, r, func(w *world) {
		w.create(aPod("web"))
		w.delete("web", 0)
		w.after(3 * time.Second)
		if boxes, containers := r.Left(); boxes != 0 || containers != 0 {
			t.Errorf("%d sandboxes, %d containers are left: %v", boxes, containers, r.Calls())
		}
	})
}

func TestInitContainersRunInOrderBeforeTheOthers(t *testing.T) {
	r := &podtest.Runtime{Started: func(c *runtimeapi.ContainerConfig) *podtest.End {
		if strings.HasPrefix(c.Metadata.Name, "init") {
			return &podtest.End{After: 5 * time.Second}
		}
		return nil
	}}
	inWorld(t, r, func(w *world) {
		w.create(aPod("web", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "init1", Image: "app:1"}, {Name: "init2", Image: "app:1"}}
		}))
		p := w.pod("web")
		if p.Status.Phase != corev1.PodPending || p.Status.ContainerStatuses[0].State.Waiting.Reason != "PodInitializing" {
			t.Errorf("while the first runs: %+v", p.Status)
		}
		if c := condition(p, corev1.PodInitialized); c.Reason != "ContainersNotInitialized" || c.Message != "containers with incomplete status: [init1 init2]" {
			t.Errorf("initialized: %+v", c)
		}
		w.after(6 * time.Second)
		if got := r.Running(); !slices.Equal(got, []string{"init2"}) {
			t.Errorf("after 6 s %v run", got)
		}
		w.after(6 * time.Second)
		p = w.pod("web")
		if p.Status.Phase != corev1.PodRunning || condition(p, corev1.PodInitialized).Status != corev1.ConditionTrue {
			t.Errorf("after 12 s: %+v", p.Status)
		}
		if s := p.Status.InitContainerStatuses[0]; !s.Ready || s.State.Terminated.Reason != "Completed" {
			t.Errorf("init status: %+v", s)
		}
	})
}

func TestAPodThatCompletesSucceedsOrFails(t *testing.T) {
	for _, c := range []struct {
		it     string
		code   int32
		policy corev1.RestartPolicy
		phase  corev1.PodPhase
	}{
		{"succeeds when all end with 0", 0, corev1.RestartPolicyNever, corev1.PodSucceeded},
		{"fails when one does not and may not restart", 1, corev1.RestartPolicyNever, corev1.PodFailed},
		{"succeeds with OnFailure", 0, corev1.RestartPolicyOnFailure, corev1.PodSucceeded},
		{"goes on with OnFailure after a failure", 1, corev1.RestartPolicyOnFailure, corev1.PodRunning},
	} {
		t.Run(c.it, func(t *testing.T) {
			r := &podtest.Runtime{Started: func(*runtimeapi.ContainerConfig) *podtest.End { return &podtest.End{After: time.Second, Code: c.code} }}
			inWorld(t, r, func(w *world) {
				w.create(aPod("job", func(p *corev1.Pod) { p.Spec.RestartPolicy = c.policy }))
				w.after(5 * time.Second)
				p := w.pod("job")
				if p.Status.Phase != c.phase {
					t.Errorf("phase is %s: %+v", p.Status.Phase, p.Status)
				}
				if c.phase == corev1.PodSucceeded && (condition(p, corev1.PodReady).Reason != "PodCompleted" || p.Status.PodIP == "") {
					t.Errorf("status of a completed pod: %+v", p.Status)
				}
			})
		})
	}
}

func TestAMissingConfigMapHoldsThePodUntilItComes(t *testing.T) {
	r := &podtest.Runtime{}
	inWorld(t, r, func(w *world) {
		w.create(aPod("web", func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "cfg", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}}}}}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "cfg", MountPath: "/cfg"}}
		}))
		w.said(`FailedMount: MountVolume.SetUp failed for volume "cfg" : configmap "cfg" not found`)
		w.after(100 * time.Second)
		w.api.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "cfg"}, Data: map[string]string{"a": "1"}})
		synctest.Wait()
		p := w.pod("web")
		if p.Status.Phase != corev1.PodRunning {
			t.Fatalf("status: %+v", p.Status)
		}
		file := w.dir + "/pods/" + string(p.UID) + "/volumes/kubernetes.io~configmap/cfg/a"
		if b, err := os.ReadFile(file); err != nil || string(b) != "1" {
			t.Errorf("%s: %q %v", file, b, err)
		}
		w.api.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "cfg"}, Data: map[string]string{"a": "2"}})
		synctest.Wait()
		if b, err := os.ReadFile(file); err != nil || string(b) != "2" {
			t.Errorf("after the change %s: %q %v", file, b, err)
		}
	})
}

func TestAPodHasTheRuntimeOfItsClass(t *testing.T) {
	inWorld(t, &podtest.Runtime{Handler: "tight"}, func(w *world) {
		of := func(class string) func(*corev1.Pod) {
			return func(p *corev1.Pod) { p.Spec.RuntimeClassName = &class }
		}
		for class, handler := range map[string]string{"safe": "tight", "vm": "kata"} {
			w.api.Put(&nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: class}, Handler: handler})
		}
		w.create(aPod("fits", of("safe")))
		if p := w.pod("fits"); p.Status.Phase != corev1.PodRunning {
			t.Errorf("a pod whose class the runtime has: %+v", p.Status)
		}
		w.create(aPod("odd", of("vm")))
		w.said(`FailedCreatePodSandBox: Failed to create pod sandbox: rpc error: code = Unknown desc = failed to get sandbox runtime: no runtime for "kata" is configured`)
		w.create(aPod("early", of("later")))
		w.said(`FailedCreatePodSandBox: Failed to create pod sandbox: look up RuntimeClass later: runtimeclasses.node.k8s.io "later" not found`)
		for _, name := range []string{"odd", "early"} {
			if p := w.pod(name); p.Status.Phase != corev1.PodPending {
				t.Errorf("%s is %s, want Pending", name, p.Status.Phase)
			}
		}
		w.api.Put(&nodev1.RuntimeClass{ObjectMeta: metav1.ObjectMeta{Name: "later"}, Handler: "tight"})
		w.after(5 * time.Minute)
		if p := w.pod("early"); p.Status.Phase != corev1.PodRunning {
			t.Errorf("a pod whose class came later: %+v", p.Status)
		}
	})
}

func TestAFinalizerHoldsAPodThatHasEndedQuietly(t *testing.T) {
	inWorld(t, &podtest.Runtime{}, func(w *world) {
		w.create(aPod("web", func(p *corev1.Pod) { p.Finalizers = []string{"example.com/hold"} }))
		w.delete("web", 30)
		w.after(5 * time.Second)
		p := w.pod("web")
		if p == nil || p.Status.Phase != corev1.PodSucceeded {
			t.Fatalf("held pod: %+v", p)
		}
		calls := 0
		for _, a := range w.api.Actions() {
			if strings.Contains(a.String(), "pods") {
				calls++
			}
		}
		w.after(30 * time.Minute)
		for _, a := range w.api.Actions() {
			if strings.Contains(a.String(), "pods") {
				calls--
			}
		}
		if calls != 0 {
			t.Errorf("%d calls about the pod while it is held", -calls)
		}
	})
}

func TestTheActiveDeadlineFailsAPod(t *testing.T) {
	inWorld(t, &podtest.Runtime{}, func(w *world) {
		w.create(aPod("web", func(p *corev1.Pod) { s := int64(60); p.Spec.ActiveDeadlineSeconds = &s }))
		w.after(59 * time.Second)
		if p := w.pod("web"); p.Status.Phase != corev1.PodRunning {
			t.Fatalf("before its time: %+v", p.Status)
		}
		w.after(3 * time.Second)
		if p := w.pod("web"); p.Status.Phase != corev1.PodFailed || p.Status.Reason != "DeadlineExceeded" {
			t.Errorf("after its time: %+v", p.Status)
		}
		if got := w.runtime.Running(); len(got) > 0 {
			t.Errorf("%v run", got)
		}
	})
}
