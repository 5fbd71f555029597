package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A run has three processes. The outer one is what was started. It makes
// network, mount and process namespaces and waits. The second is the first
// process of these (init): it prepares them and reaps what nobody waits for.
// The third measures. When init ends, whatever runs inside ends, and all
// mounts and networks with it.
const (
	initVariable = "SAMPAN_BENCH_INIT" // in init: the run's directory
	nestVariable = "SAMPAN_BENCH_NEST" // in what measures: the same
	rootVariable = "SAMPAN_BENCH_ROOT" // in init: where the peers were unpacked
)

// groups is the control group under which the peers put theirs.
const groups = "sampan-bench"

func asInit() bool { return os.Getenv(initVariable) != "" }

func nested() (dir string, ok bool) {
	dir = os.Getenv(nestVariable)
	return dir, dir != ""
}

// nest runs this program again in namespaces of its own, and then removes the
// run's directory and the control groups that the peers have left.
func nest(ctx context.Context, bins cache, keep bool) (int, error) {
	dir, err := os.MkdirTemp("", "sampan-bench-")
	if err != nil {
		return 0, err
	}
	defer func() {
		removeGroups()
		if keep {
			fmt.Fprintln(os.Stderr, "kept:", dir)
		} else if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, "bench: clean up:", err)
		}
	}()
	runtime.LockOSThread() // the child's death signal is bound to this thread
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), initVariable+"="+dir, rootVariable+"="+bins.debian())
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL,
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC}
	if err := c.Start(); err != nil {
		return 0, fmt.Errorf("start in new namespaces: %w", err)
	}
	defer context.AfterFunc(ctx, func() {
		fmt.Fprintln(os.Stderr, "bench: interrupted, cleaning up")
		_ = c.Process.Signal(syscall.SIGTERM)
	})()
	err = c.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(1, exit.ExitCode()), nil // it has said why
	}
	return 0, err
}

// initial is the first process of the namespaces.
func initial() (int, error) {
	dir := os.Getenv(initVariable)
	if err := furnish(dir, os.Getenv(rootVariable)); err != nil {
		return 0, err
	}
	terms := make(chan os.Signal, 1)
	signal.Notify(terms, syscall.SIGTERM, syscall.SIGINT)
	env := []string{nestVariable + "=" + dir, "PATH=" + os.Getenv("PATH") + ":/usr/sbin:/sbin"} // the peers' helpers are there
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, initVariable+"=") && !strings.HasPrefix(v, "PATH=") {
			env = append(env, v)
		}
	}
	child, err := syscall.ForkExec("/proc/self/exe", os.Args, &syscall.ProcAttr{Env: env, Files: []uintptr{0, 1, 2}})
	if err != nil {
		return 0, err
	}
	go func() {
		for range terms {
			_ = syscall.Kill(child, syscall.SIGTERM)
		}
	}()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, fmt.Errorf("wait: %w", err)
		case pid == child && status.Exited():
			return status.ExitStatus(), nil
		case pid == child:
			return 1, fmt.Errorf("it ended by signal %v", status.Signal())
		}
	}
}

// furnish gives the namespaces what the peers expect: their own programs over
// /usr and /etc, an empty /run, processes and a loopback device. Whatever is
// written there is gone at the end.
func furnish(dir, root string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	scratch := filepath.Join(dir, "scratch")
	if err := os.Mkdir(scratch, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("scratch", scratch, "tmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount %s: %w", scratch, err)
	}
	for _, place := range []string{"usr", "etc"} {
		upper, work := filepath.Join(scratch, place), filepath.Join(scratch, place+".work")
		if err := errors.Join(os.Mkdir(upper, 0o755), os.Mkdir(work, 0o755)); err != nil {
			return err
		}
		lower := "/" + place
		if _, err := os.Stat(filepath.Join(root, place)); err == nil {
			lower = filepath.Join(root, place) + ":" + lower
		}
		if err := unix.Mount("overlay", "/"+place, "overlay", 0, "lowerdir="+lower+",upperdir="+upper+",workdir="+work); err != nil {
			return fmt.Errorf("mount the peers over /%s: %w", place, err)
		}
	}
	for _, place := range []string{"/run", "/var/lib/cni"} {
		if err := os.MkdirAll(place, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", place, "tmpfs", 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", place, err)
		}
	}
	return loopbackUp()
}

// benchAddress is one that is not a loopback's, for a kubelet to call its own.
const benchAddress = "192.0.2.1"

// loopbackUp sets lo up and gives it an address beside its own.
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
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	alias, err := unix.NewIfreq("lo:1")
	if err != nil {
		return err
	}
	if err := alias.SetInet4Addr(net.ParseIP(benchAddress).To4()); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, alias); err != nil {
		return fmt.Errorf("give lo the address %s: %w", benchAddress, err)
	}
	return nil
}

// removeGroups removes the peers' control groups, whose processes have ended.
func removeGroups() {
	tops, _ := filepath.Glob("/sys/fs/cgroup/*/" + groups + "*")
	for _, top := range tops {
		var dirs []string
		_ = filepath.WalkDir(top, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for i := len(dirs) - 1; i >= 0; i-- {
			_ = syscall.Rmdir(dirs[i])
		}
	}
}
