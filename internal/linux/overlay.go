package linux

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

// Overlay is an overlay file system to be mounted, its folders as open
// descriptors: so neither a page of options nor a path's length is a limit.
type Overlay struct {
	Lower       []int // top first; at most 499 (fs/overlayfs/params.h)
	Upper, Work int   // writable top; both 0 for read-only
	Volatile    bool
}

// MountOverlay mounts o at target (fsopen(2), fsconfig(2), move_mount(2)).
func MountOverlay(o Overlay, target string) error {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return callError("fsopen", "overlay", err)
	}
	defer unix.Close(fs)
	set := func(key string, fd int) {
		if err == nil {
			err = overlayFolder(fs, key, fd)
		}
	}
	for i, fd := range o.Lower {
		set("lowerdir+", fd)
		if i == 0 && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL)) && mountOverlay(o, target) == nil {
			return nil // before Linux 6.8 layers could not be added one by one
		}
	}
	if o.Upper != 0 {
		set("upperdir", o.Upper)
		set("workdir", o.Work)
	}
	// A layer comes from outside: an attribute in it must not be able to send a
	// lookup to another folder, whatever the kernel's defaults are.
	for _, kv := range [][2]string{{"redirect_dir", "off"}, {"metacopy", "off"}, {"index", "off"}} {
		if err == nil {
			err = callError("fsconfig", "overlay "+kv[0], unix.FsconfigSetString(fs, kv[0], kv[1]))
		}
	}
	if err == nil && o.Volatile && o.Upper != 0 {
		err = callError("fsconfig", "overlay volatile", unix.FsconfigSetFlag(fs, "volatile"))
	}
	if err == nil {
		err = callError("fsconfig", "overlay source", unix.FsconfigSetString(fs, "source", "overlay"))
	}
	if err == nil {
		err = callError("fsconfig", "overlay create", unix.FsconfigCreate(fs))
	}
	if err != nil {
		return overlayReason(fs, err)
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return callError("fsmount", "overlay", err)
	}
	defer unix.Close(mnt)
	return callError("move_mount", target, unix.MoveMount(mnt, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH))
}

// mountOverlay is MountOverlay by mount(2), whose page of options has room for
// about 230 layers under their short names in /proc.
func mountOverlay(o Overlay, target string) error {
	name := func(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
	opts := "redirect_dir=off,metacopy=off,index=off,lowerdir="
	for i, fd := range o.Lower {
		if i > 0 {
			opts += ":"
		}
		opts += name(fd)
	}
	if o.Upper != 0 {
		opts += ",upperdir=" + name(o.Upper) + ",workdir=" + name(o.Work)
		if o.Volatile {
			opts += ",volatile"
		}
	}
	return callError("mount", target, unix.Mount("overlay", target, "overlay", 0, opts))
}

// overlayFolder hands a folder over by descriptor, and before Linux 6.13 by the
// descriptor's name in /proc.
func overlayFolder(fs int, key string, fd int) error {
	err := unix.FsconfigSetFd(fs, key, fd)
	if errors.Is(err, unix.EINVAL) {
		err = unix.FsconfigSetString(fs, key, "/proc/self/fd/"+strconv.Itoa(fd))
	}
	return callError("fsconfig", "overlay "+key, err)
}

// overlayReason adds what the kernel says in its own words.
func overlayReason(fs int, err error) error {
	buf := make([]byte, 512)
	if n, e := unix.Read(fs, buf); e == nil && n > 2 {
		return errors.Join(err, errors.New(string(buf[2:n])))
	}
	return err
}

// UnmountAt takes away the topmost mount at path, which is not followed if it
// is a link. ok is false if nothing is mounted there.
func UnmountAt(path string) (ok bool, err error) {
	switch err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW); err {
	case nil:
		return true, nil
	case unix.EINVAL, unix.ENOENT:
		return false, nil
	default:
		return false, callError("umount2", path, err)
	}
}

// BindTree makes the folder from visible at target, too.
func BindTree(from, target string) error {
	return callError("mount", target, unix.Mount(from, target, "", unix.MS_BIND, ""))
}
