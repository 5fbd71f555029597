package engine

import (
	"os"
	"path/filepath"
	"syscall"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"sampan/internal/fault"
)

// hostDevices looks up the nodes a container is given; a directory stands for
// all nodes in it. A privileged container gets all of the host's.
func hostDevices(asked []Device, privileged bool) ([]specs.LinuxDevice, error) {
	var out []specs.LinuxDevice
	for _, d := range asked {
		target := d.ContainerPath
		if target == "" {
			target = d.HostPath
		}
		found, err := nodes(d.HostPath, target)
		if err != nil {
			return nil, &fault.Error{Class: fault.Invalid, Op: "find device", On: d.HostPath, Err: err}
		}
		if len(found) == 0 {
			return nil, invalid("device", d.HostPath, "it is no device node")
		}
		out = append(out, found...)
	}
	if privileged {
		all, err := nodes("/dev", "/dev")
		if err != nil {
			return nil, failed("list devices in", "/dev", err)
		}
		out = append(out, all...)
	}
	return out, nil
}

// own are the names below /dev that every container has of its own.
var own = map[string]bool{"pts": true, "shm": true, "fd": true, "mqueue": true, "console": true, "ptmx": true,
	"null": true, "zero": true, "full": true, "random": true, "urandom": true, "tty": true,
	"stdin": true, "stdout": true, "stderr": true, "core": true}

func nodes(path, target string) ([]specs.LinuxDevice, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if st.IsDir() {
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, err
		}
		var out []specs.LinuxDevice
		for _, d := range entries {
			if d.Type()&(os.ModeSymlink|os.ModeSocket|os.ModeNamedPipe) != 0 || path == "/dev" && own[d.Name()] {
				continue
			}
			found, err := nodes(filepath.Join(path, d.Name()), filepath.Join(target, d.Name()))
			if err != nil && !os.IsNotExist(err) {
				return nil, err
			}
			out = append(out, found...)
		}
		return out, nil
	}
	if st.Mode()&os.ModeDevice == 0 {
		return nil, nil
	}
	sys := st.Sys().(*syscall.Stat_t)
	kind := "b"
	if st.Mode()&os.ModeCharDevice != 0 {
		kind = "c"
	}
	uid, gid := sys.Uid, sys.Gid
	// The kernel's encoding of a device number, makedev(3).
	major := int64(sys.Rdev>>8&0xfff | sys.Rdev>>32&^0xfff)
	minor := int64(sys.Rdev&0xff | sys.Rdev>>12&^0xff)
	return []specs.LinuxDevice{{Path: target, Type: kind, Major: major, Minor: minor,
		FileMode: fileMode(st.Mode()), UID: &uid, GID: &gid}}, nil
}

func deviceOf(path string) (uint64, error) {
	var st syscall.Stat_t
	err := syscall.Lstat(path, &st)
	return st.Dev, err
}
