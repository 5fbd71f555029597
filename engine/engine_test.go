package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sampan/engine"
	"sampan/engine/enginetest"
	"sampan/engine/runtime"
	"sampan/internal/fault"
)

func TestMain(m *testing.M) {
	enginetest.Main(m, map[string]func(){"churn": churn, "start": startOne})
}

// open opens an engine on fresh directories with the test image in it. At the
// end everything is reset and nothing may be left.
func open(t testing.TB) (*engine.Engine, engine.Config) {
	t.Helper()
	dir := t.TempDir()
	c := engine.Config{State: filepath.Join(dir, "state"), Run: filepath.Join(dir, "run")}
	before := traces(t, c)
	e := reopen(t, c)
	if _, err := e.Images.Load(t.Context(), enginetest.Archive(t), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Reset(context.Background(), c); err != nil {
			t.Errorf("reset: %v", err)
		}
		if after := traces(t, c); after != before {
			t.Errorf("left behind after reset:\n%s\nbefore:\n%s", after, before)
		}
	})
	return e, c
}

func reopen(t testing.TB, c engine.Config) *engine.Engine {
	t.Helper()
	e, err := engine.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// traces is what an engine could leave on the machine: mounts, links, control
// groups, its directories, processes of its instance.
func traces(t testing.TB, c engine.Config) string {
	t.Helper()
	var b strings.Builder
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, c.State) || strings.Contains(line, c.Run) {
			b.WriteString(line)
		}
	}
	links, err := os.ReadDir("/sys/class/net")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Name(), "sc") {
			b.WriteString("link " + l.Name() + "\n")
		}
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/" + engine.Instance(c.State))
	for _, dir := range append(groups, "/sys/fs/cgroup/"+engine.Instance(c.State), c.Run, c.State) { // version 1, version 2
		if _, err := os.Stat(dir); err == nil {
			b.WriteString(dir + "\n")
		}
	}
	procs, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range procs {
		if cmd, err := os.ReadFile(p); err == nil && strings.Contains(string(cmd), c.Run) {
			b.WriteString(p + " " + string(cmd) + "\n")
		}
	}
	return b.String()
}

// run runs a command in a new container and returns what it put out.
func run(t *testing.T, e *engine.Engine, sc engine.SandboxConfig, c engine.ContainerConfig) (stdout, stderr string, code int) {
	t.Helper()
	c.Image = enginetest.Image
	made, err := e.CreateStandalone(t.Context(), sc, c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Start(t.Context(), made.ID); err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	if err := e.Logs(t.Context(), made.ID, engine.LogOptions{Follow: true, Tail: -1}, &out, &errOut); err != nil {
		t.Fatal(err)
	}
	st, err := e.Wait(t.Context(), made.ID)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Remove(t.Context(), made.ID, false); err != nil {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), st.ExitCode
}

func TestContainerDoesWhatItsConfigurationSays(t *testing.T) {
	e, _ := open(t)
	for _, c := range []struct {
		it     string
		sc     engine.SandboxConfig
		config engine.ContainerConfig
		out    string // a part of the output
		code   int
	}{
		{it: "runs the image's command", out: "hello\n"},
		{it: "runs another command with the image's entrypoint", config: engine.ContainerConfig{Command: []string{"echo", "ahoy"}}, out: "ahoy\n"},
		{it: "leaves out the image's command with another entrypoint",
			config: engine.ContainerConfig{Entrypoint: []string{"/bin/program", "echo", "alone"}}, out: "alone\n"},
		{it: "keeps the exit code", config: engine.ContainerConfig{Command: []string{"exit", "7"}}, code: 7},
		{it: "is root, process 1, in the image's directory", sc: engine.SandboxConfig{Hostname: "skiff"},
			config: engine.ContainerConfig{Command: []string{"who"}}, out: "0 0 [0] skiff 1 /work\n"},
		{it: "becomes the user that is named, with its groups", sc: engine.SandboxConfig{Hostname: "skiff"},
			config: engine.ContainerConfig{Command: []string{"who"}, User: "sailor", Groups: []uint32{7}}, out: "1000 1000 [7 1000 2000] skiff 1 /work\n"},
		{it: "becomes a number that is not in passwd", sc: engine.SandboxConfig{Hostname: "skiff"},
			config: engine.ContainerConfig{Command: []string{"who"}, User: "5:6"}, out: "5 6 [6] skiff 1 /work\n"},
		{it: "has the environment of image and container", config: engine.ContainerConfig{Command: []string{"env"}, Env: []string{"MINE=1", "IMAGE=no"}},
			out: "IMAGE=no\nMINE=1\nHOME=/root\n"},
		{it: "has its own hosts file", sc: engine.SandboxConfig{Hostname: "skiff"},
			config: engine.ContainerConfig{Command: []string{"cat", "/etc/hosts"}}, out: "\tskiff\n"},
		{it: "cannot write to a read-only root", config: engine.ContainerConfig{Command: []string{"write", "/x", "y"}, ReadOnlyRootFS: true},
			out: "read-only file system", code: 1},
		{it: "writes to its own root", config: engine.ContainerConfig{Command: []string{"write", "/x", "y"}}},
		{it: "writes to a tmpfs on a read-only root", config: engine.ContainerConfig{Command: []string{"write", "/tmp/x", "y"}, ReadOnlyRootFS: true,
			Mounts: []engine.Mount{{Type: "tmpfs", Target: "/tmp"}}}},
		{it: "has the default capabilities and a filter", config: engine.ContainerConfig{Command: []string{"cat", "/proc/self/status"}},
			out: "CapBnd:\t00000000a80425fb"},
		{it: "drops what is to be dropped", config: engine.ContainerConfig{Command: []string{"cat", "/proc/self/status"}, CapDrop: []string{"ALL"}, CapAdd: []string{"net_raw"}},
			out: "CapEff:\t0000000000002000"},
		{it: "gets no new privileges", config: engine.ContainerConfig{Command: []string{"cat", "/proc/self/status"}, NoNewPrivileges: true}, out: "NoNewPrivs:\t1\n"},
		{it: "is unconfined if asked for", config: engine.ContainerConfig{Command: []string{"cat", "/proc/self/status"}, Seccomp: "unconfined"}, out: "Seccomp:\t0\n"},
		{it: "has a network without links", sc: engine.SandboxConfig{Network: engine.NetworkNone},
			config: engine.ContainerConfig{Command: []string{"cat", "/proc/net/route"}}, out: "Iface"},
		{it: "has a route on the default network", config: engine.ContainerConfig{Command: []string{"cat", "/proc/net/route"}}, out: "eth0\t00000000\t0101FEA9"},
		{it: "has the kernel parameters asked for", sc: engine.SandboxConfig{Sysctls: map[string]string{"net.ipv4.ip_unprivileged_port_start": "80"}},
			config: engine.ContainerConfig{Command: []string{"cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"}}, out: "80\n"},
	} {
		t.Run(c.it, func(t *testing.T) {
			out, errOut, code := run(t, e, c.sc, c.config)
			if code != c.code || !strings.Contains(out+errOut, c.out) {
				t.Errorf("got code %d, output %q %q; want code %d and %q", code, out, errOut, c.code, c.out)
			}
		})
	}
}

func TestMistakesAreNamed(t *testing.T) {
	e, _ := open(t)
	for _, c := range []struct {
		it    string
		c     engine.ContainerConfig
		class fault.Class
		says  string
	}{
		{"an image that is not here", engine.ContainerConfig{Image: "nowhere:1"}, fault.NotFound, "nowhere"},
		{"a capability that is none", engine.ContainerConfig{CapAdd: []string{"SWIM"}}, fault.Invalid, "SWIM"},
		{"a relative working directory", engine.ContainerConfig{WorkingDir: "work"}, fault.Invalid, "work"},
		{"a mount onto the root", engine.ContainerConfig{Mounts: []engine.Mount{{Type: "bind", Source: "/tmp", Target: "/"}}}, fault.Invalid, "/"},
		{"a name with a space", engine.ContainerConfig{Name: "a b"}, fault.Invalid, "a b"},
	} {
		if c.c.Image == "" {
			c.c.Image = enginetest.Image
		}
		_, err := e.CreateStandalone(t.Context(), engine.SandboxConfig{}, c.c)
		if fault.ClassOf(err) != c.class || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: got %v, want class %v and %q named", c.it, err, c.class, c.says)
		}
	}
	for _, c := range []struct {
		entrypoint string
		code       int
	}{{"/nope", 127}, {"nope", 127}, {"/etc/passwd", 126}} {
		made, err := e.CreateStandalone(t.Context(), engine.SandboxConfig{}, engine.ContainerConfig{Image: enginetest.Image, Entrypoint: []string{c.entrypoint}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.Start(t.Context(), made.ID)
		got, _ := e.Inspect(t.Context(), made.ID)
		if err == nil || got.Status.ExitCode != c.code || got.Status.State != engine.Exited {
			t.Errorf("start of %s: got %v and %+v, want exit code %d", c.entrypoint, err, got.Status, c.code)
		}
	}
	if list, err := e.List(t.Context()); err != nil || len(list) != 3 {
		t.Errorf("got %d containers, %v; those that could not be made must leave nothing", len(list), err)
	}
}

// start makes a stand-alone container that runs and says it is ready.
func start(t testing.TB, e *engine.Engine, name string, command ...string) engine.Container {
	t.Helper()
	made, err := e.CreateStandalone(t.Context(), engine.SandboxConfig{}, engine.ContainerConfig{Name: name, Image: enginetest.Image, Command: command, Detached: true})
	if err != nil {
		t.Fatal(err)
	}
	c, err := e.Start(t.Context(), made.ID)
	if err != nil {
		t.Fatal(err)
	}
	ready(t, e, c.ID)
	return c
}

// ready waits until the container puts something out.
func ready(t testing.TB, e *engine.Engine, id string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := e.Logs(ctx, id, engine.LogOptions{Follow: true, Tail: -1}, writerFunc(func(p []byte) (int, error) { return 0, errReady }), nil)
	if !errors.Is(err, errReady) {
		t.Fatalf("container %s did not get ready: %v", id, err)
	}
}

var errReady = errors.New("ready")

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestLifeOfAContainer(t *testing.T) {
	e, _ := open(t)
	ctx := t.Context()
	c := start(t, e, "boat", "wait")
	var out bytes.Buffer
	exit, err := e.Exec(ctx, "boat", engine.Exec{Args: []string{"/bin/program", "who"}, User: "sailor", WorkingDir: "/etc"}, runtime.Streams{Stdout: &out})
	if err != nil || exit.Code != 0 || !strings.HasPrefix(out.String(), "1000 1000 ") || !strings.Contains(out.String(), "/etc\n") {
		t.Errorf("exec: got %q, %+v, %v", out.String(), exit, err)
	}
	out.Reset()
	exit, err = e.Exec(ctx, c.ID[:6], engine.Exec{Args: []string{"/bin/program", "cat"}, Env: []string{"A=b"}}, runtime.Streams{Stdin: strings.NewReader("through"), Stdout: &out})
	if err != nil || out.String() != "through" {
		t.Errorf("exec with input: got %q, %+v, %v", out.String(), exit, err)
	}
	if exit, err = e.Exec(ctx, "boat", engine.Exec{Args: []string{"/bin/program", "exit", "9"}}, runtime.Streams{}); err != nil || exit.Code != 9 {
		t.Errorf("exec: got %+v, %v; want code 9", exit, err)
	}
	if st, err := e.Stats(ctx, "boat"); err != nil || st.Cgroup.Pids == 0 || st.Cgroup.MemoryUsage == 0 {
		t.Errorf("statistics: got %+v, %v", st, err)
	}
	if text, err := e.Explain(ctx, "boat"); err != nil || !strings.Contains(text, "pivot_root") {
		t.Errorf("explain: got %v and\n%s", err, text)
	}
	if err := e.Remove(ctx, "boat", false); fault.ClassOf(err) != fault.Conflict {
		t.Errorf("remove of one that runs: got %v, want a conflict", err)
	}
	if err := e.Stop(ctx, "boat", time.Minute); err != nil {
		t.Fatal(err)
	}
	got, err := e.Inspect(ctx, "boat")
	if err != nil || got.Status.State != engine.Exited || got.Status.ExitCode != 3 {
		t.Errorf("after stop: got %+v, %v; want code 3 of the handler", got.Status, err)
	}
	if err := e.Settle(ctx, c.ID); err != nil {
		t.Fatal(err)
	}
	if again, err := e.Start(ctx, "boat"); err != nil || again.Status.Restarts != 1 || again.Status.Pid == c.Status.Pid {
		t.Errorf("second start: got %+v, %v", again.Status, err)
	}
	if _, err := e.CreateStandalone(ctx, engine.SandboxConfig{}, engine.ContainerConfig{Name: "boat", Image: enginetest.Image}); fault.ClassOf(err) != fault.Exists {
		t.Errorf("second container of the same name: got %v, want exists", err)
	}
	stubborn := start(t, e, "stubborn", "stubborn")
	if err := e.Stop(ctx, stubborn.ID, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if got, err := e.Inspect(ctx, "stubborn"); err != nil || got.Status.ExitCode != 137 {
		t.Errorf("after a stop it does not heed: got %+v, %v; want code 137", got.Status, err)
	}
	for _, name := range []string{"boat", "stubborn"} {
		if err := e.Remove(ctx, name, true); err != nil {
			t.Error(err)
		}
		if _, err := e.Inspect(ctx, name); fault.ClassOf(err) != fault.NotFound {
			t.Errorf("after remove: got %v, want not found", err)
		}
	}
}

func TestTwentyContainersAtOnce(t *testing.T) {
	e, _ := open(t)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			want := fmt.Sprintf("number %d\n", i)
			out, _, code := run(t, e, engine.SandboxConfig{}, engine.ContainerConfig{Command: []string{"echo", "number", fmt.Sprint(i)}})
			if out != want || code != 0 {
				t.Errorf("got %q, code %d; want %q", out, code, want)
			}
		})
	}
	wg.Wait()
	if list, err := e.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("got %d containers, %v; want none", len(list), err)
	}
}

func TestVolumeOutlivesContainers(t *testing.T) {
	e, _ := open(t)
	m := []engine.Mount{{Type: "volume", Source: "cargo", Target: "/cargo"}}
	if _, errOut, code := run(t, e, engine.SandboxConfig{}, engine.ContainerConfig{Command: []string{"write", "/cargo/tea", "green"}, Mounts: m}); code != 0 {
		t.Fatal(errOut)
	}
	m[0].ReadOnly = true
	if out, errOut, _ := run(t, e, engine.SandboxConfig{}, engine.ContainerConfig{Command: []string{"cat", "/cargo/tea"}, Mounts: m}); out != "green" {
		t.Errorf("got %q %q, want green", out, errOut)
	}
	if _, errOut, code := run(t, e, engine.SandboxConfig{}, engine.ContainerConfig{Command: []string{"write", "/cargo/tea", "black"}, Mounts: m}); code == 0 || !strings.Contains(errOut, "read-only") {
		t.Errorf("write to a read-only mount: got code %d, %q", code, errOut)
	}
}

func TestPublishedPortLeadsToTheContainer(t *testing.T) {
	e, _ := open(t)
	ctx := t.Context()
	publish := func(name string) error {
		made, err := e.CreateStandalone(ctx, engine.SandboxConfig{Ports: []engine.PortMapping{{HostPort: 8080, ContainerPort: 80}}},
			engine.ContainerConfig{Name: name, Image: enginetest.Image, Command: []string{"serve", "80"}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.Start(ctx, made.ID)
		return err
	}
	if err := publish("first"); err != nil {
		t.Fatal(err)
	}
	ready(t, e, "first")
	box, err := e.Sandbox(ctx, mustResolve(t, e, "first"))
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"127.0.0.1:8080", box.IPs[0].String() + ":80"} {
		if got := fetch(t, at); got != "hello\n" {
			t.Errorf("%s: got %q, want hello", at, got)
		}
	}
	if err := publish("second"); fault.ClassOf(err) != fault.Conflict || !strings.Contains(err.Error(), "0.0.0.0:8080/tcp") {
		t.Errorf("a port in use: got %v, want a conflict that names it", err)
	}
	if err := e.Remove(ctx, "first", true); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Start(ctx, "second"); err != nil {
		t.Errorf("after the port became free: %v", err)
	}
}

func mustResolve(t *testing.T, e *engine.Engine, name string) string {
	t.Helper()
	id, err := e.Resolve(name)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func fetch(t *testing.T, at string) string {
	t.Helper()
	c, err := net.DialTimeout("tcp", at, 5*time.Second)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	b, _ := io.ReadAll(c)
	return string(b)
}
