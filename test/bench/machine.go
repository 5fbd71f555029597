package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// machine is where the program runs: this process's network namespace and a
// directory.
type machine struct {
	sampan, dir, state, run, kubeconfig string
	image                               string // directory to build the guest from
	profiles                            string // where profiles go; empty: nowhere
}

func (m *machine) open(ctx context.Context, sampan, profiles string) error {
	dir, err := os.MkdirTemp("", "sampan-bench-")
	if err != nil {
		return err
	}
	*m = machine{sampan: sampan, dir: dir, state: filepath.Join(dir, "state"), run: filepath.Join(dir, "run"),
		kubeconfig: filepath.Join(dir, "kubeconfig"), image: filepath.Join(dir, "image"), profiles: profiles}
	build := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", filepath.Join(m.image, "guest"), "sampan/test/bench/guest")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		os.RemoveAll(dir)
		return fmt.Errorf("build the guest: %w\n%s", err, out)
	}
	return os.WriteFile(filepath.Join(m.image, "Dockerfile"), []byte("FROM scratch\nCOPY guest /guest\nENTRYPOINT [\"/guest\"]\n"), 0o600)
}

// close removes every trace, also after an interruption.
func (m *machine) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := m.reset(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "bench: clean up: %v (state is left in %s)\n", err, m.dir)
		return
	}
	os.RemoveAll(m.dir)
}

// command prepares the program on this machine.
func (m *machine) command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, m.sampan, append([]string{"--state", m.state, "--run", m.run}, args...)...)
	c.Env = append(os.Environ(), "KUBECONFIG="+m.kubeconfig)
	c.WaitDelay = time.Second // a detached program may keep the pipes
	return c
}

// call runs a command of the program and returns what it printed.
func (m *machine) call(ctx context.Context, args ...string) (string, error) {
	var out, trouble bytes.Buffer
	c := m.command(ctx, args...)
	c.Stdout, c.Stderr = &out, &trouble
	if err := c.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return "", fmt.Errorf("sampan %s: %w\n%s%s", strings.Join(args, " "), err, out.String(), trouble.String())
	}
	return out.String(), nil
}

func (m *machine) up(ctx context.Context) error {
	_, err := m.call(ctx, "up", "--detach", "--kubeconfig", m.kubeconfig)
	return err
}

func (m *machine) reset(ctx context.Context) error {
	_, err := m.call(ctx, "reset", "--yes")
	return err
}

// fresh starts the program on no state at all, and gives it the guest's image.
func (m *machine) fresh(ctx context.Context) error {
	if err := m.reset(ctx); err != nil {
		return err
	}
	if err := m.up(ctx); err != nil {
		return err
	}
	_, err := m.call(ctx, "build", "-t", guestImage, m.image)
	return err
}

const guestImage = "bench/guest:1"

// usage is what processes cost together, as sampan status has it.
type usage struct {
	Processes int   `json:"processes"`
	RSS       int64 `json:"rssBytes"`
	Private   int64 `json:"privateBytes"`
}

type status struct {
	PID      int   `json:"pid"`
	Program  usage `json:"program"`
	Monitors usage `json:"monitors"`
	All      usage `json:"all"`
}

func (m *machine) status(ctx context.Context) (s status, err error) {
	out, err := m.call(ctx, "status", "-o", "json")
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// config is a client's configuration with a connection of its own and no
// limit of its own.
func (m *machine) config(contentType string) (*rest.Config, error) {
	cfg, err := clientcmd.BuildConfigFromFlags("", m.kubeconfig)
	if err != nil {
		return nil, err
	}
	cfg.QPS, cfg.ContentType = -1, contentType
	if contentType == asProtobuf {
		cfg.AcceptContentTypes = asProtobuf + "," + asJSON
	}
	// client-go shares connections between configurations that are equal; a
	// dialer makes this one unlike any other.
	cfg.Dial = (&net.Dialer{}).DialContext
	return cfg, nil
}

const (
	asJSON     = "application/json"
	asProtobuf = "application/vnd.kubernetes.protobuf"
)

func (m *machine) client(contentType string) (*kubernetes.Clientset, error) {
	cfg, err := m.config(contentType)
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(cfg)
}

// raw asks for a path of the API and hands its answer to f.
func (m *machine) raw(ctx context.Context, path string, to io.Writer) error {
	c, err := m.client(asJSON)
	if err != nil {
		return err
	}
	body, err := c.CoreV1().RESTClient().Get().RequestURI(path).Stream(ctx)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(to, body)
	return err
}

// keepProfiles saves what the program says of its memory and goroutines.
func (m *machine) keepProfiles(ctx context.Context, part string) {
	if m.profiles == "" || os.MkdirAll(m.profiles, 0o755) != nil {
		return
	}
	if _, err := os.Stat(m.kubeconfig); err != nil {
		return // the part has left nothing that runs
	}
	for _, p := range []string{"heap", "goroutine", "allocs"} {
		m.keep(ctx, part+"."+p, "/debug/pprof/"+p)
	}
	if log, err := os.ReadFile(filepath.Join(m.run, "sampan.log")); err == nil {
		_ = os.WriteFile(filepath.Join(m.profiles, part+".log"), log, 0o644)
	}
}

// keepCPU saves where the program's time goes from now on; what it returns is
// closed at the end.
func (m *machine) keepCPU(ctx context.Context, name string, seconds int) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.keep(ctx, name+".cpu", fmt.Sprintf("/debug/pprof/profile?seconds=%d", seconds))
	}()
	return done
}

func (m *machine) keep(ctx context.Context, name, path string) {
	if m.profiles == "" || os.MkdirAll(m.profiles, 0o755) != nil {
		return
	}
	f, err := os.Create(filepath.Join(m.profiles, name+".pprof"))
	if err == nil {
		err = errors.Join(m.raw(ctx, path, f), f.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: profile:", err)
	}
}

// tellLog prints the end of the program's log, for whoever looks for the
// cause of a failure.
func (m *machine) tellLog() {
	log, err := os.ReadFile(filepath.Join(m.run, "sampan.log"))
	if err != nil {
		return
	}
	lines := strings.Split(strings.TrimRight(string(log), "\n"), "\n")
	fmt.Fprintln(os.Stderr, strings.Join(lines[max(0, len(lines)-20):], "\n"))
}
