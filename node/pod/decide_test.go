package pod

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

var start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func ptr[T any](v T) *T { return &v }

// model carries out steps the way a worker and a runtime do, at once.
type model struct {
	in    Input
	next  int
	ends  map[string]int32 // containers that exit as soon as they are started, by name
	fails map[Do]int       // so many tries of a step fail
	trace []string
}

func newModel(pod *corev1.Pod) *model {
	return &model{in: Input{Pod: pod, Runtime: "test", HostIPs: []string{"192.168.1.1"}, Now: start,
		Known: Known{Containers: map[string]*ContainerKnown{}, Busy: map[string]Busy{}}}, ends: map[string]int32{}, fails: map[Do]int{}}
}

func (m *model) known(name string) *ContainerKnown {
	if m.in.Known.Containers[name] == nil {
		m.in.Known.Containers[name] = &ContainerKnown{}
	}
	return m.in.Known.Containers[name]
}

func (m *model) do(s Step) {
	m.trace = append(m.trace, strings.TrimSpace(fmt.Sprintf("%s %s", s.Do, s.Container)))
	k := &m.in.Known
	if m.fails[s.Do] > 0 {
		m.fails[s.Do]--
		t := &Trouble{Reason: "Test", Message: "failed", At: m.in.Now, Until: m.in.Now.Add(firstBackoff)}
		if s.Container == "" {
			k.Failed = t
		} else if s.Do == Pull || s.Do == Start {
			m.known(s.Container).Trouble = t
		}
		return
	}
	m.next++
	created := m.in.Now.UnixNano() + int64(m.next)
	switch s.Do {
	case Alter:
		k.Resize = Resize{Generation: m.in.Pod.Generation, Admitted: true}
		m.in.sized(func(c *corev1.Container, now *Container) {
			if !restartToResize(c, difference(c, now)) {
				now.Resources = limitsOf(c)
			}
		})
	case Mount:
		k.Volumes, k.Refresh, k.Failed = true, false, nil
	case MakeSandbox:
		m.in.Seen.Sandboxes = append(m.in.Seen.Sandboxes, &runtimeapi.PodSandboxStatus{Id: fmt.Sprint("box", m.next), CreatedAt: created,
			Metadata: &runtimeapi.PodSandboxMetadata{Attempt: s.Attempt}, Network: &runtimeapi.PodSandboxNetworkStatus{Ip: "10.0.0.1"}})
		k.Failed = nil
	case StopSandbox:
		for _, b := range m.in.Seen.Sandboxes {
			if b.Id == s.ID {
				b.State = runtimeapi.PodSandboxState_SANDBOX_NOTREADY
			}
		}
	case Pull:
		c := m.known(s.Container)
		c.ImageRef, c.Trouble = "image", nil
	case Start:
		c := m.known(s.Container)
		c.ImageRef, c.Trouble, c.Crash = "", nil, s.Crash
		st := &runtimeapi.ContainerStatus{Id: fmt.Sprint("c", m.next), CreatedAt: created, StartedAt: created, State: runtimeapi.ContainerState_CONTAINER_RUNNING,
			Metadata: &runtimeapi.ContainerMetadata{Name: s.Container, Attempt: s.Attempt}, Image: &runtimeapi.ImageSpec{Image: "image"}}
		if code, ok := m.ends[s.Container]; ok {
			st.State, st.ExitCode, st.FinishedAt = runtimeapi.ContainerState_CONTAINER_EXITED, code, m.in.Now.UnixNano()
		}
		m.in.Seen.Containers = append(m.in.Seen.Containers, &Container{st, m.in.Seen.Sandbox().Id})
	case Kill:
		m.exit(s.ID, 143)
	case Clean:
		k.Cleaned, k.Volumes = true, false
	case Delete:
		m.in.Gone, k.Failed = true, nil
	case Remove:
		m.in.Seen, k.Removed = Observed{}, true
	}
	m.in.Seen.sort()
}

func (m *model) exit(id string, code int32) {
	for _, c := range m.in.Seen.Containers {
		if c.Id == id {
			c.State, c.ExitCode, c.FinishedAt = runtimeapi.ContainerState_CONTAINER_EXITED, code, m.in.Now.UnixNano()
		}
	}
}

// settle carries out plans until one has no steps, and returns it. It lets
// time pass to what plans wait for, so often.
func (m *model) settle(t *testing.T, wakes int) Plan {
	t.Helper()
	for range 1000 {
		p := Decide(m.in)
		m.in.Pod = m.in.Pod.DeepCopy()
		m.in.Pod.Status = p.Status
		if len(p.Steps) == 0 {
			if wakes == 0 || p.Wake.IsZero() {
				return p
			}
			wakes--
			m.in.Now = p.Wake
			continue
		}
		for _, s := range p.Steps {
			m.do(s)
			running := map[string]int{}
			for _, c := range m.in.Seen.Running("") {
				if running[c.Name()]++; running[c.Name()] > 1 {
					t.Fatalf("container %s runs twice after %q", c.Name(), m.trace)
				}
			}
		}
	}
	t.Fatalf("no end after 1000 plans: %q", m.trace[len(m.trace)-20:])
	return Plan{}
}

func (m *model) running() []string {
	var all []string
	for _, c := range m.in.Seen.Running("") {
		all = append(all, c.Name())
	}
	slices.Sort(all)
	return all
}

func podOf(policy corev1.RestartPolicy, init []string, regular ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "u"}, Spec: corev1.PodSpec{RestartPolicy: policy, TerminationGracePeriodSeconds: ptr(int64(30))}}
	for _, name := range init {
		c := corev1.Container{Name: name, Image: "i"}
		if strings.HasPrefix(name, "side") {
			c.RestartPolicy = ptr(corev1.ContainerRestartPolicyAlways)
		}
		p.Spec.InitContainers = append(p.Spec.InitContainers, c)
	}
	for _, name := range regular {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: name, Image: "i"})
	}
	return p
}

func TestAPodIsStartedStepByStep(t *testing.T) {
	m := newModel(podOf(corev1.RestartPolicyAlways, []string{"init", "side"}, "a", "b"))
	m.ends["init"] = 0
	p := m.settle(t, 0)
	want := []string{"mount volumes", "create sandbox", "find or pull image init", "create and start container init",
		"find or pull image side", "create and start container side",
		"find or pull image a", "create and start container a", "find or pull image b", "create and start container b"}
	if !slices.Equal(m.trace, want) {
		t.Errorf("steps are %q\nwant %q", m.trace, want)
	}
	if p.Status.Phase != corev1.PodRunning || !slices.Equal(m.running(), []string{"a", "b", "side"}) {
		t.Errorf("phase %s, running %v", p.Status.Phase, m.running())
	}
}

func TestDecisions(t *testing.T) {
	begin := func(p *corev1.Pod, ends map[string]int32) *model {
		m := newModel(p)
		for k, v := range ends {
			m.ends[k] = v
		}
		m.settle(&testing.T{}, 0)
		m.trace = nil
		return m
	}
	for _, c := range []struct {
		it    string
		pod   *corev1.Pod
		ends  map[string]int32
		when  func(m *model)
		steps []string
		phase corev1.PodPhase
	}{
		{it: "leaves a running pod alone", pod: podOf(corev1.RestartPolicyAlways, nil, "a"), phase: corev1.PodRunning},
		{it: "starts a container again that ended", pod: podOf(corev1.RestartPolicyAlways, nil, "a"),
			when:  func(m *model) { m.exit(m.in.Seen.Newest("a").Id, 1) },
			steps: []string{"find or pull image a", "create and start container a"}, phase: corev1.PodRunning},
		{it: "does not where it may not, and stops the sandbox", pod: podOf(corev1.RestartPolicyNever, nil, "a"),
			when:  func(m *model) { m.exit(m.in.Seen.Newest("a").Id, 1) },
			steps: []string{"stop sandbox", "unmount volumes"}, phase: corev1.PodFailed},
		{it: "stops sidecars when all others are done", pod: podOf(corev1.RestartPolicyNever, []string{"side1", "side2"}, "a"),
			when:  func(m *model) { m.exit(m.in.Seen.Newest("a").Id, 0) },
			steps: []string{"stop container side2", "stop container side1", "stop sandbox", "unmount volumes"}, phase: corev1.PodSucceeded},
		{it: "keeps a sidecar whose restart policy is not the pod's", pod: podOf(corev1.RestartPolicyNever, []string{"side"}, "a"),
			when:  func(m *model) { m.exit(m.in.Seen.Newest("side").Id, 1) },
			steps: []string{"find or pull image side", "create and start container side"}, phase: corev1.PodRunning},
		{it: "fails a pod whose init container fails for good", pod: podOf(corev1.RestartPolicyNever, []string{"init"}, "a"), ends: map[string]int32{"init": 2}, phase: corev1.PodFailed},
		{it: "replaces a sandbox that died and initializes again", pod: podOf(corev1.RestartPolicyAlways, []string{"init"}, "a"), ends: map[string]int32{"init": 0},
			when: func(m *model) {
				m.in.Seen.Sandbox().State = runtimeapi.PodSandboxState_SANDBOX_NOTREADY
				m.exit(m.in.Seen.Newest("a").Id, 137)
			},
			steps: []string{"create sandbox", "find or pull image init", "create and start container init", "find or pull image a", "create and start container a"}, phase: corev1.PodRunning},
		{it: "restarts a container that fails its liveness probe", pod: podOf(corev1.RestartPolicyAlways, nil, "a"),
			when:  func(m *model) { m.known("a").Probes = Probes{ID: m.in.Seen.Newest("a").Id, Live: Failure} },
			steps: []string{"stop container a", "find or pull image a", "create and start container a"}, phase: corev1.PodRunning},
		{it: "restarts a container whose image changed", pod: podOf(corev1.RestartPolicyAlways, nil, "a"),
			when: func(m *model) {
				m.in.Seen.Newest("a").Annotations = map[string]string{definitionAnnotation: "other"}
			},
			steps: []string{"stop container a", "find or pull image a", "create and start container a"}, phase: corev1.PodRunning},
		{it: "ends a deleted pod and asks for its removal", pod: podOf(corev1.RestartPolicyAlways, []string{"side"}, "a", "b"),
			when: func(m *model) {
				m.in.Pod.DeletionTimestamp = ptr(metav1.NewTime(start.Add(30 * time.Second)))
				m.in.Pod.DeletionGracePeriodSeconds = ptr(int64(30))
			},
			steps: []string{"stop container b", "stop container a", "stop container side", "stop sandbox", "unmount volumes", "delete the API object", "remove containers, sandbox and logs"}, phase: corev1.PodFailed},
		{it: "stops a sandbox that was made twice", pod: podOf(corev1.RestartPolicyAlways, nil, "a"),
			when: func(m *model) {
				m.in.Seen.Sandboxes = append(m.in.Seen.Sandboxes, &runtimeapi.PodSandboxStatus{Id: "old", Metadata: &runtimeapi.PodSandboxMetadata{}})
			},
			steps: []string{"stop sandbox"}, phase: corev1.PodRunning},
		{it: "renews a token in time", pod: podOf(corev1.RestartPolicyAlways, nil, "a"),
			when:  func(m *model) { m.in.Known.Renew = start; m.in.Known.Refresh = true },
			steps: []string{"mount volumes"}, phase: corev1.PodRunning},
		{it: "leaves a refused pod unstarted", pod: podOf(corev1.RestartPolicyAlways, nil, "a"),
			when: func(m *model) { *m = *newModel(m.in.Pod); m.in.Known.Rejected = &Verdict{"OutOfcpu", "no"} },
			// There may be volumes of an earlier try.
			steps: []string{"unmount volumes"}, phase: corev1.PodFailed},
	} {
		t.Run(c.it, func(t *testing.T) {
			m := begin(c.pod, c.ends)
			if c.when != nil {
				c.when(m)
			}
			if c.it == "renews a token in time" {
				m.in.Known.Renew = time.Time{}
			}
			p := m.settle(t, 0)
			if !slices.Equal(m.trace, c.steps) {
				t.Errorf("steps are %q\nwant %q\nbecause %q", m.trace, c.steps, p.Why)
			}
			if p.Status.Phase != c.phase {
				t.Errorf("phase is %s, want %s", p.Status.Phase, c.phase)
			}
		})
	}
}

// Whatever a pod is like and whatever goes wrong on the way, plans come to an
// end, and the end is right.
func TestPlansLeadToRest(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 300 {
		policies := []corev1.RestartPolicy{corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever}
		policy := policies[r.IntN(3)]
		var init, regular []string
		for j := range r.IntN(4) {
			init = append(init, fmt.Sprintf("%s%d", []string{"init", "side"}[r.IntN(2)], j))
		}
		for j := range 1 + r.IntN(3) {
			regular = append(regular, fmt.Sprintf("main%d", j))
		}
		m := newModel(podOf(policy, init, regular...))
		for _, name := range append(slices.Clone(init), regular...) {
			switch {
			case strings.HasPrefix(name, "init"):
				m.ends[name] = int32(r.IntN(4) / 3)
			case strings.HasPrefix(name, "main") && r.IntN(3) == 0:
				m.ends[name] = int32(r.IntN(2))
			}
		}
		for _, d := range []Do{Mount, MakeSandbox, Pull, Start, StopSandbox, Clean, Remove} {
			m.fails[d] = r.IntN(3)
		}
		what := fmt.Sprintf("pod %d: %s init %v regular %v ends %v", i, policy, init, regular, m.ends)
		p := m.settle(t, 50)
		for range 3 {
			// Life goes on: something dies, or the sandbox does.
			if running := m.in.Seen.Running(""); len(running) > 0 {
				m.exit(running[r.IntN(len(running))].Id, int32(r.IntN(2)))
			}
			if box := m.in.Seen.Sandbox(); box != nil && r.IntN(4) == 0 {
				box.State = runtimeapi.PodSandboxState_SANDBOX_NOTREADY
				for _, c := range m.in.Seen.Running("") {
					m.exit(c.Id, 137)
				}
			}
			m.in.Now = m.in.Now.Add(time.Minute)
			p = m.settle(t, 50)
		}
		again := Decide(m.in)
		if len(again.Steps) > 0 {
			t.Fatalf("%s: it is not at rest: %v", what, again.Steps)
		}
		if terminal(p.Status.Phase) && len(m.running()) > 0 {
			t.Fatalf("%s: phase %s, yet %v run", what, p.Status.Phase, m.running())
		}
		if p.Status.Phase == corev1.PodRunning && policy == corev1.RestartPolicyAlways && len(m.ends) == 0 {
			if want := len(init) + len(regular); len(m.running()) != want {
				t.Fatalf("%s: %v run, want all %d", what, m.running(), want)
			}
		}
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			if policy == corev1.RestartPolicyAlways {
				t.Fatalf("%s: phase %s with restart policy Always: %v", what, p.Status.Phase, m.trace)
			}
		}
		// And it can be deleted from any state.
		m.in.Pod.DeletionTimestamp = ptr(metav1.NewTime(m.in.Now.Add(30 * time.Second)))
		m.in.Pod.DeletionGracePeriodSeconds = ptr(int64(30))
		if p := m.settle(t, 50); !p.Over || len(m.in.Seen.Containers) > 0 {
			t.Fatalf("%s: a deleted pod is not gone: %q\n%q", what, p.Why, m.trace)
		}
	}
}

func TestExplainNamesTheReason(t *testing.T) {
	m := newModel(podOf(corev1.RestartPolicyAlways, nil, "a"))
	m.fails[Pull] = 1
	m.settle(t, 0)
	m.known("a").Trouble.Reason, m.known("a").Trouble.Message = "ErrImagePull", "no such image"
	text := strings.Join(Explain(m.in), "\n")
	for _, want := range []string{"phase Pending, sandbox ready", "container a waits: ErrImagePull no such image", "containers with unready status: [a]"} {
		if !strings.Contains(text, want) {
			t.Errorf("explanation lacks %q:\n%s", want, text)
		}
	}
}
