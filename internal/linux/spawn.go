package linux

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// cloneArgs is struct clone_args, clone3(2).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal uint64
	stack, stackSize, tls, setTID, setTIDSize     uint64
	cgroup                                        uint64
}

//go:noescape
func spawn(args *cloneArgs, size uintptr, ops unsafe.Pointer, n uintptr, failed *uintptr) uintptr

// Child is a started process. Its descriptor is the caller's to close.
type Child struct {
	Pid   int
	PidFD int
}

// SpawnConfig is what spawning takes beside the program.
type SpawnConfig struct {
	Cgroup int // descriptor of a version 2 group to start in, or 0
	Stack  []byte
}

// Spawn runs the program in a child and returns when the child has executed a
// file or ended. failed is the index of the call that ended it, or -1; then the
// child is a zombie to be waited for. An error means there was no child.
//
// The child shares the caller's memory until then (CLONE_VM|CLONE_VFORK: a big
// caller costs nothing), with all signals blocked around it and handlers reset
// in it, so it can never run Go code; its program has to unblock them. The
// calling thread is held up meanwhile, so no call of the program may wait for
// the caller. CLONE_VFORK also keeps oom_score_adj of the child its own.
func Spawn(l *Loaded, cfg SpawnConfig) (child Child, failed int, err error) {
	// The goroutine stays on this thread, whose signal mask is changed below.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// These are fields of l and so on the heap: a stack may move, and the
	// kernel is given addresses as numbers.
	l.pidfd, l.where = -1, 0
	l.args = cloneArgs{
		flags:      l.flags | unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_PIDFD | unix.CLONE_CLEAR_SIGHAND,
		pidfd:      uint64(uintptr(unsafe.Pointer(&l.pidfd))),
		exitSignal: uint64(unix.SIGCHLD),
		stack:      uint64(uintptr(unsafe.Pointer(unsafe.SliceData(cfg.Stack)))),
		stackSize:  uint64(len(cfg.Stack)),
	}
	if cfg.Cgroup > 0 {
		l.args.flags |= unix.CLONE_INTO_CGROUP
		l.args.cgroup = uint64(cfg.Cgroup)
	}
	// Whoever has a file open for writing that is to be executed holds this for
	// reading: the child must not keep it open until its own execve (ETXTBSY).
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	var old uint64
	all := ^uint64(0)
	if _, _, e := unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&old)), 8, 0, 0); e != 0 {
		return Child{}, -1, callError("rt_sigprocmask", "", e)
	}
	ops := unsafe.Pointer(unsafe.SliceData(l.ops))
	r := spawn(&l.args, unsafe.Sizeof(l.args), ops, uintptr(l.n), &l.where)
	unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&old)), 0, 8, 0, 0)
	if r > ^uintptr(4095) {
		return Child{}, -1, &CallError{Call: "clone3", Errno: syscall.Errno(-r)}
	}
	failed = -1
	if l.where != 0 {
		failed = int((l.where - uintptr(ops)) / opSize)
	}
	return Child{Pid: int(r), PidFD: int(l.pidfd)}, failed, nil
}
