package node

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/node/pod/podtest"
	"sampan/node/resource"
)

// world is a node with its API and its runtime, in a bubble of fake time.
type world struct {
	t       *testing.T
	api     *clienttest.Fake
	runtime *podtest.Runtime
	dir     string
	cgroups groups
	stop    func()
}

// groups are control groups by name.
type groups map[string]resource.Limits

var groupsLock sync.Mutex

func (g groups) Make(path string, l resource.Limits) error {
	groupsLock.Lock()
	defer groupsLock.Unlock()
	g[path] = l
	return nil
}

func (g groups) Remove(_ context.Context, paths ...string) error {
	groupsLock.Lock()
	defer groupsLock.Unlock()
	for _, p := range paths {
		delete(g, p)
	}
	return nil
}

// start runs an agent; calling it again after stop is a restart of the program.
func (w *world) start() {
	w.t.Helper()
	a, err := New(Config{Client: w.api, Runtime: w.runtime, NodeName: "n1", StateDir: w.dir,
		Addresses:  []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.168.1.1"}},
		ClusterDNS: []string{"10.96.0.10"}, Cgroups: w.cgroups, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := a.Run(ctx); err != nil {
			w.t.Error(err)
		}
	})
	w.stop = func() { cancel(); done.Wait() }
	synctest.Wait()
}

func inWorld(t *testing.T, r *podtest.Runtime, test func(w *world)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		if r.Images == nil {
			r.Images = []string{"app:1"}
		}
		w := &world{t: t, api: clienttest.New(t, clienttest.Kinds()), runtime: r, dir: dir, cgroups: groups{}}
		w.start()
		test(w)
		w.stop()
		if shared := w.api.Shared(); len(shared) > 0 {
			t.Errorf("shared objects were written to: %s", shared)
		}
	})
}

func aPod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	grace := int64(30)
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.PodSpec{
		NodeName: "n1", RestartPolicy: corev1.RestartPolicyAlways, TerminationGracePeriodSeconds: &grace,
		Containers: []corev1.Container{{Name: "app", Image: "app:1", ImagePullPolicy: corev1.PullIfNotPresent}}}}
	for _, c := range change {
		c(p)
	}
	return p
}

func (w *world) create(p *corev1.Pod) {
	w.t.Helper()
	if _, err := client.Create(context.Background(), w.api, p); err != nil {
		w.t.Fatal(err)
	}
	synctest.Wait()
}

func (w *world) delete(name string, grace int64) {
	w.t.Helper()
	if err := client.Delete[*corev1.Pod](context.Background(), w.api, "default", name, &metav1.DeleteOptions{GracePeriodSeconds: &grace}); err != nil {
		w.t.Fatal(err)
	}
	synctest.Wait()
}

func (w *world) after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// pod returns a pod, nil if there is none.
func (w *world) pod(name string) *corev1.Pod {
	p, err := client.Get[*corev1.Pod](context.Background(), w.api, "default", name)
	if err != nil {
		return nil
	}
	return p
}

// events lists the events of a pod as "Reason message xCOUNT".
func (w *world) events() []string {
	all, err := client.List[*corev1.Event](context.Background(), w.api, client.Query{})
	if err != nil {
		w.t.Fatal(err)
	}
	var lines []string
	for _, e := range all {
		lines = append(lines, e.Reason+": "+e.Message)
	}
	return lines
}

func (w *world) said(text string) {
	w.t.Helper()
	if !slices.ContainsFunc(w.events(), func(e string) bool { return strings.Contains(e, text) }) {
		w.t.Errorf("no event says %q:\n%s", text, strings.Join(w.events(), "\n"))
	}
}

func condition(p *corev1.Pod, t corev1.PodConditionType) corev1.PodCondition {
	for _, c := range p.Status.Conditions {
		if c.Type == t {
			return c
		}
	}
	return corev1.PodCondition{}
}

func changing(calls []string) []string {
	var all []string
	for _, c := range calls {
		if !strings.HasPrefix(c, "ImageStatus") {
			all = append(all, c)
		}
	}
	return all
}

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

func TestTheNodeRegistersAndRenewsItsLease(t *testing.T) {
	inWorld(t, &podtest.Runtime{}, func(w *world) {
		n, err := client.Get[*corev1.Node](context.Background(), w.api, "", "n1")
		if err != nil {
			t.Fatal(err)
		}
		if n.Labels[corev1.LabelHostname] != "n1" || n.Status.Capacity.Cpu().IsZero() || n.Status.NodeInfo.ContainerRuntimeVersion != "test://1" {
			t.Errorf("node is %+v", n)
		}
		ready := ""
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady {
				ready = c.Reason
			}
		}
		if ready != "KubeletReady" {
			t.Errorf("conditions are %+v", n.Status.Conditions)
		}
		before := len(w.api.Actions())
		w.after(10*time.Minute + time.Second)
		leases, nodes := 0, 0
		for _, a := range w.api.Actions()[before:] {
			if s := a.String(); strings.HasPrefix(s, "update") && strings.Contains(s, "leases") {
				leases++
			} else if strings.HasPrefix(s, "update") && strings.Contains(s, "nodes") {
				nodes++
			}
		}
		if leases != 10 || nodes != 2 {
			t.Errorf("in 10 minutes: %d lease renewals, %d status writes, want 10 and 2: %v", leases, nodes, w.api.Actions()[before:])
		}
	})
}

func TestACrashLoopBacksOffAndSaysSo(t *testing.T) {
	starts := []time.Time{}
	r := &podtest.Runtime{}
	r.Started = func(*runtimeapi.ContainerConfig) *podtest.End {
		starts = append(starts, time.Now())
		return &podtest.End{After: time.Second, Code: 3}
	}
	inWorld(t, r, func(w *world) {
		w.create(aPod("bad"))
		w.after(15 * time.Second)
		p := w.pod("bad")
		c := p.Status.ContainerStatuses[0]
		if p.Status.Phase != corev1.PodRunning || c.RestartCount != 2 || c.State.Waiting == nil || c.State.Waiting.Reason != "CrashLoopBackOff" ||
			!strings.HasPrefix(c.State.Waiting.Message, "back-off 20s restarting failed container=app pod=bad_default(") {
			t.Errorf("status after 15 s: %+v", c)
		}
		if l := c.LastTerminationState.Terminated; l == nil || l.ExitCode != 3 || l.Reason != "Error" {
			t.Errorf("last state is %+v", c.LastTerminationState)
		}
		w.said("Back-off restarting failed container app in pod bad_default(")
		w.after(20 * time.Minute)
		var gaps []string
		for i := 1; i < len(starts); i++ {
			gaps = append(gaps, (starts[i].Sub(starts[i-1]) - time.Second).Round(time.Second).String())
		}
		want := []string{"0s", "10s", "20s", "40s", "1m20s", "2m40s", "5m0s"}
		if len(gaps) < len(want) || !slices.Equal(gaps[:len(want)], want) {
			t.Errorf("pauses between runs are %v, want %v", gaps, want)
		}
		if n := w.pod("bad").Status.ContainerStatuses[0].RestartCount; int(n) != len(starts)-1 {
			t.Errorf("restart count is %d after %d starts", n, len(starts))
		}
		if _, left := r.Left(); left > 2 {
			t.Errorf("%d containers are kept, want the last two", left)
		}
	})
}

func TestARestartOfTheAgentRestartsNothing(t *testing.T) {
	r := &podtest.Runtime{}
	inWorld(t, r, func(w *world) {
		w.create(aPod("web", func(p *corev1.Pod) {
			p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{PeriodSeconds: 10, InitialDelaySeconds: 60,
				ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}}
		}))
		w.create(aPod("gone"))
		w.after(70 * time.Second)
		before := w.pod("web")
		if condition(before, corev1.PodReady).Status != corev1.ConditionTrue {
			t.Fatalf("not ready before the restart: %+v", before.Status)
		}
		id, calls := r.ID("app"), len(changing(r.Calls()))
		w.stop()
		w.api.Drop(client.KindOf[*corev1.Pod](w.api), "default", "gone")
		for _, left := range []string{"/pods/long-gone", "/logs/pods/default_x_long-gone"} {
			if err := os.MkdirAll(w.dir+left+"/sub", 0o755); err != nil {
				t.Fatal(err)
			}
		}
		w.start()
		w.after(5 * time.Second)
		after := w.pod("web")
		if after.Status.ContainerStatuses[0].ContainerID != before.Status.ContainerStatuses[0].ContainerID || after.ResourceVersion != before.ResourceVersion {
			t.Errorf("status changed over the restart:\n%+v\n%+v", before.Status, after.Status)
		}
		for _, c := range changing(r.Calls())[calls:] {
			if strings.HasPrefix(c, "StartContainer") || strings.HasPrefix(c, "RunPodSandbox") {
				t.Errorf("after the restart of the agent: %s", c)
			}
		}
		if boxes, containers := r.Left(); boxes != 1 || containers != 1 {
			t.Errorf("%d sandboxes and %d containers are left, want those of web only (was %s)", boxes, containers, id)
		}
		for _, dir := range []string{"/pods", "/logs/pods"} {
			if left, err := os.ReadDir(w.dir + dir); err != nil || len(left) != 1 {
				t.Errorf("%s has %v, want web's only; %v", dir, left, err)
			}
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

func TestAContainerThatIgnoresTheSignalIsKilledAtTheEndOfTheGrace(t *testing.T) {
	r := &podtest.Runtime{Stopping: func(string) (time.Duration, int32) { return time.Hour, 0 }}
	inWorld(t, r, func(w *world) {
		w.create(aPod("slow"))
		w.delete("slow", 30)
		w.after(25 * time.Second)
		if w.pod("slow") == nil {
			t.Fatal("it is gone before its grace is over")
		}
		w.delete("slow", 1) // a second request hurries it
		w.after(2 * time.Second)
		if w.pod("slow") != nil {
			t.Error("it is still there although the grace was cut")
		}
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

func TestAContainerAndASandboxKilledBehindItsBackComeBack(t *testing.T) {
	r := &podtest.Runtime{}
	inWorld(t, r, func(w *world) {
		w.create(aPod("web"))
		r.Exit("app", 137)
		w.after(time.Second)
		if c := w.pod("web").Status.ContainerStatuses[0]; c.RestartCount != 1 || c.State.Running == nil || c.LastTerminationState.Terminated.ExitCode != 137 {
			t.Errorf("after the container was killed: %+v", c)
		}
		r.KillSandbox()
		w.after(15 * time.Second)
		if c := w.pod("web").Status.ContainerStatuses[0]; c.RestartCount != 2 || c.State.Running == nil {
			t.Errorf("after the sandbox was killed: %+v", c)
		}
		w.said("Pod sandbox changed, it will be killed and re-created.")
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

func TestImagesThatCannotBeHadAreTold(t *testing.T) {
	r := &podtest.Runtime{Pull: func(string) error { return errors.New("manifest unknown") }}
	inWorld(t, r, func(w *world) {
		w.create(aPod("bad", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "nope:9" }))
		waiting := func() *corev1.ContainerStateWaiting { return w.pod("bad").Status.ContainerStatuses[0].State.Waiting }
		if s := waiting(); s.Reason != "ErrImagePull" || s.Message != `failed to pull image "nope:9": manifest unknown` {
			t.Errorf("waiting: %+v", s)
		}
		w.after(3 * time.Second)
		if s := waiting(); s.Reason != "ImagePullBackOff" {
			t.Errorf("waiting: %+v", s)
		}
		for _, text := range []string{`Pulling: Pulling image "nope:9"`, `Failed: Error: ErrImagePull`, `BackOff: Back-off pulling image "nope:9"`, "Failed: Error: ImagePullBackOff"} {
			w.said(text)
		}
		w.create(aPod("never", func(p *corev1.Pod) {
			p.Spec.Containers[0].Image, p.Spec.Containers[0].ImagePullPolicy = "nope:9", corev1.PullNever
		}))
		if s := w.pod("never").Status.ContainerStatuses[0].State.Waiting; s.Reason != "ErrImageNeverPull" || s.Message != `Container image "nope:9" is not present with pull policy of Never` {
			t.Errorf("waiting: %+v", s)
		}
		w.create(aPod("odd", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "UPPER" }))
		if s := w.pod("odd").Status.ContainerStatuses[0].State.Waiting; s.Reason != "InvalidImageName" {
			t.Errorf("waiting: %+v", s)
		}
	})
}

func TestAFailingLivenessProbeRestartsAndAReadinessProbeUnreadies(t *testing.T) {
	var mu sync.Mutex
	broken := map[string]bool{}
	r := &podtest.Runtime{Answer: func(_ string, command []string) (*runtimeapi.ExecSyncResponse, error) {
		mu.Lock()
		defer mu.Unlock()
		if broken[command[0]] {
			return &runtimeapi.ExecSyncResponse{ExitCode: 1, Stdout: []byte("no " + command[0])}, nil
		}
		return &runtimeapi.ExecSyncResponse{}, nil
	}}
	set := func(name string, v bool) { mu.Lock(); broken[name] = v; mu.Unlock() }
	probe := func(name string) *corev1.Probe {
		return &corev1.Probe{PeriodSeconds: 2, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 3,
			ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{name}}}}
	}
	inWorld(t, r, func(w *world) {
		w.create(aPod("web", func(p *corev1.Pod) {
			p.Spec.Containers[0].LivenessProbe, p.Spec.Containers[0].ReadinessProbe = probe("live"), probe("ready")
			p.Spec.Containers[0].StartupProbe = probe("startup")
		}))
		if c := w.pod("web").Status.ContainerStatuses[0]; !c.Ready || !*c.Started {
			t.Fatalf("with all probes well: %+v", c)
		}
		set("ready", true)
		w.after(7 * time.Second)
		p := w.pod("web")
		if c := condition(p, corev1.PodReady); c.Reason != "ContainersNotReady" || c.Message != "containers with unready status: [app]" {
			t.Errorf("ready: %+v", c)
		}
		w.said("Unhealthy: Readiness probe failed: no ready")
		set("ready", false)
		w.after(3 * time.Second)
		if condition(w.pod("web"), corev1.PodReady).Status != corev1.ConditionTrue {
			t.Errorf("it is not ready again: %+v", w.pod("web").Status)
		}
		set("live", true)
		w.after(7 * time.Second)
		set("live", false)
		w.said("Killing: Container app failed liveness probe, will be restarted")
		w.after(2 * time.Second)
		if c := w.pod("web").Status.ContainerStatuses[0]; c.RestartCount != 1 || !c.Ready {
			t.Errorf("after the liveness probe failed: %+v", c)
		}
	})
}

func TestHooksRunAndTheirFailureIsTold(t *testing.T) {
	var mu sync.Mutex
	var ran []string
	r := &podtest.Runtime{Answer: func(name string, command []string) (*runtimeapi.ExecSyncResponse, error) {
		mu.Lock()
		defer mu.Unlock()
		ran = append(ran, name+" "+command[0])
		if command[0] == "fail" {
			return &runtimeapi.ExecSyncResponse{ExitCode: 1}, nil
		}
		return &runtimeapi.ExecSyncResponse{}, nil
	}}
	exec := func(word string) *corev1.LifecycleHandler {
		return &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{word}}}
	}
	inWorld(t, r, func(w *world) {
		w.create(aPod("good", func(p *corev1.Pod) {
			p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: exec("post"), PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 7}}}
		}))
		if p := w.pod("good"); !p.Status.ContainerStatuses[0].Ready {
			t.Errorf("status: %+v", p.Status)
		}
		w.delete("good", 30)
		w.after(6 * time.Second)
		if got := r.Running(); len(got) != 1 {
			t.Errorf("%v run while preStop sleeps", got)
		}
		w.after(3 * time.Second)
		if w.pod("good") != nil {
			t.Errorf("still there after preStop: %+v", w.pod("good").Status)
		}
		w.create(aPod("bad", func(p *corev1.Pod) { p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: exec("fail")} }))
		w.after(time.Second)
		w.said("FailedPostStartHook: PostStartHook failed")
		if c := w.pod("bad").Status.ContainerStatuses[0]; c.State.Waiting == nil || c.State.Waiting.Reason != "PostStartHookError" {
			t.Errorf("status: %+v", c)
		}
		mu.Lock()
		defer mu.Unlock()
		if !slices.Equal(ran[:2], []string{"app post", "app fail"}) {
			t.Errorf("hooks: %v", ran)
		}
	})
}

func TestLastWordsComeFromTheFileOrTheLog(t *testing.T) {
	r := &podtest.Runtime{}
	var dir string
	r.Started = func(c *runtimeapi.ContainerConfig) *podtest.End {
		switch uid := c.Labels["io.kubernetes.pod.uid"]; c.Labels["io.kubernetes.pod.name"] {
		case "file":
			for _, m := range c.Mounts {
				if m.ContainerPath == "/dev/termination-log" {
					if err := os.WriteFile(m.HostPath, []byte("my last words"), 0o600); err != nil {
						t.Error(err)
					}
				}
			}
		case "log":
			path := dir + "/logs/pods/default_log_" + uid + "/" + c.LogPath
			if err := os.WriteFile(path, []byte("2026-11-21T12:00:00Z stderr P it \n2026-11-21T12:00:00Z stderr F broke\n"), 0o600); err != nil {
				t.Error(err)
			}
		}
		return &podtest.End{After: time.Second, Code: 1}
	}
	inWorld(t, r, func(w *world) {
		dir = w.dir
		for name, want := range map[string]string{"file": "my last words", "log": "it broke\n"} {
			w.create(aPod(name, func(p *corev1.Pod) {
				p.Spec.RestartPolicy = corev1.RestartPolicyNever
				p.Spec.Containers[0].TerminationMessagePath = "/dev/termination-log"
				p.Spec.Containers[0].TerminationMessagePolicy = corev1.TerminationMessageFallbackToLogsOnError
			}))
			w.after(2 * time.Second)
			if s := w.pod(name).Status.ContainerStatuses[0].State.Terminated; s == nil || s.Message != want {
				t.Errorf("%s: %+v, want message %q", name, s, want)
			}
		}
	})
}

func TestAMissingKeyHoldsAContainerUntilItComes(t *testing.T) {
	inWorld(t, &podtest.Runtime{}, func(w *world) {
		w.create(aPod("web", func(p *corev1.Pod) {
			p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
				LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"}, Key: "a"}}}}
		}))
		if s := w.pod("web").Status.ContainerStatuses[0].State.Waiting; s.Reason != "CreateContainerConfigError" || s.Message != `configmap "cfg" not found` {
			t.Errorf("waiting: %+v", s)
		}
		w.said(`Failed: Error: configmap "cfg" not found`)
		w.api.Put(&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "cfg"}, Data: map[string]string{"a": "1"}})
		synctest.Wait()
		if p := w.pod("web"); p.Status.Phase != corev1.PodRunning {
			t.Errorf("after it came: %+v", p.Status)
		}
		if c := w.runtime.Config("app"); len(c.Envs) != 1 || string(c.Envs[0].Value) != "1" {
			t.Errorf("environment: %v", c.Envs)
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

func TestADeletedNodeObjectComesBack(t *testing.T) {
	inWorld(t, &podtest.Runtime{}, func(w *world) {
		w.api.Drop(client.KindOf[*corev1.Node](w.api), "", "n1")
		synctest.Wait()
		if _, err := client.Get[*corev1.Node](context.Background(), w.api, "", "n1"); err != nil {
			t.Error(err)
		}
	})
}

func TestASlowAPILosesNothing(t *testing.T) {
	var mu sync.Mutex
	down := false
	inWorld(t, &podtest.Runtime{}, func(w *world) {
		w.api.Before = func(a clienttest.Action) error {
			mu.Lock()
			defer mu.Unlock()
			if down && strings.Contains(a.String(), "status") {
				return errors.New("connection refused")
			}
			return nil
		}
		mu.Lock()
		down = true
		mu.Unlock()
		w.create(aPod("web"))
		w.after(10 * time.Second)
		if got := w.runtime.Running(); !slices.Equal(got, []string{"app"}) {
			t.Fatalf("running while the API is down: %v", got)
		}
		mu.Lock()
		down = false
		mu.Unlock()
		w.after(40 * time.Second)
		if p := w.pod("web"); p.Status.Phase != corev1.PodRunning {
			t.Errorf("status after the API came back: %+v", p.Status)
		}
	})
}

func TestAnImageIsAVolume(t *testing.T) {
	inWorld(t, &podtest.Runtime{}, func(w *world) {
		p := aPod("gallery")
		p.Spec.Volumes = []corev1.Volume{{Name: "pictures", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "kitten:1", PullPolicy: corev1.PullAlways}}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "pictures", MountPath: "/pictures", SubPath: "small"}}
		w.create(p)
		if got := w.pod("gallery").Status.Phase; got != corev1.PodRunning {
			t.Fatalf("the pod is %s", got)
		}
		w.said(`Successfully pulled image "kitten:1"`)
		list, err := w.runtime.ListContainers(context.Background(), &runtimeapi.ListContainersRequest{})
		if err != nil || len(list.Containers) != 1 {
			t.Fatalf("%v, %v", list, err)
		}
		st, err := w.runtime.ContainerStatus(context.Background(), &runtimeapi.ContainerStatusRequest{ContainerId: list.Containers[0].Id})
		if err != nil {
			t.Fatal(err)
		}
		at := slices.IndexFunc(st.Status.Mounts, func(m *runtimeapi.Mount) bool { return m.ContainerPath == "/pictures" })
		if at < 0 {
			t.Fatalf("mounts are %v", st.Status.Mounts)
		}
		if m := st.Status.Mounts[at]; m.Image.GetImage() != "kitten:1" || m.ImageSubPath != "small" || !m.Readonly || m.HostPath != "" {
			t.Errorf("the mount is %v", m)
		}
	})
}
