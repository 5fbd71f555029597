package runtime

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"sampan/internal/fault"
)

// until calls ok whenever a file in path's directory has changed, as inotify
// tells it.
func until(t testing.TB, path string, ok func() bool) {
	t.Helper()
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if _, err := syscall.InotifyAddWatch(fd, filepath.Dir(path), syscall.IN_MODIFY|syscall.IN_MOVED_TO|syscall.IN_CREATE); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for !ok() {
		if _, err := syscall.Read(fd, buf); err != nil && err != syscall.EINTR {
			t.Fatal(err)
		}
	}
}

func TestContainersOfAPodShareWhatItSays(t *testing.T) {
	r := newRuntime(t)
	p := newPod(t, r, func(c *PodConfig) {
		c.SharePID = true
		c.Sysctls = map[string]string{"net.ipv4.ip_unprivileged_port_start": "80", "kernel.shmmni": "77"}
	})
	ctx := context.Background()
	a := container(t, p, "a", "forever")
	if _, err := p.Start(ctx, a); err != nil {
		t.Fatal(err)
	}
	out, _ := output(t, p, container(t, p, "b", "pid", "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start", "cat", "/proc/sys/kernel/shmmni", "cat", "/proc/1/cmdline", "echo", "", "cat", "/proc/2/comm", "cat", "/proc/self/status"))
	if !strings.Contains(out, "80\n77\nsampan-reaper\x00reaper\x00") || !strings.HasPrefix(out, "3\n") && !strings.Contains(out[:3], "\n") {
		t.Errorf("the second container says %q", out)
	}
	net, err := os.Stat(p.NetNS())
	if err != nil {
		t.Fatal(err)
	}
	mine, _ := os.Stat("/proc/self/ns/net")
	if os.SameFile(net, mine) {
		t.Error("the pod has the machine's network")
	}
	if st, err := os.Stat("/proc/" + strconv.Itoa(p.MonitorPID()) + "/ns/net"); err != nil || !os.SameFile(net, st) {
		t.Errorf("the pinned network namespace is not the monitor's: %v", err)
	}
	list, err := p.List(ctx)
	if err != nil || len(list) != 2 || list[0].ID != "a" || list[0].Status != Running || list[1].Status != Exited {
		t.Errorf("list = %+v, %v", list, err)
	}
	if _, err := r.StartPod(ctx, p.Config()); fault.ClassOf(err) != fault.Exists {
		t.Errorf("a second pod of one name: %v", err)
	}
	for _, bad := range []PodConfig{{ID: "../x"}, {ID: "x", Sysctls: map[string]string{"vm.swappiness": "1"}}, {ID: "x", HostNetwork: true, Sysctls: map[string]string{"net.core.somaxconn": "1"}}} {
		if _, err := r.StartPod(ctx, bad); fault.ClassOf(err) != fault.Invalid {
			t.Errorf("pod %+v: %v, want invalid", bad, err)
		}
	}
	q, err := r.StartPod(ctx, PodConfig{ID: "q", NetNS: p.NetNS(), HostPID: true, HostIPC: true, HostUTS: true})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(q.NetNS()); err != nil || !os.SameFile(st, net) {
		t.Errorf("a pod that joins a network has another: %v", err)
	}
	if out, _ := output(t, q, container(t, q, "h", "pid")); out == "1\n" {
		t.Error("with HostPID the container is process 1")
	}
}

func TestAPodIsGoneWithoutATrace(t *testing.T) {
	r := newRuntime(t)
	p := newPod(t, r)
	ctx := context.Background()
	cfg := container(t, p, "c", "forever")
	st, err := p.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(ctx); err != nil {
		t.Fatal(err)
	}
	for what, path := range map[string]string{"container": "/proc/" + strconv.Itoa(st.Pid), "monitor": "/proc/" + strconv.Itoa(p.MonitorPID()), "directory": filepath.Dir(filepath.Dir(p.NetNS()))} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("the %s is still there: %s", what, path)
		}
	}
	if r.Cgroups().Group(cfg.Cgroup).Exists() {
		t.Error("the control group is still there")
	}
	if err := p.Close(ctx); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	if _, err := r.OpenPod(ctx, "pod"); fault.ClassOf(err) != fault.NotFound {
		t.Errorf("opening a closed pod: %v", err)
	}
}

func TestAMonitorThatIsKilledTakesItsContainersAlong(t *testing.T) {
	r := newRuntime(t)
	p := newPod(t, r)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	cfg := container(t, p, "c", "forever")
	st, err := p.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ch := r.Events(ctx)
	if err := syscall.Kill(p.MonitorPID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if e := <-ch; !e.Gone || e.Pod != "pod" {
		t.Errorf("event = %+v", e)
	}
	if exit, err := p.Wait(ctx, "c"); err != nil || exit.Code == 0 {
		t.Errorf("exit = %+v, %v", exit, err)
	}
	if err := r.RemoveDead(ctx, "pod"); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile("/proc/" + strconv.Itoa(st.Pid) + "/status"); err == nil && !bytes.Contains(b, []byte("Z (zombie)")) {
		t.Error("the container runs on without a parent")
	}
}
