package snapshot

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"

	"sampan/internal/fault"
	"sampan/internal/linux"
)

// Copy gives every snapshot its own copy of its layers: slow and large, but it
// works where overlayfs does not, such as on another overlay.
type Copy struct{ ls *layers }

// NewCopy opens dir. A folder belongs to one kind of driver for good.
func NewCopy(dir string) (*Copy, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, &fault.Error{Op: "open snapshots", On: dir, Err: err}
	}
	ls, err := openLayers(dir, fileForm)
	if err != nil {
		return nil, err
	}
	return &Copy{ls}, nil
}

func (c *Copy) Name() string { return "copy" }

func (c *Copy) Stage(ctx context.Context, diff io.Reader) (*Staged, error) {
	return c.ls.stage(ctx, diff)
}
func (c *Copy) Has(chain digest.Digest) bool                            { return c.ls.has(chain) }
func (c *Copy) Layer(chain digest.Digest) (Layer, error)                { return c.ls.layer(chain) }
func (c *Copy) Layers(ctx context.Context) ([]Layer, error)             { return c.ls.list(ctx) }
func (c *Copy) Sync() error                                             { return c.ls.sync() }
func (c *Copy) Sweep(ctx context.Context) error                         { return c.ls.sweep(ctx) }
func (c *Copy) Snapshots(context.Context) ([]Info, error)               { return c.ls.snapshots() }
func (c *Copy) Remove(ctx context.Context, id string) error             { return c.ls.removeSnapshot(id) }
func (c *Copy) RemoveLayer(ctx context.Context, ch digest.Digest) error { return c.ls.remove(ctx, ch) }
func (c *Copy) Unmount(ctx context.Context, target string) error        { return unmount(target) }
func (c *Copy) Tar(ctx context.Context, ch digest.Digest) (io.ReadCloser, error) {
	return c.ls.tar(ctx, ch)
}
func (c *Copy) Commit(ctx context.Context, id string, opt DiffOptions) (Layer, error) {
	return commit(ctx, c, c.ls, id, opt)
}

func (c *Copy) Prepare(ctx context.Context, id string, chain []digest.Digest) error {
	return c.ls.newSnapshot(ctx, id, chain, func(dir string, below []string) error {
		if err := os.Mkdir(dir+"/fs", 0o755); err != nil {
			return err
		}
		for i := len(below) - 1; i >= 0; i-- {
			if err := lay(ctx, below[i], dir+"/fs"); err != nil {
				return err
			}
		}
		return nil
	})
}

// lay puts one layer on top of what target has. Folders come before what is in
// them, so a path's parents in target are real folders, never links.
func lay(ctx context.Context, layer, target string) error {
	type folder struct {
		path, to string
		stat     syscall.Stat_t
	}
	var folders []folder
	linked := map[uint64]string{}
	err := filepath.WalkDir(layer, func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		rel := strings.TrimPrefix(p, layer)
		to := target + rel
		if strings.HasPrefix(d.Name(), whiteoutPrefix) && rel != "" {
			if d.Name() == opaqueMark {
				return nil
			}
			victim := strings.TrimPrefix(d.Name(), whiteoutPrefix)
			var own syscall.Stat_t
			if victim < whiteoutPrefix && syscall.Lstat(filepath.Join(filepath.Dir(p), victim), &own) == nil {
				return nil // this layer's own, laid before: a whiteout means those below
			}
			return os.RemoveAll(filepath.Join(filepath.Dir(to), victim))
		}
		var s syscall.Stat_t
		if err := syscall.Lstat(p, &s); err != nil {
			return err
		}
		var old syscall.Stat_t
		exists := syscall.Lstat(to, &old) == nil
		if d.IsDir() {
			if op, err := fileForm.opaque(p); err != nil {
				return err
			} else if exists && rel != "" && (op || old.Mode&syscall.S_IFMT != syscall.S_IFDIR) {
				if err := os.RemoveAll(to); err != nil {
					return err
				}
				exists = false
			}
			if !exists {
				if err := os.Mkdir(to, 0o700); err != nil {
					return err
				}
			}
			folders = append(folders, folder{p, to, s})
			return nil
		}
		if exists {
			if err := os.RemoveAll(to); err != nil {
				return err
			}
		}
		if first, ok := linked[s.Ino]; ok && s.Nlink > 1 {
			return os.Link(first, to)
		}
		linked[s.Ino] = to
		if err := copyOne(p, to, s); err != nil {
			return err
		}
		return copyAttributes(p, to, s)
	})
	if err != nil {
		return err
	}
	for i := len(folders) - 1; i >= 0; i-- {
		if err := copyAttributes(folders[i].path, folders[i].to, folders[i].stat); err != nil {
			return err
		}
	}
	return nil
}

func copyOne(from, to string, s syscall.Stat_t) error {
	switch s.Mode & syscall.S_IFMT {
	case syscall.S_IFLNK:
		link, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(link, to)
	case syscall.S_IFREG:
		in, err := os.Open(from)
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		defer out.Close()
		_, err = io.Copy(out, in) // copy_file_range: shared blocks where the disk can
		return err
	}
	return syscall.Mknod(to, s.Mode, int(s.Rdev))
}

func (c *Copy) Mounts(id string) ([]Mount, error) {
	if _, err := c.ls.top(id); err != nil {
		return nil, err
	}
	return []Mount{{Type: "bind", Source: c.ls.snapshot(id) + "/fs", Options: []string{"rbind", "rw"}}}, nil
}

func (c *Copy) Mount(ctx context.Context, id, target string, _ MountOptions) error {
	if _, err := c.ls.top(id); err != nil {
		return err
	}
	if err := linux.BindTree(c.ls.snapshot(id)+"/fs", target); err != nil {
		return &fault.Error{Op: "mount snapshot", On: id, Err: err}
	}
	return nil
}

func (c *Copy) Usage(ctx context.Context, id string) (Usage, error) {
	if _, err := c.ls.top(id); err != nil {
		return Usage{}, err
	}
	return usage(ctx, c.ls.snapshot(id)+"/fs")
}

// compare lists what differs from the layers below: entries that are new or
// differ, and names that are gone, in path order.
func (c *Copy) compare(ctx context.Context, id string, visit func(upperEntry, bool) error) error {
	below, err := c.ls.below(id)
	if err != nil {
		return err
	}
	root := c.ls.snapshot(id) + "/fs"
	type found struct {
		upperEntry
		known bool
	}
	var out []found
	err = walkUpper(ctx, root, func(e upperEntry) error {
		// A character device 0:0 is overlay's whiteout, and nothing special here.
		e.gone, e.path = false, filepath.Join(root, e.name)
		at, s, err := lookup(below, fileForm, e.name)
		if err != nil {
			return err
		}
		if at != "" {
			same, err := same(at, s, e.path, e.stat)
			if err != nil || same {
				return err
			}
		}
		e.opaque = false
		out = append(out, found{e, at != ""})
		return nil
	})
	if err != nil {
		return err
	}
	gone := map[string]bool{}
	for _, layer := range below {
		err := filepath.WalkDir(layer, func(p string, d os.DirEntry, err error) error {
			if err != nil || p == layer {
				return err
			}
			name := p[len(layer)+1:]
			var s syscall.Stat_t
			if strings.HasPrefix(d.Name(), whiteoutPrefix) || gone[name] || syscall.Lstat(filepath.Join(root, name), &s) == nil {
				return nil
			}
			at, low, err := lookup(below, fileForm, name)
			if err != nil {
				return err
			}
			var parent syscall.Stat_t
			if at == "" || syscall.Lstat(filepath.Dir(filepath.Join(root, name)), &parent) != nil || parent.Mode&syscall.S_IFMT != syscall.S_IFDIR {
				return nil // hidden before, or gone with its folder
			}
			gone[name] = true
			out = append(out, found{upperEntry{name: name, gone: true, stat: low}, true})
			return nil
		})
		if err != nil {
			return err
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].name < out[j].name })
	for _, f := range out {
		if err := visit(f.upperEntry, f.known); err != nil {
			return err
		}
	}
	return nil
}

// same compares as Docker's drivers without kernel help do: a file with the
// same size and time is taken for the same.
func same(a string, s syscall.Stat_t, b string, t syscall.Stat_t) (bool, error) {
	if s.Mode != t.Mode || s.Uid != t.Uid || s.Gid != t.Gid || s.Rdev != t.Rdev {
		return false, nil
	}
	switch s.Mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		if s.Mtim != t.Mtim {
			return false, nil
		}
	case syscall.S_IFLNK:
		la, err := os.Readlink(a)
		lb, err2 := os.Readlink(b)
		if err != nil || err2 != nil || la != lb {
			return false, err
		}
	default:
		if s.Size != t.Size || s.Mtim != t.Mtim {
			return false, nil
		}
	}
	va, _, err := linux.Xattr(a, "security.capability")
	if err != nil {
		return false, err
	}
	vb, _, err := linux.Xattr(b, "security.capability")
	return bytes.Equal(va, vb), err
}

func (c *Copy) Changes(ctx context.Context, id string) ([]Change, error) {
	var out []Change
	err := c.compare(ctx, id, func(e upperEntry, known bool) error {
		ch := Change{Path: "/" + e.name, Kind: Added}
		if known {
			ch.Kind = Modified
		}
		if e.gone {
			ch.Kind = Deleted
		}
		out = append(out, ch)
		return nil
	})
	return out, err
}

func (c *Copy) Diff(ctx context.Context, id string, opt DiffOptions) (io.ReadCloser, error) {
	if _, err := c.ls.top(id); err != nil {
		return nil, err
	}
	return pipe(func(w io.Writer) error {
		d := newDiffWriter(w, opt)
		if err := c.compare(ctx, id, func(e upperEntry, _ bool) error { return d.entry(e) }); err != nil {
			return err
		}
		return d.close()
	}), nil
}
