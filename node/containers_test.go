package node

import (
	"context"
	"errors"
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
)

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

func TestAContainerIsReplacedBeforeItIsReported(t *testing.T) {
	for _, tc := range []struct {
		it    string
		pull  time.Duration
		hook  time.Duration // after the start
		tells bool          // that the pod is not ready
	}{
		{"the image is there", 0, 0, false},
		{"and a hook is run", 0, 300 * time.Millisecond, false},
		{"the image takes half a second", 500 * time.Millisecond, 0, false},
		{"the image takes a minute", time.Minute, 0, true},
	} {
		t.Run(tc.it, func(t *testing.T) {
			r := &podtest.Runtime{Images: []string{"app:1"}, Pull: func(string) error { time.Sleep(tc.pull); return nil },
				Answer: func(string, []string) (*runtimeapi.ExecSyncResponse, error) {
					time.Sleep(tc.hook)
					return &runtimeapi.ExecSyncResponse{}, nil
				}}
			inWorld(t, r, func(w *world) {
				w.create(aPod("web", func(p *corev1.Pod) {
					if tc.hook > 0 {
						p.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"x"}}}}
					}
				}))
				w.after(2 * time.Second)
				w.api.Forget()
				p := w.pod("web").DeepCopy()
				p.Spec.Containers[0].Image = "app:2"
				if _, err := client.Update(t.Context(), w.api, p); err != nil {
					t.Fatal(err)
				}
				w.after(2 * time.Minute)
				if c := w.pod("web").Status.ContainerStatuses[0]; c.RestartCount != 1 || !c.Ready || c.Image != "app:2" {
					t.Errorf("in the end: %+v", c)
				}
				told := slices.ContainsFunc(w.api.Actions(), func(a clienttest.Action) bool {
					return a.Patch != nil && a.Sub == "status" && strings.Contains(string(a.Patch.Data), `"status":"False"`)
				})
				if told != tc.tells {
					t.Errorf("not ready in between: told %v, want %v", told, tc.tells)
				}
			})
		})
	}
}
