package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cluster is one Sampan with its own directories, in this process's network
// namespace.
type cluster struct {
	c            *cache
	dir, reports string
}

// program is a copy: that of the cache, or the one given, may change meanwhile.
func (k *cluster) program() string { return filepath.Join(k.dir, "sampan") }

func (k *cluster) kubeconfig() string { return filepath.Join(k.dir, "kubeconfig") }

func (k *cluster) sampan(ctx context.Context, args ...string) error {
	args = append([]string{"--state", filepath.Join(k.dir, "state"), "--run", filepath.Join(k.dir, "run")}, args...)
	cmd := exec.CommandContext(ctx, k.program(), args...)
	// Files, not pipes: what is detached would keep a pipe's end open.
	out, err := os.OpenFile(filepath.Join(k.dir, "commands.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(out.Name())
		return fmt.Errorf("sampan %s: %w\n%s", strings.Join(args, " "), err, text)
	}
	return nil
}

// start brings lo up, and the platform with the images.
func (k *cluster) start(ctx context.Context, images string) error {
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	if err := k.sampan(ctx, "up", "--detach", "--kubeconfig", k.kubeconfig()); err != nil {
		return err
	}
	return k.sampan(ctx, "load", "--quiet", "-i", images)
}

func copyFile(to, from string, mode os.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// remove leaves nothing behind. It runs also after an interrupt.
func (k *cluster) remove(keep bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if log, err := os.ReadFile(filepath.Join(k.dir, "run", "sampan.log")); err == nil {
		if err := os.WriteFile(filepath.Join(k.reports, "sampan.log"), log, 0o644); err != nil {
			return err
		}
	}
	err := k.sampan(ctx, "reset", "--yes")
	if err == nil && !keep {
		err = os.RemoveAll(k.dir)
	}
	return err
}

func loopbackUp() error {
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
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

// runSuite starts the cluster, runs the specs and reports. It returns 1 if a
// spec failed.
func runSuite(ctx context.Context, c *cache, o options) (code int, err error) {
	dir, err := os.MkdirTemp("", "sampan-conformance-")
	if err != nil {
		return 0, err
	}
	previous, err := readReport(o.result)
	if o.lastFailed && err != nil {
		return 0, fmt.Errorf("nothing failed the last time: %w", err)
	}
	if err := os.RemoveAll(o.result); err != nil {
		return 0, err
	}
	if err := os.MkdirAll(o.result, 0o755); err != nil {
		return 0, err
	}
	k := &cluster{c: c, dir: dir, reports: o.result}
	defer func() {
		if e := k.remove(o.keep); e != nil && err == nil {
			err = e
		}
	}()
	if o.sampan == "" {
		o.sampan = c.bin("sampan")
	}
	if err := copyFile(k.program(), o.sampan, 0o755); err != nil {
		return 0, err
	}
	c.say("starting a cluster in %s", dir)
	if err := k.start(ctx, filepath.Join(c.dir, "images.tar")); err != nil {
		return 0, err
	}
	args, err := selection(o, previous)
	if err != nil {
		return 0, err
	}
	if err := ginkgo(ctx, k, o, args); err != nil {
		return 0, err
	}
	now, err := readReport(o.result)
	if err != nil {
		return 0, err
	}
	return report(c, o, now)
}

// ginkgo runs the specs. That specs fail is no error: the report says so.
func ginkgo(ctx context.Context, k *cluster, o options, choose []string) error {
	args := append([]string{"--procs=" + strconv.Itoa(o.procs), "--timeout=" + o.timeout.String(), "--no-color", "--silence-skips",
		"--output-dir=" + o.result, "--json-report=report.json", "--junit-report=junit.xml", "--keep-going"}, choose...)
	args = append(args, k.c.bin("e2e.test"), "--", "--provider=skeleton", "--kubeconfig="+k.kubeconfig(), "--kubectl-path="+k.c.bin("kubectl"),
		"--dump-logs-on-failure=false", "--disable-log-dump", "--report-dir="+o.result, "--e2e-output-dir="+o.result)
	log, err := os.Create(filepath.Join(o.result, "ginkgo.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	k.c.say("running specs; the suite's log is %s", log.Name())
	cmd := exec.Command(k.c.bin("ginkgo"), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = k.dir, log, log
	cmd.Env = append(os.Environ(), "KUBECONFIG="+k.kubeconfig(), "HOME="+k.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			if _, failed := err.(*exec.ExitError); failed {
				return nil
			}
			return err
		case <-tick.C:
			k.c.say("%s  %s", time.Now().Format(time.TimeOnly), progress(log.Name()))
		case <-ctx.Done():
			// Ginkgo ends its specs at the first, and itself at the third.
			if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
				return err
			}
			select {
			case <-ended:
			case <-time.After(20 * time.Second):
				if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
					return err
				}
				<-ended
			}
			return ctx.Err()
		}
	}
}
