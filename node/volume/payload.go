package volume

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"

	"sampan/internal/fault"
	"sampan/internal/linux"
)

// payload is the files of a volume by relative path.
type payload map[string]file

type file struct {
	data []byte
	mode int32
	uid  *int64
}

// put adds a file; of two with one path the later counts.
func (p payload) put(path string, f file) error {
	if path == "" || filepath.IsAbs(path) || slices.Contains(strings.Split(path, "/"), "..") || strings.HasPrefix(path, "..") {
		return &fault.Error{Class: fault.Invalid, Op: "write file of volume", On: fmt.Sprintf("%q", path), Err: errors.New("must be a relative path without '..'")}
	}
	p[filepath.Clean(path)] = f
	return nil
}

// add puts the keys of an object, all or those that items name.
func (p payload) add(data map[string][]byte, items []corev1.KeyToPath, mode int32, optional bool, what string) error {
	if items == nil {
		for k, v := range data {
			if err := p.put(k, file{data: v, mode: mode}); err != nil {
				return err
			}
		}
		return nil
	}
	for _, item := range items {
		v, ok := data[item.Key]
		if !ok {
			if optional {
				continue
			}
			return fmt.Errorf("references non-existent %s key: %s", what, item.Key)
		}
		m := mode
		if item.Mode != nil {
			m = *item.Mode
		}
		if err := p.put(item.Path, file{data: v, mode: m}); err != nil {
			return err
		}
	}
	return nil
}

const (
	dataLink = "..data"
	tempLink = "..data_tmp"
)

// write makes the volume's directory hold p. Readers see the old files or the
// new ones, never a mixture: names lead through the link ..data, which is
// replaced at once. Nothing is written if nothing changed.
func (r *request) write(p payload, inMemory bool) error {
	if inMemory {
		if err := memory(r.dir, ""); err != nil {
			return err
		}
	} else if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return &fault.Error{Op: "make volume", On: r.dir, Err: err}
	}
	if err := os.Chmod(r.dir, 0o777); err != nil {
		return &fault.Error{Op: "chmod volume", On: r.dir, Err: err}
	}
	old, err := os.Readlink(filepath.Join(r.dir, dataLink))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fault.Error{Op: "read link", On: filepath.Join(r.dir, dataLink), Err: err}
	}
	if old != "" && r.holds(filepath.Join(r.dir, old), p) {
		return nil
	}
	fresh, err := os.MkdirTemp(r.dir, time.Now().UTC().Format("..2006_01_02_15_04_05."))
	if err != nil {
		return &fault.Error{Op: "make directory of volume", On: r.dir, Err: err}
	}
	if err := r.fill(fresh, p); err != nil {
		return errors.Join(err, os.RemoveAll(fresh))
	}
	temp := filepath.Join(r.dir, tempLink)
	if err := errors.Join(ignoreMissing(os.Remove(temp)), os.Symlink(filepath.Base(fresh), temp), os.Rename(temp, filepath.Join(r.dir, dataLink))); err != nil {
		return &fault.Error{Op: "switch volume", On: r.dir, Err: err}
	}
	if err := r.names(p); err != nil {
		return err
	}
	if old != "" && strings.HasPrefix(old, "..") && !strings.Contains(old, "/") {
		if err := os.RemoveAll(filepath.Join(r.dir, old)); err != nil {
			return &fault.Error{Op: "remove old files of volume", On: r.dir, Err: err}
		}
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// holds says whether dir has exactly p.
func (r *request) holds(dir string, p payload) bool {
	n := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		f, ok := p[rel]
		if !ok {
			return fs.ErrExist
		}
		have, err := os.ReadFile(path)
		if err == nil && !bytes.Equal(have, f.data) {
			return fs.ErrExist
		}
		return err
	})
	return err == nil && n == len(p)
}

func (r *request) fill(dir string, p payload) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return &fault.Error{Op: "chmod", On: dir, Err: err}
	}
	for _, name := range slices.Sorted(maps.Keys(p)) {
		f, path := p[name], filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return &fault.Error{Op: "make directory of volume", On: filepath.Dir(path), Err: err}
		}
		if err := os.WriteFile(path, f.data, 0o600); err != nil {
			return &fault.Error{Op: "write file of volume", On: path, Err: err}
		}
		if f.uid != nil {
			if err := os.Chown(path, int(*f.uid), -1); err != nil {
				return &fault.Error{Op: "chown file of volume", On: path, Err: err}
			}
		}
		if err := os.Chmod(path, fs.FileMode(f.mode)&fs.ModePerm); err != nil {
			return &fault.Error{Op: "chmod file of volume", On: path, Err: err}
		}
	}
	return ownTree(r.pod, dir, true)
}

// names makes a link for each first part of a path, and removes those of
// parts that are no more.
func (r *request) names(p payload) error {
	want := map[string]bool{}
	for path := range p {
		name, _, _ := strings.Cut(path, "/")
		want[name] = true
	}
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return &fault.Error{Op: "read volume", On: r.dir, Err: err}
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "..") {
			continue
		}
		if !want[e.Name()] {
			if err := os.Remove(filepath.Join(r.dir, e.Name())); err != nil {
				return &fault.Error{Op: "remove old name of volume", On: e.Name(), Err: err}
			}
		}
		delete(want, e.Name())
	}
	for name := range want {
		if err := os.Symlink(filepath.Join(dataLink, name), filepath.Join(r.dir, name)); err != nil {
			return &fault.Error{Op: "name file of volume", On: name, Err: err}
		}
	}
	return nil
}

// memory mounts a tmpfs on dir unless one is there.
func memory(dir, options string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return &fault.Error{Op: "make volume", On: dir, Err: err}
	}
	mounted, err := linux.MountPoint(dir)
	if err != nil || mounted {
		return err
	}
	return linux.MountTmpfs(dir, options)
}

func fsGroup(pod *corev1.Pod) *int64 {
	if sc := pod.Spec.SecurityContext; sc != nil {
		return sc.FSGroup
	}
	return nil
}

// own gives a volume to the pod's fsGroup, as fsGroupChangePolicy asks.
func own(r *request) error {
	gid := fsGroup(r.pod)
	if gid == nil {
		return nil
	}
	policy := r.pod.Spec.SecurityContext.FSGroupChangePolicy
	if policy != nil && *policy == corev1.FSGroupChangeOnRootMismatch {
		info, err := os.Stat(r.dir)
		if err != nil {
			return &fault.Error{Op: "look at volume", On: r.dir, Err: err}
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && int64(st.Gid) == *gid && info.Mode()&fs.ModeSetgid != 0 {
			return nil
		}
	}
	return ownTree(r.pod, r.dir, false)
}

// ownTree makes a tree belong to the pod's fsGroup, readable for it, and
// writable unless readOnly; new files in its directories will too.
func ownTree(pod *corev1.Pod, dir string, readOnly bool) error {
	gid := fsGroup(pod)
	if gid == nil {
		return nil
	}
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := os.Lchown(path, -1, int(*gid)); err != nil {
			return &fault.Error{Op: "chown volume", On: path, Err: err}
		}
		info, err := d.Info()
		if err != nil || info.Mode()&fs.ModeSymlink != 0 {
			return err
		}
		add := fs.FileMode(0o660)
		if readOnly {
			add = 0o440
		}
		if d.IsDir() {
			add |= 0o110 | fs.ModeSetgid
		}
		if err := os.Chmod(path, info.Mode()|add); err != nil {
			return &fault.Error{Op: "chmod volume", On: path, Err: err}
		}
		return nil
	})
}
