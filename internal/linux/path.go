package linux

import "golang.org/x/sys/unix"

// OpenInRoot opens path as a process would whose root directory is root: links
// and ".." never lead out of it (openat2(2), RESOLVE_IN_ROOT).
func OpenInRoot(root int, path string, flags int, mode uint32) (int, error) {
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	if flags&unix.O_CREAT != 0 {
		how.Mode = uint64(mode)
	}
	for {
		// EAGAIN: a rename elsewhere raced with a ".." in path.
		fd, err := unix.Openat2(root, path, &how)
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, callError("openat2", path, err)
		}
	}
}

// OPath is O_PATH: a descriptor that only names a file.
const OPath = unix.O_PATH
