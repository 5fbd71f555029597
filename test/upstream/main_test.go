package upstream

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/etcdutl/v3/etcdutl"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"golang.org/x/sys/unix"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

const (
	// asVariable in the environment makes the test binary one of upstream's
	// programs.
	asVariable = "UPSTREAM_AS"
	// nestVariable says that the namespaces are there.
	nestVariable = "UPSTREAM_NEST"
)

func TestMain(m *testing.M) {
	switch os.Getenv(asVariable) {
	case "etcd":
		etcdmain.Main(os.Args)
		return
	case "kube-apiserver":
		os.Exit(run(app.NewAPIServerCommand()))
	case "etcdutl":
		root := &cobra.Command{Use: "etcdutl"}
		root.AddCommand(etcdutl.NewSnapshotCommand())
		root.PersistentFlags().StringVarP(&etcdutl.OutputFormat, "write-out", "w", "simple", "")
		os.Exit(run(root))
	}
	if os.Getenv(nestVariable) == "" {
		os.Exit(nest())
	}
	if err := loopbackUp(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func run(c *cobra.Command) int {
	if err := c.Execute(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// nest runs the tests in namespaces of their own: whatever they start ends with
// them, and no packet leaves.
func nest() int {
	runtime.LockOSThread() // the child's death signal is bound to this thread
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), nestVariable+"=1")
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	if err := c.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func loopbackUp() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// daemon is a program that runs until it is stopped.
type daemon struct {
	cmd *exec.Cmd
	log string
}

// start runs one of upstream's programs, with its output in a file.
func start(t *testing.T, dir, name string, args ...string) *daemon {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	d := &daemon{cmd: exec.Command("/proc/self/exe", args...), log: log.Name()}
	d.cmd.Args[0] = name
	d.cmd.Env = append(os.Environ(), asVariable+"="+name)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.stop)
	return d
}

func (d *daemon) stop() {
	if d.cmd.ProcessState == nil {
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(20*time.Second, func() { _ = d.cmd.Process.Kill() })
		defer timer.Stop()
		_ = d.cmd.Wait()
	}
}

// lastWords are the end of what it printed.
func (d *daemon) lastWords() string {
	data, _ := os.ReadFile(d.log)
	return string(data[max(0, len(data)-3000):])
}

// within waits until f succeeds, for at most two minutes.
func within(t *testing.T, what string, f func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}
