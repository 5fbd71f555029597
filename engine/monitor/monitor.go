// Package monitor is the daemon's side of the monitor, the small program that
// is the parent of a pod's containers: its binary, starting it, talking to it.
//
// What a container is, and how one is made, it does not know: it carries
// programs of system calls and descriptors (internal/linux, monitor/wire).
package monitor

//go:generate go run ./gen

import (
	"compress/gzip"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"sampan/internal/fault"
	"sampan/internal/linux"
)

// Install puts the monitor's executable into dir, unless it is there, and
// returns its path. All monitors of one version share the file and so their
// pages. It is safe to call from several processes at once.
func Install(dir string) (string, error) {
	if len(packed) < 18 {
		return "", &fault.Error{Op: "install monitor", On: dir, Fix: "run go generate ./engine/monitor and build again"}
	}
	// gzip ends with the content's checksum and size: hashing it here again
	// would cost every command a millisecond.
	path := filepath.Join(dir, ".monitor-"+hex.EncodeToString([]byte(packed[len(packed)-8:])))
	if st, err := os.Stat(path); err == nil && st.Mode().Perm()&0o100 != 0 {
		return path, nil
	}
	fail := func(err error) (string, error) {
		return "", &fault.Error{Class: fault.Unavailable, Op: "install monitor", On: path, Err: err}
	}
	z, err := gzip.NewReader(strings.NewReader(packed))
	if err != nil {
		return fail(err)
	}
	// No child may inherit the file while it is open for writing, or its
	// execution fails with ETXTBSY.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	tmp, err := os.CreateTemp(dir, ".monitor-tmp-")
	if err != nil {
		return fail(err)
	}
	defer os.Remove(tmp.Name())
	_, err = io.Copy(tmp, z)
	if err == nil {
		err = tmp.Chmod(0o500)
	}
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fail(err)
	}
	return path, nil
}

// socketName is the monitor's socket in its pod's directory.
const socketName = "monitor.sock"

// StartConfig is what a monitor is started with.
type StartConfig struct {
	Binary string // from Install
	Name   string // shown in the process list
	Dir    string // the pod's directory, absolute
	Cgroup *os.File
}

// Start runs a monitor in the namespaces of the calling thread, which the
// caller has locked, in a session of its own so that nothing that ends the
// caller ends it. The socket listens before Start returns.
func Start(cfg StartConfig) (pid int, err error) {
	fail := func(err error) (int, error) {
		return 0, &fault.Error{Class: fault.Unavailable, Op: "start monitor", On: cfg.Name, Err: err}
	}
	dir, err := syscall.Open(cfg.Dir, syscall.O_DIRECTORY|syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	defer syscall.Close(dir)
	sock, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	defer syscall.Close(sock)
	// Through the descriptor, because a socket's path holds 108 bytes only.
	if err := syscall.Bind(sock, &syscall.SockaddrUnix{Name: "/proc/thread-self/fd/" + itoa(dir) + "/" + socketName}); err != nil {
		return fail(err)
	}
	if err := syscall.Listen(sock, 64); err != nil {
		return fail(err)
	}
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fail(err)
	}
	defer syscall.Close(null)
	stderr, err := syscall.Open(filepath.Join(cfg.Dir, "monitor.log"), syscall.O_WRONLY|syscall.O_CREAT|syscall.O_APPEND|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return fail(err)
	}
	defer syscall.Close(stderr)
	attr := &syscall.ProcAttr{Dir: "/",
		// One processor and an early collector keep the heap small. The first
		// collection costs 300 kB of the runtime's own, so it should not come
		// before some dozen containers have been started. A fixed GOMAXPROCS also stops the runtime from looking
		// at the cgroup's limits every few seconds.
		// Where the kernel gives huge pages unasked, the first object would take 2 MB.
		Env:   []string{"GOMAXPROCS=1", "GOGC=20", "GODEBUG=disablethp=1"},
		Files: []uintptr{uintptr(null), uintptr(null), uintptr(stderr), uintptr(sock), uintptr(dir)},
		Sys:   &syscall.SysProcAttr{Setsid: true}}
	if cfg.Cgroup != nil {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(cfg.Cgroup.Fd())
	}
	pid, err = syscall.ForkExec(cfg.Binary, []string{"sampan-monitor", cfg.Name}, attr)
	if err != nil {
		return fail(err)
	}
	return pid, nil
}

// Reap waits for a monitor that the calling process has started; nil if it was
// started by another process.
func Reap(pid int) error {
	if err := linux.WaitPid(pid); err != nil && !isNoChild(err) {
		return err
	}
	return nil
}
