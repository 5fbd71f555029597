package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	corev1 "k8s.io/api/core/v1"

	"sampan/internal/fault"
)

// hostPath is a file or directory of the machine, checked as its type asks.
func (s *Set) hostPath(ctx context.Context, r *request) (string, error) {
	src := r.v.HostPath
	kind := corev1.HostPathUnset
	if src.Type != nil {
		kind = *src.Type
	}
	path := src.Path
	info, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", &fault.Error{Op: "look at hostPath", On: path, Err: err}
	}
	exists := err == nil
	check := func(ok bool, what string) (string, error) {
		if !exists || !ok {
			return "", fmt.Errorf("hostPath type check failed: %s is not a %s", path, what)
		}
		return path, nil
	}
	mode := fs.FileMode(0)
	if exists {
		mode = info.Mode()
	}
	switch kind {
	case corev1.HostPathUnset:
		if !exists { // container engines make a directory here, and users rely on it
			return path, made(os.MkdirAll(path, 0o755), path)
		}
		return path, nil
	case corev1.HostPathDirectoryOrCreate:
		if !exists {
			return path, made(os.MkdirAll(path, 0o755), path)
		}
		return check(mode.IsDir(), "directory")
	case corev1.HostPathDirectory:
		return check(mode.IsDir(), "directory")
	case corev1.HostPathFileOrCreate:
		if !exists {
			f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
			if err == nil {
				err = f.Close()
			}
			return path, made(err, path)
		}
		return check(mode.IsRegular(), "file")
	case corev1.HostPathFile:
		return check(mode.IsRegular(), "file")
	case corev1.HostPathSocket:
		return check(mode&fs.ModeSocket != 0, "socket file")
	case corev1.HostPathCharDev:
		return check(mode&fs.ModeCharDevice != 0, "character device")
	case corev1.HostPathBlockDev:
		return check(mode&fs.ModeDevice != 0 && mode&fs.ModeCharDevice == 0, "block device")
	}
	return "", fmt.Errorf("%s is an invalid volume type", kind)
}

func made(err error, path string) error {
	if err != nil {
		return &fault.Error{Op: "make hostPath", On: path, Err: err}
	}
	return nil
}
