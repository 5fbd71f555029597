package volume

import (
	"context"
	"errors"
	"os"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"sampan/internal/fault"
	"sampan/node/resource"
)

// emptyDir is a directory of the node's disk, or of memory.
func (s *Set) emptyDir(ctx context.Context, r *request) (string, error) {
	src := r.v.EmptyDir
	switch src.Medium {
	case corev1.StorageMediumDefault:
		if err := os.MkdirAll(r.dir, 0o750); err != nil {
			return "", &fault.Error{Op: "make emptyDir", On: r.dir, Err: err}
		}
	case corev1.StorageMediumMemory:
		options := ""
		size := resource.Pod(r.pod).MemoryBytes
		if l := src.SizeLimit; l != nil && l.Value() > 0 && (size == 0 || l.Value() < size) {
			size = l.Value()
		}
		if size > 0 {
			options = "size=" + strconv.FormatInt(size, 10)
		}
		if err := memory(r.dir, options); err != nil {
			return "", err
		}
	default:
		return "", &fault.Error{Class: fault.Invalid, Op: "make emptyDir", On: r.v.Name,
			Err: errors.New("medium " + string(src.Medium) + " is not supported by this node yet"), Fix: `use "" or Memory`}
	}
	if made, err := firstTime(r.dir); err != nil || !made {
		return r.dir, err
	}
	if err := os.Chmod(r.dir, 0o777); err != nil { // whatever the umask
		return "", &fault.Error{Op: "chmod emptyDir", On: r.dir, Err: err}
	}
	return r.dir, own(r)
}

// firstTime says whether the directory is as it was made: containers may have
// changed its mode since, and that is theirs.
func firstTime(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, &fault.Error{Op: "read emptyDir", On: dir, Err: err}
	}
	return len(entries) == 0, nil
}
