package runtime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sampan/internal/fault"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestAContainerIsApartFromTheMachine(t *testing.T) {
	r := newRuntime(t)
	p := newPod(t, r)
	cfg := container(t, p, "c", "hostname", "pid", "ls", "/", "links", "cat", "/proc/self/status", "cat", "/proc/self/cgroup",
		"cat", "/proc/kcore", "write", "/proc/sys/kernel/hostname", "x", "unshare", "env", "GREETING", "exit", "7")
	out, exit := output(t, p, cfg)
	if exit.Code != 7 || exit.Signal != 0 || exit.OOMKilled {
		t.Errorf("exit = %+v, want code 7", exit)
	}
	for _, want := range []string{
		"aboard\n1\nbin dev etc proc sys tmp \nlo \n",
		"Seccomp:\t2", "NoNewPrivs:\t0", "CapEff:\t00000000a80425fb", "CapBnd:\t00000000a80425fb", "NSpid:\t1\n",
		groupSeen(r), // its own group is the root it sees
		"write /proc/sys/kernel/hostname open /proc/sys/kernel/hostname: read-only file system",
		"unshare operation not permitted",
		"ahoy",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the container says\n%s\nwithout %q", out, want)
		}
	}
	if !strings.Contains(out, "SigIgn:\t0000000000000000") {
		t.Errorf("signals are ignored from the start:\n%s", out)
	}
	if err := p.Remove(context.Background(), "c"); err != nil {
		t.Error(err)
	}
	if _, err := p.State(context.Background(), "c"); fault.ClassOf(err) != fault.NotFound {
		t.Errorf("after Remove, State = %v", err)
	}
}

func TestAProgramIsExecutedAsRuncWould(t *testing.T) {
	p := newPod(t, newRuntime(t))
	for _, c := range []struct {
		it   string
		args []string
		text string
		code int
	}{
		{"is not in PATH", []string{"nothing"}, `unable to start container process: exec: "nothing": executable file not found in $PATH`, 127},
		{"is not at its path", []string{"/nothing"}, `exec: "/nothing": stat /nothing: no such file or directory`, 127},
		{"is not executable", []string{"/etc/motd"}, `exec: "/etc/motd": permission denied`, 126},
		{"is no program", []string{"/bin/text"}, `exec format error`, 126},
	} {
		cfg := container(t, p, "c", "x")
		cfg.Spec.Process.Args = c.args
		os.WriteFile(filepath.Join(cfg.RootFS, "etc/motd"), []byte("hello"), 0o644)
		os.WriteFile(filepath.Join(cfg.RootFS, "bin/text"), []byte("hello"), 0o755)
		_, err := p.Start(context.Background(), cfg)
		if err == nil || !strings.Contains(err.Error(), c.text) {
			t.Errorf("a program that %s: %v, want %q", c.it, err, c.text)
		}
		if code, ok := ExitCodeOf(err); !ok || code != c.code {
			t.Errorf("a program that %s: code %d, want %d", c.it, code, c.code)
		}
		if p.r.Cgroups().Group(cfg.Cgroup).Exists() {
			t.Errorf("a program that %s leaves a control group behind", c.it)
		}
	}
}

func TestRightsAreGivenUp(t *testing.T) {
	p := newPod(t, newRuntime(t))
	cfg := container(t, p, "c", "id", "cwd", "cat", "/proc/self/status", "write", "/etc/x", "x", "write", "/tmp/made/x", "y", "cat", "/proc/self/limits", "cat", "/proc/self/oom_score_adj")
	adj := 300
	pr := cfg.Spec.Process
	pr.User = specs.User{UID: 1000, GID: 2000, AdditionalGids: []uint32{3000, 4000}}
	pr.NoNewPrivileges = true
	pr.Cwd = "/work/here"
	pr.OOMScoreAdj = &adj
	pr.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 100, Hard: 1 << 40}, {Type: "RLIMIT_CORE", Soft: 4096, Hard: 8192}}
	cfg.Spec.Root.Readonly = true
	cfg.Spec.Mounts = append(cfg.Spec.Mounts, specs.Mount{Destination: "/tmp/made", Type: "tmpfs", Source: "tmpfs", Options: []string{"mode=1777"}})
	out, exit := output(t, p, cfg)
	if exit.Code != 0 {
		t.Errorf("exit = %+v", exit)
	}
	for _, want := range []string{"1000 2000 [3000 4000]\n/work/here\n", "NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000",
		"write /etc/x open /etc/x: read-only file system", "write /tmp/made/x <nil>", "Max core file size        4096                 8192", "\n300\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("the container says\n%s\nwithout %q", out, want)
		}
	}
}

func TestLimitsReachTheKernelAndAnOOMKillIsSeen(t *testing.T) {
	r := newRuntime(t)
	p := newPod(t, r)
	ctx := context.Background()
	limit, pids, quota, period, shares := int64(20<<20), int64(50), int64(50000), uint64(100000), uint64(512)
	cfg := container(t, p, "c", "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes", "cat", "/sys/fs/cgroup/pids/pids.max",
		"cat", "/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "cat", "/sys/fs/cgroup/cpu/cpu.shares", "eat", "100")
	if r.Cgroups().V2() {
		cfg = container(t, p, "c", "cat", "/sys/fs/cgroup/memory.max", "cat", "/sys/fs/cgroup/pids.max", "cat", "/sys/fs/cgroup/cpu.max", "cat", "/sys/fs/cgroup/cpu.weight", "eat", "100")
	}
	cfg.Spec.Linux.Resources.Memory = &specs.LinuxMemory{Limit: &limit}
	cfg.Spec.Linux.Resources.Pids = &specs.LinuxPids{Limit: &pids}
	cfg.Spec.Linux.Resources.CPU = &specs.LinuxCPU{Quota: &quota, Period: &period, Shares: &shares}
	events, stop := context.WithCancel(ctx)
	defer stop()
	ch := r.Events(events)
	out, exit := output(t, p, cfg)
	want := "20971520\n50\n50000\n512\n"
	if r.Cgroups().V2() {
		want = "20971520\n50\n50000 100000\n59\n"
	}
	if out != want {
		t.Errorf("limits read in the container:\n%swant\n%s", out, want)
	}
	if !exit.OOMKilled || exit.Signal != syscall.SIGKILL || exit.Code != 137 {
		t.Errorf("exit = %+v, want killed for memory", exit)
	}
	if e := <-ch; e.Pod != "pod" || e.Container != "c" || !e.Exit.OOMKilled {
		t.Errorf("event = %+v", e)
	}
	st, err := p.Stats(ctx, "c")
	if err != nil || st.MemoryLimit != uint64(limit) || st.CPUUsage == 0 || st.OOMKills == 0 || st.PidsLimit != 50 {
		t.Errorf("stats = %+v, %v", st, err)
	}
}

func TestMountsStayInsideTheRoot(t *testing.T) {
	p := newPod(t, newRuntime(t))
	src := t.TempDir()
	os.WriteFile(filepath.Join(src, "file"), []byte("cargo\n"), 0o644)
	outside := t.TempDir()
	cfg := container(t, p, "c", "cat", "/data/deep/file", "write", "/data/deep/new", "x", "cat", "/etc/one", "cat", "/trap/file", "cat", "/rw/file", "write", "/rw/new", "y")
	// A link in the image that points at the machine's directory leads nowhere
	// but into the image.
	if err := os.Symlink(outside, filepath.Join(cfg.RootFS, "trap")); err != nil {
		t.Fatal(err)
	}
	os.MkdirAll(filepath.Join(cfg.RootFS, outside), 0o755)
	cfg.Spec.Mounts = append(cfg.Spec.Mounts,
		specs.Mount{Destination: "/data/deep", Source: src, Type: "bind", Options: []string{"rbind", "ro"}},
		specs.Mount{Destination: "/etc/one", Source: filepath.Join(src, "file"), Options: []string{"bind"}},
		specs.Mount{Destination: "/trap", Source: src, Options: []string{"bind"}},
		specs.Mount{Destination: "/rw", Source: src, Options: []string{"rbind", "rprivate"}})
	out, _ := output(t, p, cfg)
	want := "cargo\nwrite /data/deep/new open /data/deep/new: read-only file system\ncargo\ncargo\ncargo\nwrite /rw/new <nil>\n"
	if out != want {
		t.Errorf("got\n%swant\n%s", out, want)
	}
	if e, _ := os.ReadDir(outside); len(e) != 0 {
		t.Errorf("the machine's directory has %v", e)
	}
	if b, err := os.ReadFile(filepath.Join(src, "new")); string(b) != "y" {
		t.Errorf("what is written into a volume reads %q, %v", b, err)
	}
	missing := container(t, p, "d", "pid")
	missing.Spec.Mounts = append(missing.Spec.Mounts, specs.Mount{Destination: "/x", Source: "/does/not/exist", Options: []string{"bind"}})
	if _, err := p.Start(context.Background(), missing); fault.ClassOf(err) != fault.NotFound {
		t.Errorf("a source that is missing: %v", err)
	}
	evil := container(t, p, "e", "pid")
	os.Remove(filepath.Join(evil.RootFS, "proc"))
	os.Symlink("/tmp", filepath.Join(evil.RootFS, "proc"))
	if _, err := p.Start(context.Background(), evil); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("an image whose /proc is a link: %v", err)
	}
}

func TestWhatIsNotThereYetIsRefused(t *testing.T) {
	p := newPod(t, newRuntime(t))
	for what, change := range map[string]func(*specs.Spec){
		"hooks": func(s *specs.Spec) { s.Hooks = &specs.Hooks{Poststop: []specs.Hook{{Path: "/x"}}} },
		"user": func(s *specs.Spec) {
			s.Linux.Namespaces = append(s.Linux.Namespaces, specs.LinuxNamespace{Type: specs.UserNamespace})
		},
		"selinux":   func(s *specs.Spec) { s.Process.SelinuxLabel = "x" },
		"no limit":  func(s *specs.Spec) { s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_FUN"}} },
		"CAP_FUN":   func(s *specs.Spec) { s.Process.Capabilities.Effective = []string{"CAP_FUN"} },
		"SCMP_FUN":  func(s *specs.Spec) { s.Linux.Seccomp.DefaultAction = "SCMP_FUN" },
		"tmpcopyup": func(s *specs.Spec) { s.Mounts[1].Options = []string{"tmpcopyup"} },
	} {
		cfg := container(t, p, "c", "pid")
		change(cfg.Spec)
		if _, err := p.Start(context.Background(), cfg); fault.ClassOf(err) != fault.Invalid {
			t.Errorf("%s: %v, want invalid", what, err)
		}
	}
}

func TestSignalsAndLimitsOfARunningContainer(t *testing.T) {
	r := newRuntime(t)
	p := newPod(t, r)
	ctx := context.Background()
	cfg := container(t, p, "c", "fork", "3", "until-term")
	st, err := p.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if st.Status != Running || st.Pid == 0 || st.StartTime == 0 {
		t.Errorf("state = %+v", st)
	}
	waitLog(t, cfg.LogPath, "ready\nready\nready\nready\n")
	if s, _ := p.Stats(ctx, "c"); s.Pids < 4 {
		t.Errorf("%d processes are counted, want 4 at least", s.Pids)
	}
	limit := int64(64 << 20)
	if err := p.Update(ctx, "c", &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}); err != nil {
		t.Error(err)
	}
	if s, _ := p.Stats(ctx, "c"); s.MemoryLimit != uint64(limit) {
		t.Errorf("limit after update is %d", s.MemoryLimit)
	}
	if err := p.Remove(ctx, "c"); fault.ClassOf(err) != fault.Conflict {
		t.Errorf("removing what runs: %v", err)
	}
	if err := p.Freeze(ctx, "c"); err != nil {
		t.Error(err)
	}
	if err := p.Thaw(ctx, "c"); err != nil {
		t.Error(err)
	}
	if err := p.Signal(ctx, "c", syscall.SIGTERM, false); err != nil {
		t.Error(err)
	}
	exit, err := p.Wait(ctx, "c")
	if err != nil || exit.Code != 0 {
		t.Errorf("exit = %+v, %v", exit, err)
	}
	if out := logged(t, cfg.LogPath); !strings.HasSuffix(out, "term\n") {
		t.Errorf("log ends in %q", out)
	}
	if _, err := p.Start(ctx, cfg); fault.ClassOf(err) != fault.Exists {
		t.Errorf("a second start: %v", err)
	}
	if err := p.Remove(ctx, "c"); err != nil {
		t.Error(err)
	}
	cfg = container(t, p, "c", "fork", "3", "forever")
	if _, err := p.Start(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(ctx, "c", syscall.SIGKILL, true); err != nil {
		t.Error(err)
	}
	if exit, _ := p.Wait(ctx, "c"); exit.Code != 137 {
		t.Errorf("exit = %+v", exit)
	}
}
