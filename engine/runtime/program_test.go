package runtime

import (
	"context"
	"errors"
	"strings"
	"testing"

	"sampan/internal/fault"
)

func TestAContainerCanBeExplained(t *testing.T) {
	r := newRuntime(t)
	p := newPod(t, r)
	ctx := context.Background()
	if _, err := p.Start(ctx, container(t, p, "c", "forever")); err != nil {
		t.Fatal(err)
	}
	join := "# join the control groups"
	if r.Cgroups().V2() {
		join = "clone3(CLONE_VM|CLONE_NEWNS|CLONE_NEWPID|CLONE_INTO_CGROUP)"
	}
	text, err := p.Explain(ctx, "c")
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, step := range []string{join, "unshare(CLONE_NEWCGROUP)", `pivot_root(".", ".")`, "# mount proc on /proc", "# make /proc/sys read-only", "# hide /proc/kcore",
		"seccomp(", "prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN)", "setresuid(0)", "close_range", "execve(/usr/bin/box)", "execve(/bin/box)"} {
		i := strings.Index(text[at:], step)
		if i < 0 {
			t.Fatalf("%q is not where it should be in\n%s", step, text)
		}
		at += i
	}
}

func TestWaitingEndsWithTheRuntimeButNotTheContainer(t *testing.T) {
	r := newRuntime(t)
	p := newPod(t, r)
	ctx := context.Background()
	st, err := p.Start(ctx, container(t, p, "c", "forever"))
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() {
		_, err := p.Wait(ctx, "c")
		got <- err
	}()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; fault.ClassOf(err) != fault.Unavailable {
		t.Errorf("Wait = %v", err)
	}
	again, err := r.OpenPod(ctx, "pod")
	if err != nil {
		t.Fatal(err)
	}
	if now, err := again.State(ctx, "c"); err != nil || now.Pid != st.Pid || now.Status != Running {
		t.Errorf("state = %+v, %v", now, err)
	}
}

func TestSysctlsAreFiles(t *testing.T) {
	for key, want := range map[string]string{
		"net.ipv4.ip_forward": "/proc/sys/net/ipv4/ip_forward", "net/ipv4/ip_forward": "/proc/sys/net/ipv4/ip_forward",
		"net.ipv4.conf.eth0/1.forwarding": "/proc/sys/net/ipv4/conf/eth0.1/forwarding", "net.../../x": "/proc/sys/net/x",
	} {
		if got := sysctlPath(key); !strings.HasPrefix(got, "/proc/sys/") || key != "net.../../x" && got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
}

func TestMountOptionsAreSorted(t *testing.T) {
	o, err := parseOptions([]string{"rbind", "ro", "rro", "nosuid", "rslave", "size=5m", "exec"})
	if err != nil || !o.bind || !o.recursive || o.set == 0 || o.recursiveSet == 0 || !o.recursivePropagt || len(o.data) != 1 || o.data[0] != "size=5m" {
		t.Errorf("got %+v, %v", o, err)
	}
	if _, err := parseOptions([]string{"idmap"}); !errors.As(err, new(*fault.Error)) {
		t.Errorf("an option that is not there yet: %v", err)
	}
}

func TestALostConnectionIsMadeAnew(t *testing.T) {
	p := newPod(t, newRuntime(t))
	ctx := context.Background()
	cfg := container(t, p, "c", "copy", "exit", "9")
	cfg.Stdin, cfg.StdinOnce = true, true
	if _, err := p.Start(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	got := make(chan Exit, 1)
	go func() {
		e, err := p.Wait(ctx, "c")
		if err != nil {
			t.Error(err)
		}
		got <- e
	}()
	p.conn().Close()
	if err := p.Attach(ctx, "c", Streams{Stdin: strings.NewReader("x")}); err != nil {
		t.Fatal(err)
	}
	if e := <-got; e.Code != 9 {
		t.Errorf("exit = %+v", e)
	}
}
