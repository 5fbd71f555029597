package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"sampan/internal/netlink"
)

// tools are the programs under test, built once.
var tools struct{ dir, sampan, kubectl, hello, probe string }

func TestMain(m *testing.M) {
	if os.Getenv("E2E_HOLD") != "" {
		io.Copy(io.Discard, os.Stdin) // holds a network namespace until the test ends
		return
	}
	code := 1
	defer func() { os.Exit(code) }()
	dir, err := os.MkdirTemp("", "sampan-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer os.RemoveAll(dir)
	tools.dir = dir
	for _, b := range []struct {
		out *string
		pkg string
	}{
		{&tools.sampan, "sampan/cmd/sampan"}, {&tools.kubectl, "sampan/test/kubectl"},
		{&tools.hello, "sampan/examples/hello"}, {&tools.probe, "sampan/test/probe"},
	} {
		*b.out = filepath.Join(dir, filepath.Base(b.pkg))
		build := exec.Command("go", "build", "-o", *b.out, b.pkg)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", b.pkg, err, out)
			return
		}
	}
	code = m.Run()
}

// host is a machine of its own, as far as the network goes: a namespace that
// has only lo, with directories for one instance.
type host struct {
	*testing.T
	ns         string
	state, run string
	kubeconfig string
}

func newHost(t *testing.T) *host {
	t.Helper()
	hold := exec.Command("/proc/self/exe")
	hold.Env = append(os.Environ(), "E2E_HOLD=1")
	hold.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	leash, err := hold.StdinPipe()
	if err == nil {
		err = hold.Start()
	}
	if err != nil {
		t.Fatal("these tests need root: ", err)
	}
	t.Cleanup(func() { leash.Close(); hold.Wait() })
	up, err := netlink.OpenAt(fmt.Sprintf("/proc/%d/ns/net", hold.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	if err := up.SetUp(1); err != nil { // lo, as on any machine
		t.Fatal(err)
	}
	dir := t.TempDir()
	h := &host{T: t, ns: fmt.Sprintf("/proc/%d/ns/net", hold.Process.Pid),
		state: filepath.Join(dir, "state"), run: filepath.Join(dir, "run"), kubeconfig: filepath.Join(dir, "etc", "kubeconfig")}
	t.Cleanup(func() {
		if t.Failed() {
			if log, err := os.ReadFile(filepath.Join(h.run, "sampan.log")); err == nil {
				t.Logf("log of the program:\n%s", tail(string(log), 60))
			}
		}
		if out, err := h.try(nil, tools.sampan, h.args("reset", "--yes")...); err != nil {
			t.Errorf("reset: %v\n%s", err, out)
		}
	})
	return h
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// inside calls fn on a thread in the host's network namespace. What fn starts
// or opens there stays there.
func (h *host) inside(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends here
		ns, err := netns.GetFromPath(h.ns)
		if err == nil {
			err = netns.Set(ns)
		}
		if err != nil {
			h.Error(err)
			return
		}
		fn()
	}()
	<-done
}

func (h *host) args(args ...string) []string {
	return append([]string{"--state", h.state, "--run", h.run}, args...)
}

// command prepares a program on the host.
func (h *host) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, name, args...)
	c.Env = append(os.Environ(), "KUBECONFIG="+h.kubeconfig, "HOME="+tools.dir)
	return c
}

// try runs a program on the host and returns what it printed. The bound is for
// what hangs.
func (h *host) try(stdin io.Reader, name string, args ...string) (string, error) {
	for {
		out, err := h.once(stdin, name, args...)
		// kubectl drops what comes over a WebSocket before it has made its
		// streams, and says so: that try was not the server's.
		if !strings.Contains(out, "Unknown stream id") {
			return out, err
		}
	}
}

func (h *host) once(stdin io.Reader, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c := h.command(ctx, name, args...)
	var out bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = stdin, &out, &out
	// A detached program keeps the pipe's end open: wait for the process only.
	c.WaitDelay = time.Second
	var err error
	h.inside(func() { err = c.Start() })
	if err == nil {
		err = c.Wait()
	}
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return out.String(), err
}

func (h *host) sampan(args ...string) string {
	h.Helper()
	return h.must(nil, tools.sampan, h.args(args...)...)
}

func (h *host) kubectl(args ...string) string {
	h.Helper()
	return h.must(nil, tools.kubectl, args...)
}

func (h *host) apply(manifest string) string {
	h.Helper()
	return h.must(strings.NewReader(manifest), tools.kubectl, "apply", "-f", "-")
}

func (h *host) must(stdin io.Reader, name string, args ...string) string {
	h.Helper()
	out, err := h.try(stdin, name, args...)
	if err != nil {
		h.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return out
}

// fails runs a command that must not succeed, and checks what it says.
func (h *host) fails(says string, name string, args ...string) {
	h.Helper()
	out, err := h.try(nil, name, args...)
	if err == nil || !strings.Contains(out, says) {
		h.Errorf("%s %s: %v\n%swant an error that says %q", filepath.Base(name), strings.Join(args, " "), err, out, says)
	}
}

// up starts the program, detached.
func (h *host) up(flags ...string) {
	h.Helper()
	h.sampan(append([]string{"up", "--detach", "--kubeconfig", h.kubeconfig}, flags...)...)
}

// images builds what the tests run.
func (h *host) images() {
	h.Helper()
	for name, program := range map[string]string{"example/hello:1": tools.hello, "test/probe:1": tools.probe, "test/probe:2": tools.probe} {
		dir := h.TempDir()
		copyFile(h.T, program, filepath.Join(dir, "program"))
		file := "FROM scratch\nCOPY program /program\nCOPY program /bin/tar\nENV IMAGE=" + name + "\nWORKDIR /tmp\nENTRYPOINT [\"/program\"]\n"
		if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(file), 0o600); err != nil {
			h.Fatal(err)
		}
		h.sampan("build", "-t", name, dir)
	}
}

func copyFile(t *testing.T, from, to string) {
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// until repeats check until it returns nil. What it waits for has no other
// way to be heard of.
func (h *host) until(what string, check func() error) {
	h.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	h.Fatalf("%s: %v", what, err)
}

// says waits until a kubectl command prints want.
func (h *host) says(want string, args ...string) {
	h.Helper()
	h.until(strings.Join(args, " "), func() error {
		out, err := h.try(nil, tools.kubectl, args...)
		if err == nil && strings.Contains(out, want) {
			return nil
		}
		return fmt.Errorf("%v\n%swant %q", err, out, want)
	})
}

// get asks a URL from the host, with a new connection each time.
func (h *host) get(url string) (string, error) {
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: h.dial}}
	res, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = errors.New(res.Status)
	}
	return string(body), err
}

func (h *host) dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	h.inside(func() {
		d := net.Dialer{Timeout: 5 * time.Second}
		conn, err = d.DialContext(ctx, network, addr)
	})
	return conn, err
}
