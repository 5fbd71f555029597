package linux

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// OpenPidFD refers to a process without the risk of its number being reused.
func OpenPidFD(pid int) (int, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	return fd, callError("pidfd_open", "", err)
}

// SignalPidFD sends a signal to the process behind fd.
func SignalPidFD(fd int, sig syscall.Signal) error {
	return callError("pidfd_send_signal", "", unix.PidfdSendSignal(fd, sig, nil, 0))
}

// Waited is how a child ended.
type Waited struct {
	Pid    int
	Code   int            // exit status if Signal is 0
	Signal syscall.Signal // what killed it
}

// WaitAny reaps one child that has ended, if there is one (Pid 0 if not).
func WaitAny() (Waited, error) {
	var ws syscall.WaitStatus
	for {
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG|unix.WALL, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return Waited{}, callError("wait4", "", err)
		}
		w := Waited{Pid: pid}
		if ws.Signaled() {
			w.Signal = ws.Signal()
		} else {
			w.Code = ws.ExitStatus()
		}
		return w, nil
	}
}

// WaitPid reaps one child, waiting for its end.
func WaitPid(pid int) error {
	for {
		_, err := syscall.Wait4(pid, nil, unix.WALL, nil)
		if err != syscall.EINTR {
			return callError("wait4", "", err)
		}
	}
}

// Subreap makes orphans below the calling process its children.
func Subreap() error {
	return callError("prctl PR_SET_CHILD_SUBREAPER", "", unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
}

// Capabilities reads the calling thread's sets and its bounding set, as bits.
func Capabilities() (effective, permitted, bounding uint64, err error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return 0, 0, 0, callError("capget", "", err)
	}
	for c := range LastCapability() + 1 {
		if set, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(c), 0, 0, 0); err == nil && set == 1 {
			bounding |= 1 << c
		}
	}
	return uint64(data[0].Effective) | uint64(data[1].Effective)<<32, uint64(data[0].Permitted) | uint64(data[1].Permitted)<<32, bounding, nil
}

// LastCapability is the highest capability this package has a name for.
func LastCapability() int { return unix.CAP_LAST_CAP }

// HardLimit is the calling process's hard limit of a resource.
func HardLimit(resource int) (uint64, error) {
	var r unix.Rlimit
	err := unix.Prlimit(0, resource, nil, &r)
	return r.Max, callError("prlimit", "", err)
}

// MemFD makes an anonymous file with content, closed on exec, sealed.
func MemFD(name string, content []byte) (int, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, callError("memfd_create", name, err)
	}
	for b := content; len(b) > 0; {
		n, err := unix.Write(fd, b)
		if err != nil {
			unix.Close(fd)
			return -1, callError("write", name, err)
		}
		b = b[n:]
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL); err != nil {
		unix.Close(fd)
		return -1, callError("fcntl F_ADD_SEALS", name, err)
	}
	return fd, nil
}

// EventFD is a counter that can be waited for.
func EventFD() (int, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	return fd, callError("eventfd", "", err)
}

// ChildSignalFD blocks SIGCHLD for the calling thread and returns a descriptor that is
// readable when one is pending.
func ChildSignalFD() (int, error) {
	var set [16]uint64
	set[0] = 1 << (uint(unix.SIGCHLD) - 1)
	if _, _, e := unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_BLOCK, uintptr(unsafe.Pointer(&set)), 0, 8, 0, 0); e != 0 {
		return -1, callError("rt_sigprocmask", "", e)
	}
	fd, _, e := unix.RawSyscall6(unix.SYS_SIGNALFD4, ^uintptr(0), uintptr(unsafe.Pointer(&set)), 8, unix.SFD_CLOEXEC|unix.SFD_NONBLOCK, 0, 0)
	if e != 0 {
		return -1, callError("signalfd4", "", e)
	}
	return int(fd), nil
}
