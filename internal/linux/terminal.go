package linux

import "golang.org/x/sys/unix"

// UnlockTerminal lets the other end of a fresh pseudo terminal be opened.
func UnlockTerminal(master int) error {
	return callError("ioctl TIOCSPTLCK", "", unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0))
}

// TerminalPeer opens the other end of a pseudo terminal, wherever its devpts is
// mounted, without making it the caller's controlling terminal (ioctl_tty(2)).
func TerminalPeer(master int) (int, error) {
	fd, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if e != 0 {
		return -1, callError("ioctl TIOCGPTPEER", "", e)
	}
	return int(fd), nil
}

// SetTerminalSize tells a terminal how large it is, in characters.
func SetTerminalSize(fd int, width, height uint16) error {
	return callError("ioctl TIOCSWINSZ", "", unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width}))
}
