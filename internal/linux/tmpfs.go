package linux

import "syscall"

// MountTmpfs mounts an empty tmpfs at target; options are tmpfs(5)'s, such as
// "size=65536,mode=1777".
func MountTmpfs(target, options string) error {
	return callError("mount tmpfs", target, syscall.Mount("tmpfs", target, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, options))
}

// BindFile mounts an open file or directory onto target. What fd is open on
// counts, not what its path leads to meanwhile.
func BindFile(fd uintptr, target string) error {
	return callError("mount bind", target, syscall.Mount(fdPath(fd), target, "", syscall.MS_BIND|syscall.MS_REC, ""))
}

// MountPoint says whether something is mounted on path: it is on another file
// system than its parent. A bind of the same file system is not noticed.
func MountPoint(path string) (bool, error) {
	var here, up syscall.Stat_t
	if err := syscall.Lstat(path, &here); err != nil {
		return false, callError("lstat", path, err)
	}
	if err := syscall.Lstat(path+"/..", &up); err != nil {
		return false, callError("lstat", path+"/..", err)
	}
	return here.Dev != up.Dev, nil
}

func fdPath(fd uintptr) string {
	digits := [20]byte{}
	i := len(digits)
	for {
		i--
		digits[i] = byte('0' + fd%10)
		if fd /= 10; fd == 0 {
			return "/proc/self/fd/" + string(digits[i:])
		}
	}
}
