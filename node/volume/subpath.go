package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"

	"sampan/internal/fault"
	"sampan/internal/linux"
)

// SubPath returns a path to mount for sub inside the volume at dir. A directory is made
// if nothing is there. sub is resolved inside the volume only, and what was found
// is bound to a place that the pod cannot change before the runtime mounts it
// (CVE-2017-1002101).
func (s *Set) SubPath(ctx context.Context, pod *corev1.Pod, m *corev1.VolumeMount, dir, sub string) (string, error) {
	if filepath.IsAbs(sub) || strings.Contains("/"+sub+"/", "/../") {
		return "", &fault.Error{Class: fault.Invalid, Op: "resolve subPath", On: sub, Err: errors.New("must be a relative path without '..'")}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", &fault.Error{Op: "open volume", On: dir, Err: err}
	}
	defer root.Close()
	f, err := openBeneath(root, sub)
	if errors.Is(err, fs.ErrNotExist) {
		if err = root.MkdirAll(sub, 0o750); err == nil {
			if err = takeMode(root, sub); err == nil {
				f, err = openBeneath(root, sub)
			}
		}
	}
	if err != nil {
		return "", &fault.Error{Op: "resolve subPath", On: sub, Err: err, Fix: "it must be inside the volume"}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", &fault.Error{Op: "stat", On: f.Name(), Err: err}
	}

	// One place for each path: runs of a container share it.
	at := filepath.Join(s.podDir(pod.UID), "volume-subpaths", m.Name, fmt.Sprintf("%x", sub))
	if err := os.MkdirAll(filepath.Dir(at), 0o750); err != nil {
		return "", &fault.Error{Op: "make directory", On: at, Err: err}
	}
	if same(at, info) {
		return at, nil
	}
	if _, err := linux.UnmountAt(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if info.IsDir() {
		err = os.MkdirAll(at, 0o750)
	} else if err = os.RemoveAll(at); err == nil {
		err = os.WriteFile(at, nil, 0o640)
	}
	if err != nil {
		return "", &fault.Error{Op: "make mount point", On: at, Err: err}
	}
	return at, linux.BindFile(f.Fd(), at)
}

// openBeneath opens a file or directory without waiting for the other end of
// a pipe.
func openBeneath(root *os.Root, sub string) (*os.File, error) {
	return root.OpenFile(sub, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}

// takeMode gives a new subdirectory the volume's own mode, so that who may
// write the volume may write there.
func takeMode(root *os.Root, sub string) error {
	info, err := root.Stat(".")
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if ok {
		if err := root.Chown(sub, -1, int(st.Gid)); err != nil {
			return err
		}
	}
	return root.Chmod(sub, info.Mode()&(fs.ModePerm|fs.ModeSetgid))
}

// same says whether the file at path is the one of info: it is bound already.
func same(path string, info fs.FileInfo) bool {
	have, err := os.Stat(path)
	return err == nil && os.SameFile(have, info)
}
