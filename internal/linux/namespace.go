package linux

import "golang.org/x/sys/unix"

// Flags of the namespaces, for Unshare, Setns and Program.Flags.
const (
	NewCgroup = unix.CLONE_NEWCGROUP
	NewIPC    = unix.CLONE_NEWIPC
	NewMount  = unix.CLONE_NEWNS
	NewNet    = unix.CLONE_NEWNET
	NewPID    = unix.CLONE_NEWPID
	NewTime   = unix.CLONE_NEWTIME
	NewUser   = unix.CLONE_NEWUSER
	NewUTS    = unix.CLONE_NEWUTS
)

// Unshare moves the calling thread into new namespaces: lock it first.
func Unshare(flags int) error { return callError("unshare", "", unix.Unshare(flags)) }

// Setns moves the calling thread into the namespace fd refers to: lock it
// first. For a process namespace only children made later are moved.
func Setns(fd, kind int) error { return callError("setns", "", unix.Setns(fd, kind)) }

// SetHostname names the calling thread's uts namespace.
func SetHostname(name string) error {
	return callError("sethostname", name, unix.Sethostname([]byte(name)))
}

// LoopbackUp switches lo on in the calling thread's network namespace.
func LoopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return callError("socket", "AF_INET", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, req); err != nil {
		return callError("ioctl SIOCGIFFLAGS", "lo", err)
	}
	req.SetUint16(req.Uint16() | unix.IFF_UP)
	return callError("ioctl SIOCSIFFLAGS", "lo", unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req))
}

// NetNSCookie is a number of the calling thread's network namespace that no
// other has until the next boot (SO_NETNS_COOKIE, Linux 5.14). It is not read
// from /proc/thread-self, because what a thread has looked up there holds up
// whoever waits for the process, by milliseconds.
func NetNSCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, callError("socket", "AF_INET", err)
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	return cookie, callError("getsockopt", "SO_NETNS_COOKIE", err)
}
