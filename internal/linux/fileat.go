package linux

import (
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The calls below take an open folder and one name in it. With a name that has
// no slash and no link followed, nothing a hostile tree contains can lead them
// elsewhere.

// OpenAt is openat(2), not following a link in the last place.
func OpenAt(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, mode)
		if err != unix.EINTR {
			return fd, callError("openat", name, err)
		}
	}
}

// MkdirAt is mkdirat(2).
func MkdirAt(dir int, name string, mode uint32) error {
	return callError("mkdirat", name, unix.Mkdirat(dir, name, mode))
}

// MknodAt is mknodat(2); mode has the file type.
func MknodAt(dir int, name string, mode uint32, dev uint64) error {
	return callError("mknodat", name, unix.Mknodat(dir, name, mode, int(dev)))
}

// DeviceNumber joins a major and a minor number.
func DeviceNumber(major, minor uint32) uint64 { return unix.Mkdev(major, minor) }

// DeviceParts splits a device number.
func DeviceParts(dev uint64) (major, minor uint32) { return unix.Major(dev), unix.Minor(dev) }

// SymlinkAt is symlinkat(2).
func SymlinkAt(target string, dir int, name string) error {
	return callError("symlinkat", name, unix.Symlinkat(target, dir, name))
}

// LinkAt is linkat(2), not following a link.
func LinkAt(olddir int, oldname string, newdir int, newname string) error {
	return callError("linkat", newname, unix.Linkat(olddir, oldname, newdir, newname, 0))
}

// ChownAt is fchownat(2), not following a link.
func ChownAt(dir int, name string, uid, gid int) error {
	return callError("fchownat", name, unix.Fchownat(dir, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW))
}

// ChmodAt is fchmodat(2); name must not be a link.
func ChmodAt(dir int, name string, mode uint32) error {
	return callError("fchmodat", name, unix.Fchmodat(dir, name, mode, 0))
}

// StatAt is fstatat(2), not following a link.
func StatAt(dir int, name string) (syscall.Stat_t, error) {
	var u unix.Stat_t
	err := unix.Fstatat(dir, name, &u, unix.AT_SYMLINK_NOFOLLOW)
	return syscall.Stat_t{Dev: u.Dev, Ino: u.Ino, Nlink: u.Nlink, Mode: u.Mode, Uid: u.Uid, Gid: u.Gid, Rdev: u.Rdev, Size: u.Size,
		Mtim: syscall.Timespec{Sec: u.Mtim.Sec, Nsec: u.Mtim.Nsec}}, callError("fstatat", name, err)
}

// SetTimesAt sets access and modification time, not following a link.
func SetTimesAt(dir int, name string, atime, mtime time.Time) error {
	ts := []unix.Timespec{unix.NsecToTimespec(atime.UnixNano()), unix.NsecToTimespec(mtime.UnixNano())}
	return callError("utimensat", name, unix.UtimesNanoAt(dir, name, ts, unix.AT_SYMLINK_NOFOLLOW))
}

// RenameAt is renameat(2).
func RenameAt(olddir int, oldname string, newdir int, newname string) error {
	return callError("renameat", oldname, unix.Renameat(olddir, oldname, newdir, newname))
}

// Exchange gives each of two paths what the other one names, in one step:
// renameat2(2) with RENAME_EXCHANGE. Not every file system can.
func Exchange(a, b string) error {
	return callError("renameat2", a, unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE))
}

// SetXattrAt sets an extended attribute, not following a link. It needs /proc:
// there is no setxattrat(2) before Linux 6.13.
func SetXattrAt(dir int, name, attr string, value []byte) error {
	return callError("lsetxattr", name, unix.Lsetxattr("/proc/self/fd/"+strconv.Itoa(dir)+"/"+name, attr, value, 0))
}

// SetXattr sets an extended attribute of path, not following a link.
func SetXattr(path, attr string, value []byte) error {
	return callError("lsetxattr", path, unix.Lsetxattr(path, attr, value, 0))
}

// Xattr reads an extended attribute of path, not following a link; ok is false
// if there is none.
func Xattr(path, attr string) (value []byte, ok bool, err error) {
	buf := make([]byte, 256)
	for {
		n, err := unix.Lgetxattr(path, attr, buf)
		switch err {
		case nil:
			return buf[:n], true, nil
		case unix.ERANGE:
			if n, err = unix.Lgetxattr(path, attr, nil); err != nil {
				return nil, false, callError("lgetxattr", path, err)
			}
			buf = make([]byte, n+64)
		case unix.ENODATA, unix.EOPNOTSUPP:
			return nil, false, nil
		default:
			return nil, false, callError("lgetxattr", path, err)
		}
	}
}

// Xattrs lists the names of path's extended attributes, not following a link.
func Xattrs(path string) ([]string, error) {
	var small [1024]byte
	buf := small[:]
	n, err := unix.Llistxattr(path, buf)
	for err == unix.ERANGE {
		buf = make([]byte, 2*len(buf))
		n, err = unix.Llistxattr(path, buf)
	}
	if err == unix.EOPNOTSUPP {
		return nil, nil
	}
	if err != nil {
		return nil, callError("llistxattr", path, err)
	}
	var names []string
	for start, i := 0, 0; i < n; i++ {
		if buf[i] == 0 {
			names = append(names, string(buf[start:i]))
			start = i + 1
		}
	}
	return names, nil
}

// SyncFS writes the file system of fd to disk.
func SyncFS(fd int) error { return callError("syncfs", "", unix.Syncfs(fd)) }
