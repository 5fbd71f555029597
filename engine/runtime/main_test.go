package runtime

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// box is the program that containers of the tests run.
var box string

// TestMain puts the whole test into namespaces of its own: what it mounts and
// names, nobody else sees.
func TestMain(m *testing.M) {
	if os.Getenv("SAMPAN_TEST_INSIDE") == "" {
		cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.Env = append(os.Environ(), "SAMPAN_TEST_INSIDE=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC, Pdeathsig: syscall.SIGKILL}
		err := cmd.Run()
		if err != nil && cmd.ProcessState == nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(cmd.ProcessState.ExitCode())
	}
	if os.Getenv("SAMPAN_TEST_STARTER") != "" {
		starter()
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "sampan-box-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	box = filepath.Join(dir, "box")
	build := exec.Command("go", "build", "-o", box, "./testdata/box")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// newRuntime has a directory and a cgroup of its own, both gone at the end.
func newRuntime(t testing.TB) *Runtime {
	t.Helper()
	dir, err := os.MkdirTemp("", "sampan-rt-")
	if err != nil {
		t.Fatal(err)
	}
	r, err := New(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		ids, _ := r.Pods(ctx)
		for _, id := range ids {
			if p, err := r.OpenPod(ctx, id); err == nil {
				if err := p.Close(ctx); err != nil {
					t.Errorf("close pod %s: %v", id, err)
				}
			} else if err := r.RemoveDead(ctx, id); err != nil {
				t.Errorf("remove pod %s: %v", id, err)
			}
		}
		g := r.Cgroups().Group(testGroup(dir, ""))
		if err := g.Destroy(ctx); err != nil {
			t.Error(err)
		}
		if b, _ := os.ReadFile("/proc/self/mountinfo"); bytes.Contains(b, []byte(dir)) {
			t.Errorf("mounts are left below %s", dir)
		}
		os.RemoveAll(dir)
	})
	return r
}

func testGroup(dir, id string) string { return "/sampan-test-" + filepath.Base(dir) + "/" + id }

// groupSeen is /proc/self/cgroup, or a part of it, in a container that sees its
// group as the root.
func groupSeen(r *Runtime) string {
	if r.Cgroups().V2() {
		return "0::/\n"
	}
	return "memory:/\n"
}

func newPod(t testing.TB, r *Runtime, change ...func(*PodConfig)) *Pod {
	t.Helper()
	cfg := PodConfig{ID: "pod", Hostname: "aboard"}
	for _, c := range change {
		c(&cfg)
	}
	p, err := r.StartPod(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// container is docker's defaults around the box.
func container(t testing.TB, p *Pod, id string, words ...string) ContainerConfig {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	for _, d := range []string{"bin", "etc", "tmp", "proc", "sys", "dev"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Link(box, filepath.Join(root, "bin/box")); err != nil {
		if err := exec.Command("cp", box, filepath.Join(root, "bin/box")).Run(); err != nil {
			t.Fatal(err)
		}
	}
	caps := []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE"}
	spec := &specs.Spec{
		Process: &specs.Process{Args: append([]string{"box"}, words...), Env: []string{"PATH=/usr/bin:/bin", "GREETING=ahoy"}, Cwd: "/",
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps}},
		Root: &specs.Root{Path: root},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
			{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
			{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}},
			{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
			{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"nosuid", "noexec", "nodev", "relatime", "ro"}},
		},
		Linux: &specs.Linux{
			Namespaces:    []specs.LinuxNamespace{{Type: specs.CgroupNamespace}},
			MaskedPaths:   []string{"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
			Seccomp:       DefaultSeccomp(caps),
			Resources:     &specs.LinuxResources{Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}},
		},
	}
	return ContainerConfig{ID: id, Spec: spec, RootFS: root, Cgroup: testGroup(p.r.cfg.Dir, id),
		LogPath: filepath.Join(filepath.Dir(root), id+".log")}
}

// output starts a container, waits for its end and returns what it has logged,
// without the columns before the text, and how it ended.
func output(t testing.TB, p *Pod, cfg ContainerConfig) (string, Exit) {
	t.Helper()
	ctx := context.Background()
	if _, err := p.Start(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	exit, err := p.Wait(ctx, cfg.ID)
	if err != nil {
		t.Fatal(err)
	}
	return logged(t, cfg.LogPath), exit
}

func logged(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(line, " ", 4)
		if len(f) == 4 {
			out.WriteString(f[3])
		}
	}
	return out.String()
}
