package clients

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"sampan/test/clients/crew"
)

// These name, for the process that runs the tests, what the first process has
// prepared for it.
const (
	toolsVariable = "CLIENTS_TOOLS" // a directory of programs
	workVariable  = "CLIENTS_WORK"  // a directory for instances
)

var built = flag.String("sampan", "", "a built sampan to test (default: it is built of this checkout)")

// TestMain builds the programs, makes a network namespace that has lo only,
// and runs the tests in a second process there. It also ends what a process
// that was killed has left.
func TestMain(m *testing.M) {
	flag.Parse()
	code := 1
	if os.Getenv(workVariable) != "" {
		code = m.Run()
	} else if err := outside(); err == nil {
		code = 0
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func outside() error {
	root, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	tools := filepath.Join(root, ".cache", "clients")
	if err := build(root, tools); err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "sampan-clients-")
	if err != nil {
		return err
	}
	runtime.LockOSThread() // what is started from here is in the namespace
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		return fmt.Errorf("these tests need root: make a network namespace: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return err
	}
	// Who interrupts the tests interrupts them alone: what they started has to
	// be taken away.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	tests := exec.CommandContext(ctx, "/proc/self/exe", os.Args[1:]...)
	tests.Env = append(os.Environ(), toolsVariable+"="+tools, workVariable+"="+work)
	tests.Stdout, tests.Stderr = os.Stdout, os.Stderr
	tests.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = tests.Run()
	states, _ := filepath.Glob(filepath.Join(work, "*", "state"))
	for _, state := range states {
		reset := exec.Command(filepath.Join(tools, "sampan"), "--state", state, "--run", filepath.Join(filepath.Dir(state), "run"), "reset", "--yes")
		if out, failed := reset.CombinedOutput(); failed != nil {
			err = errors.Join(err, fmt.Errorf("reset %s: %w\n%s", state, failed, out))
		}
	}
	return errors.Join(err, os.RemoveAll(work))
}

// build makes the programs: the platform and what runs in containers of the
// product's module, the operator of this one.
func build(root, tools string) error {
	for _, b := range []struct{ dir, pkg string }{
		{root, "./cmd/sampan"}, {root, "./test/probe"}, {".", "./operator"},
	} {
		out := filepath.Join(tools, filepath.Base(b.pkg))
		c := exec.Command("go", "build", "-o", out, b.pkg)
		if *built != "" && b.pkg == "./cmd/sampan" {
			c = exec.Command("install", "-D", *built, out)
		}
		c.Dir, c.Env = b.dir, append(os.Environ(), "CGO_ENABLED=0")
		if said, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", b.pkg, err, said)
		}
	}
	return nil
}

// tool is the path of a program that was built.
func tool(name string) string { return filepath.Join(os.Getenv(toolsVariable), name) }

// host is one instance of the platform.
type host struct {
	*testing.T
	dir        string
	kubeconfig string
	config     *rest.Config
	client.Client
}

// newHost starts an instance, and builds the images that tests run: probe in
// two versions.
func newHost(t *testing.T) *host {
	t.Helper()
	dir, err := os.MkdirTemp(os.Getenv(workVariable), "host-")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{T: t, dir: dir, kubeconfig: filepath.Join(dir, "kubeconfig")}
	t.Cleanup(func() {
		if t.Failed() {
			if log, err := os.ReadFile(filepath.Join(dir, "run", "sampan.log")); err == nil {
				lines := strings.Split(strings.TrimSpace(string(log)), "\n")
				t.Logf("log of the program:\n%s", strings.Join(lines[max(0, len(lines)-60):], "\n"))
			}
		}
		h.sampan("reset", "--yes")
		os.RemoveAll(dir)
	})
	h.up()
	for _, name := range []string{"test/probe:1", "test/probe:2"} {
		context := filepath.Join(dir, "image")
		file := "FROM scratch\nCOPY program /program\nENV IMAGE=" + name + "\nWORKDIR /tmp\nENTRYPOINT [\"/program\"]\n"
		probe, err := os.ReadFile(tool("probe"))
		err = errors.Join(err, os.MkdirAll(context, 0o755), os.WriteFile(filepath.Join(context, "program"), probe, 0o755),
			os.WriteFile(filepath.Join(context, "Dockerfile"), []byte(file), 0o644))
		if err != nil {
			t.Fatal(err)
		}
		h.sampan("build", "-t", name, context)
	}
	if h.config, err = clientcmd.BuildConfigFromFlags("", h.kubeconfig); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(apiextensionsv1.AddToScheme(scheme.Scheme), crew.AddToScheme(scheme.Scheme)); err != nil {
		t.Fatal(err)
	}
	if h.Client, err = client.New(h.config, client.Options{}); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *host) up() {
	h.Helper()
	h.sampan("up", "--detach", "--kubeconfig", h.kubeconfig)
}

// sampan runs a subcommand on the instance. The bound is for what hangs.
func (h *host) sampan(args ...string) {
	h.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, tool("sampan"), append([]string{"--state", filepath.Join(h.dir, "state"), "--run", filepath.Join(h.dir, "run")}, args...)...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	// A detached program keeps the pipe's end open: wait for the process only.
	c.WaitDelay = time.Second
	if err := c.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		h.Fatalf("sampan %s: %v\n%s", strings.Join(args, " "), err, out.String())
	}
}

// until repeats check until it returns nil.
func (h *host) until(what string, check func() error) {
	h.Helper()
	var err error
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	h.Fatalf("%s: %v", what, err)
}

// get reads an object of the namespace default, or one that has none.
func get[T client.Object](h *host, into T, name string) T {
	h.Helper()
	if err := h.Get(h.Context(), client.ObjectKey{Namespace: "default", Name: name}, into); err != nil {
		h.Fatalf("get %T %s: %v", into, name, err)
	}
	return into
}

// createAll creates the objects in a file of YAML.
func (h *host) createAll(path string) {
	h.Helper()
	f, err := os.Open(path)
	if err != nil {
		h.Fatal(err)
	}
	defer f.Close()
	for d := yaml.NewYAMLOrJSONDecoder(f, 4096); ; {
		u := &unstructured.Unstructured{}
		switch err := d.Decode(u); {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			h.Fatal(err)
		}
		if err := h.Create(h.Context(), u); err != nil {
			h.Fatalf("create %s %s: %v", u.GetKind(), u.GetName(), err)
		}
	}
}
