package runtime

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"sampan/internal/fault"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// waitLog returns once the log says text. The file is written by the monitor,
// so its events are what there is to wait for.
func waitLog(t testing.TB, path, text string) {
	t.Helper()
	until(t, path, func() bool { return strings.Contains(logged(t, path), text) })
}

func TestExecRunsInsideTheContainer(t *testing.T) {
	rt := newRuntime(t)
	p := newPod(t, rt)
	ctx := context.Background()
	if _, err := p.Start(ctx, container(t, p, "c", "forever")); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	exit, err := p.Exec(ctx, "c", ExecConfig{Args: []string{"box", "hostname", "ls", "/", "id", "env", "X", "cat", "/proc/self/status", "cat", "/proc/self/cgroup", "error", "oops", "copy", "exit", "5"},
		Env: []string{"PATH=/bin", "X=y"}, User: &specs.User{UID: 7, GID: 8}}, Streams{Stdin: strings.NewReader("in\n"), Stdout: &out, Stderr: &errs})
	if err != nil || exit.Code != 5 {
		t.Fatalf("exit = %+v, %v", exit, err)
	}
	for _, want := range []string{"aboard\nbin dev etc proc sys tmp \n7 8 []\ny\n", "Seccomp:\t2", "CapEff:\t0000000000000000", groupSeen(rt), "in\neof\n", "SigIgn:\t0000000000000000"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("output\n%s\nwithout %q", out.String(), want)
		}
	}
	if errs.String() != "oops\n" {
		t.Errorf("standard error is %q", errs.String())
	}
	_, err = p.Exec(ctx, "c", ExecConfig{Args: []string{"nothing"}}, Streams{})
	if code, ok := ExitCodeOf(err); !ok || code != 127 {
		t.Errorf("a program that is not there: %v", err)
	}
	var many bytes.Buffer
	if exit, err := p.Exec(ctx, "c", ExecConfig{Args: []string{"box", "count", "20000"}}, Streams{Stdout: &many}); err != nil || exit.Code != 0 {
		t.Errorf("exit = %+v, %v", exit, err)
	}
	if n := strings.Count(many.String(), "\n"); n != 20000 {
		t.Errorf("%d lines of 20000 arrive", n)
	}
	stop, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	go func() { io.ReadFull(r, make([]byte, 5)); cancel(); io.Copy(io.Discard, r) }()
	if _, err := p.Exec(stop, "c", ExecConfig{Args: []string{"box", "forever"}}, Streams{Stdout: w}); err == nil {
		t.Error("an exec whose context has ended gives no error")
	}
	if _, err := p.Exec(ctx, "no", ExecConfig{Args: []string{"box"}}, Streams{}); fault.ClassOf(err) != fault.NotFound {
		t.Errorf("exec in a container that is not there: %v", err)
	}
}

func TestExecWithATerminal(t *testing.T) {
	p := newPod(t, newRuntime(t))
	ctx := context.Background()
	if _, err := p.Start(ctx, container(t, p, "c", "forever")); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	exit, err := p.Exec(ctx, "c", ExecConfig{Args: []string{"box", "tty", "echo", "hi", "exit", "3"}, TTY: true, Size: Size{120, 40}}, Streams{Stdout: &out})
	if err != nil || exit.Code != 3 {
		t.Fatalf("exit = %+v, %v", exit, err)
	}
	if out.String() != "tty true 120 40\r\nhi\r\n" {
		t.Errorf("output %q", out.String())
	}
}

func TestAttachToATerminal(t *testing.T) {
	p := newPod(t, newRuntime(t))
	ctx := context.Background()
	cfg := container(t, p, "c", "copy", "tty", "ls", "/dev")
	cfg.TTY, cfg.Stdin = true, true
	cfg.Spec.Process.ConsoleSize = &specs.Box{Height: 30, Width: 100}
	if _, err := p.Start(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	if err := p.Resize(ctx, "c", 90, 20); err != nil {
		t.Error(err)
	}
	in, type_ := io.Pipe()
	out := &waiter{want: "ahoy\r\nahoy\r\n", found: make(chan struct{})} // echo and copy
	go func() {
		type_.Write([]byte("ahoy\n"))
		<-out.found
		type_.Write([]byte{4}) // end of input, as typed
	}()
	if err := p.Attach(ctx, "c", Streams{Stdin: in, Stdout: out}); err != nil {
		t.Fatal(err)
	}
	if s := out.String(); !strings.Contains(s, "eof\r\ntty true 90 20\r\n") || !strings.Contains(s, "console") {
		t.Errorf("output %q", s)
	}
	if l := logged(t, cfg.LogPath); !strings.Contains(l, "eof") {
		t.Errorf("log %q", l)
	}
}

func TestAttachFeedsAndFollows(t *testing.T) {
	p := newPod(t, newRuntime(t))
	ctx := context.Background()
	cfg := container(t, p, "c", "copy", "error", "bye", "count", "5000")
	cfg.Stdin, cfg.StdinOnce = true, true
	if _, err := p.Start(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if err := p.Attach(ctx, "c", Streams{Stdin: strings.NewReader("cargo\n"), Stdout: &out, Stderr: &errs}); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), "cargo\neof\nline 0") || strings.Count(out.String(), "\n") != 5002 || errs.String() != "bye\n" {
		t.Errorf("output %.60q (%d lines), errors %q", out.String(), strings.Count(out.String(), "\n"), errs.String())
	}
	if l := logged(t, cfg.LogPath); strings.Count(l, "\n") != 5003 {
		t.Errorf("the log has %d lines", strings.Count(l, "\n"))
	}
	if err := p.Attach(ctx, "c", Streams{Stdout: &out}); err == nil {
		t.Error("attaching to what has ended gives no error")
	}
}

// Who hears of an end finds in the log what came before it, also what has no end
// of line and was read when its pipe was closed.
func TestLastWordsAreInTheLogAtTheEnd(t *testing.T) {
	p := newPod(t, newRuntime(t))
	for i := range 30 {
		if got, exit := output(t, p, container(t, p, fmt.Sprintf("c%d", i), "last-words")); got != "green\n" || exit.Code != 0 {
			t.Fatalf("the log has %q at the end, %+v", got, exit)
		}
	}
}

func TestLogsRotateAndReopen(t *testing.T) {
	p := newPod(t, newRuntime(t))
	ctx := context.Background()
	cfg := container(t, p, "c", "count", "2000")
	cfg.LogMaxSize, cfg.LogMaxFiles = 100<<10, 2
	if _, exit := output(t, p, cfg); exit.Code != 0 {
		t.Errorf("exit = %+v", exit)
	}
	for _, name := range []string{cfg.LogPath, cfg.LogPath + ".1", cfg.LogPath + ".2"} {
		if st, err := os.Stat(name); err != nil || st.Size() > 100<<10+64<<10 {
			t.Errorf("%s: %v, %v", name, st, err)
		}
	}
	cfg = container(t, p, "d", "copy", "echo", "after")
	cfg.Stdin, cfg.StdinOnce = true, true
	if _, err := p.Start(ctx, cfg); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(cfg.LogPath, cfg.LogPath+".old"); err != nil {
		t.Fatal(err)
	}
	if err := p.ReopenLog(ctx, "d"); err != nil {
		t.Fatal(err)
	}
	if err := p.Attach(ctx, "d", Streams{Stdin: strings.NewReader("")}); err != nil {
		t.Fatal(err)
	}
	if l := logged(t, cfg.LogPath); l != "eof\nafter\n" {
		t.Errorf("the new log is %q", l)
	}
}

// waiter is a buffer that tells when it holds a text.
type waiter struct {
	mu    sync.Mutex // guards b
	b     bytes.Buffer
	want  string
	found chan struct{}
}

func (w *waiter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	had := strings.Contains(w.b.String(), w.want)
	w.b.Write(p)
	if !had && strings.Contains(w.b.String(), w.want) {
		close(w.found)
	}
	return len(p), nil
}

func (w *waiter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}
