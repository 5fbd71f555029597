package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const probePod = `
apiVersion: v1
kind: Pod
metadata:
  name: %s
  labels: {app: probe}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - name: probe
    image: test/probe:1
    imagePullPolicy: Never
    args: [%s]
    env:
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    resources: {limits: {cpu: 200m, memory: 64Mi}}
`

// One pod from bytes to process, and through the death of the program.
func TestAPod(t *testing.T) {
	h := newHost(t)
	h.up()
	h.images()
	h.apply(fmt.Sprintf(probePod, "one", "count"))
	h.kubectl("wait", "--for=condition=Ready", "pod/one", "--timeout=30s")
	h.says("Running", "get", "pods", "-o", "wide")
	h.says("line 3", "logs", "one")
	if out := h.kubectl("exec", "one", "--", "/program", "env", "POD"); strings.TrimSpace(out) != "POD=one" {
		t.Errorf("exec: %q", out)
	}
	h.fails("exit code 7", tools.kubectl, "exec", "one", "--", "/program", "exit", "7")

	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("carried"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.kubectl("cp", file, "one:/tmp/file")
	if out := h.kubectl("exec", "one", "--", "/program", "cat", "/tmp/file"); out != "carried" {
		t.Errorf("cp: %q", out)
	}

	describe := h.kubectl("describe", "pod", "one")
	for _, want := range []string{"Scheduled", "Pulled", "Created", "Started", "QoS Class:                   Guaranteed"} {
		if !strings.Contains(describe, want) {
			t.Errorf("describe says nothing of %q:\n%s", want, describe)
		}
	}

	before := h.identity("one")
	for range 2 {
		h.kill9()
		h.up()
		h.says("1/1", "get", "pod", "one")
		if after := h.identity("one"); after != before {
			t.Errorf("after kill -9: %s\nbefore: %s", after, before)
		}
	}
	// The log has no gap: it was written while nobody but the monitor lived.
	lines := strings.Fields(strings.ReplaceAll(h.kubectl("logs", "one"), "line ", ""))
	for i, l := range lines {
		if l != fmt.Sprint(i) {
			t.Fatalf("line %d of the log is %q", i, l)
		}
	}
	started := time.Now()
	h.kubectl("delete", "pod", "one", "--wait")
	t.Logf("deleted in %v", time.Since(started).Round(time.Millisecond))
	h.fails("not found", tools.kubectl, "get", "pod", "one")
}

func TestLogsFollowAndPortForward(t *testing.T) {
	h := newHost(t)
	h.up()
	h.images()
	h.apply(fmt.Sprintf(probePod, "web", "serve"))
	h.kubectl("wait", "--for=condition=Ready", "pod/web", "--timeout=30s")

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	forward := h.command(ctx, tools.kubectl, "port-forward", "pod/web", "18080:8080")
	var err error
	h.inside(func() { err = forward.Start() })
	if err != nil {
		t.Fatal(err)
	}
	h.until("port-forward", func() error {
		out, err := h.get("http://127.0.0.1:18080/")
		if err == nil && !strings.HasPrefix(out, "web ") {
			err = fmt.Errorf("%q", out)
		}
		return err
	})
	cancel()
	_ = forward.Wait() // killed

	h.apply(fmt.Sprintf(probePod, "short", "count"))
	h.kubectl("wait", "--for=condition=Ready", "pod/short", "--timeout=30s")
	follow := h.command(t.Context(), tools.kubectl, "logs", "-f", "short")
	out := &strings.Builder{}
	follow.Stdout = out
	h.inside(func() { err = follow.Start() })
	if err != nil {
		t.Fatal(err)
	}
	h.says("line 8", "logs", "short", "--tail=1")
	h.kubectl("delete", "pod", "short", "--grace-period=0", "--force")
	if err := follow.Wait(); err != nil { // ends with the container
		t.Error(err)
	}
	if !strings.Contains(out.String(), "line 0\n") || !strings.Contains(out.String(), "line 7\n") {
		t.Errorf("followed: %q", out)
	}
}

func TestACrashLoopIsVisible(t *testing.T) {
	h := newHost(t)
	h.up()
	h.images()
	h.apply(fmt.Sprintf(probePod, "crash", `"exit", "3", "the disk is on fire"`))
	h.says("CrashLoopBackOff", "get", "pod", "crash")
	h.says("the disk is on fire", "logs", "crash", "--previous")
	h.says("BackOff", "describe", "pod", "crash")
	describe := h.kubectl("describe", "pod", "crash")
	for _, want := range []string{"Exit Code:    3", "Reason:       Error", "Back-off restarting failed container"} {
		if !strings.Contains(describe, want) {
			t.Errorf("describe says nothing of %q:\n%s", want, describe)
		}
	}
}

// A container that somebody kills comes back, and says what happened.
func TestAKilledContainerComesBack(t *testing.T) {
	h := newHost(t)
	h.up()
	h.images()
	h.apply(fmt.Sprintf(probePod, "victim", "count"))
	h.kubectl("wait", "--for=condition=Ready", "pod/victim", "--timeout=30s")
	pid := h.pid("victim")
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.says("137", "get", "pod", "victim", "-o", "jsonpath={.status.containerStatuses[0].lastState.terminated.exitCode}")
	h.says("1/1", "get", "pod", "victim")
	h.says("line", "logs", "victim", "--previous")
	if again := h.pid("victim"); again == pid {
		t.Errorf("still process %d", pid)
	}
}

// identity is what must not change when the program dies: the container's ID,
// its process on the host, when that began, and its restarts.
func (h *host) identity(pod string) string {
	h.Helper()
	id := h.kubectl("get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}")
	pid := h.pid(pod)
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		h.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	const starttime = 19 // of what follows the name, see proc(5)
	return fmt.Sprint(id, " ", pid, " ", strings.Fields(rest)[starttime])
}

// pid is the host's number of a pod's first container's process.
func (h *host) pid(pod string) int {
	h.Helper()
	id := h.kubectl("get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[0].containerID}")
	_, id, _ = strings.Cut(id, "://")
	var found []struct{ State struct{ Pid int } }
	out := h.sampan("inspect", id)
	if err := json.Unmarshal([]byte(out), &found); err != nil || len(found) != 1 || found[0].State.Pid == 0 {
		h.Fatalf("inspect %s: %v\n%s", id, err, out)
	}
	return found[0].State.Pid
}

// kill9 kills the program as the kernel would for want of memory.
func (h *host) kill9() {
	h.Helper()
	s := h.status()
	if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil {
		h.Fatal(err)
	}
	h.until("the program's end", func() error {
		if syscall.Kill(s.PID, 0) == nil {
			if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.PID)); err == nil && !strings.Contains(string(stat), ") Z ") {
				return fmt.Errorf("process %d lives", s.PID)
			}
		}
		return nil
	})
}

// Wherever in its work the program is killed, the next one carries it to the
// end, and makes nothing twice.
func TestKilledAtAnyMoment(t *testing.T) {
	h := newHost(t)
	h.up()
	h.images()
	for round := range 6 {
		name := fmt.Sprintf("web%d", round)
		manifest := strings.NewReplacer("name: web", "name: "+name, "app: web", "app: "+name, "nodePort: 30080", fmt.Sprintf("nodePort: %d", 30080+round)).Replace(web)
		h.apply(manifest)
		time.Sleep(time.Duration(rand.IntN(700)) * time.Millisecond) // the moment is what is tested
		h.kill9()
		h.up()
		h.says("3/3", "get", "deployment", name)
		if out := h.kubectl("get", "pods", "-l", "app="+name, "-o", "name"); strings.Count(out, "pod/") != 3 {
			t.Errorf("round %d: pods\n%s", round, out)
		}
	}
	running := strings.Fields(h.sampan("ps", "-q"))
	if len(running) != 18 {
		t.Errorf("%d containers run for 18 pods", len(running))
	}
}
