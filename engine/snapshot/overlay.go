package snapshot

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"

	"sampan/internal/fault"
	"sampan/internal/linux"
)

// maxLower is how many folders one overlay may stand on (Linux 6.18, tried:
// 500 is EINVAL).
const maxLower = 499

// Overlay stacks layers with the kernel's overlayfs: nothing is copied.
type Overlay struct{ ls *layers }

// NewOverlay opens dir, which must not be on an overlay itself.
func NewOverlay(dir string) (*Overlay, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, &fault.Error{Op: "open snapshots", On: dir, Err: err}
	}
	ls, err := openLayers(dir)
	if err != nil {
		return nil, err
	}
	return &Overlay{ls}, nil
}

func (o *Overlay) Name() string { return "overlay" }

func (o *Overlay) Stage(ctx context.Context, diff io.Reader) (*Staged, error) {
	return o.ls.stage(ctx, diff)
}
func (o *Overlay) Has(chain digest.Digest) bool                           { return o.ls.has(chain) }
func (o *Overlay) Layer(chain digest.Digest) (Layer, error)               { return o.ls.layer(chain) }
func (o *Overlay) Layers(ctx context.Context) ([]Layer, error)            { return o.ls.list(ctx) }
func (o *Overlay) Sync() error                                            { return o.ls.sync() }
func (o *Overlay) Sweep(ctx context.Context) error                        { return o.ls.sweep(ctx) }
func (o *Overlay) Snapshots(context.Context) ([]Info, error)              { return o.ls.snapshots() }
func (o *Overlay) Remove(ctx context.Context, id string) error            { return o.ls.removeSnapshot(id) }
func (o *Overlay) RemoveLayer(ctx context.Context, c digest.Digest) error { return o.ls.remove(ctx, c) }
func (o *Overlay) Tar(ctx context.Context, c digest.Digest) (io.ReadCloser, error) {
	return o.ls.tar(ctx, c)
}

// Prepare makes upper and work. The root of the mount has upper's attributes,
// so upper gets those of the layer below.
func (o *Overlay) Prepare(ctx context.Context, id string, chain []digest.Digest) error {
	if len(chain) > maxLower {
		return &fault.Error{Class: fault.Invalid, Op: "prepare snapshot", On: id, Err: errors.New("the image has more than 499 layers"), Fix: "rebuild it with fewer"}
	}
	return o.ls.newSnapshot(ctx, id, chain, func(dir string, below []string) error {
		if err := os.Mkdir(dir+"/work", 0o700); err != nil {
			return err
		}
		if err := os.Mkdir(dir+"/upper", 0o755); err != nil {
			return err
		}
		if len(below) == 0 {
			return nil
		}
		var s syscall.Stat_t
		if err := syscall.Lstat(below[0], &s); err != nil {
			return err
		}
		return copyAttributes(below[0], dir+"/upper", s)
	})
}

func (o *Overlay) Mounts(id string) ([]Mount, error) {
	below, err := o.ls.below(id)
	if err != nil {
		return nil, err
	}
	dir := o.ls.snapshot(id)
	if len(below) == 0 {
		return []Mount{{Type: "bind", Source: dir + "/upper", Options: []string{"rbind", "rw"}}}, nil
	}
	return []Mount{{Type: "overlay", Source: "overlay", Options: []string{
		"lowerdir=" + strings.Join(below, ":"), "upperdir=" + dir + "/upper", "workdir=" + dir + "/work",
		"redirect_dir=off", "metacopy=off", "index=off"}}}, nil
}

func (o *Overlay) Mount(ctx context.Context, id, target string, opt MountOptions) error {
	below, err := o.ls.below(id)
	if err != nil {
		return err
	}
	if err := o.mount(id, below, target, opt); err != nil {
		return &fault.Error{Op: "mount snapshot", On: id, Err: err}
	}
	return nil
}

func (o *Overlay) mount(id string, below []string, target string, opt MountOptions) error {
	dir := o.ls.snapshot(id)
	if len(below) == 0 {
		return linux.BindTree(dir+"/upper", target)
	}
	// The kernel leaves this mark in a volatile overlay and refuses to mount it
	// again, since after a crash upper may be incomplete. Here the mark is
	// either from before an orderly unmount or of a snapshot that asked for it.
	os.RemoveAll(dir + "/work/work/incompat")
	var open []int
	defer func() {
		for _, fd := range open {
			syscall.Close(fd)
		}
	}()
	folder := func(path string) (int, error) {
		fd, err := syscall.Open(path, linux.OPath|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
		if err != nil {
			return 0, &os.PathError{Op: "open", Path: path, Err: err}
		}
		open = append(open, fd)
		return fd, nil
	}
	ov := linux.Overlay{Volatile: opt.Volatile}
	var err error
	for _, l := range below {
		fd, err := folder(l)
		if err != nil {
			return err
		}
		ov.Lower = append(ov.Lower, fd)
	}
	if opt.Base != "" && len(below) < maxLower {
		fd, err := folder(opt.Base)
		if err != nil {
			return err
		}
		ov.Lower = append(ov.Lower, fd)
	}
	if ov.Upper, err = folder(dir + "/upper"); err != nil {
		return err
	}
	if ov.Work, err = folder(dir + "/work"); err != nil {
		return err
	}
	return linux.MountOverlay(ov, target)
}

func (o *Overlay) Unmount(ctx context.Context, target string) error { return unmount(target) }

func unmount(target string) error {
	if _, err := linux.UnmountAt(target); err != nil {
		return &fault.Error{Class: fault.Conflict, Op: "unmount", On: target, Err: err, Fix: "end the processes that use it"}
	}
	return nil
}

func (o *Overlay) Usage(ctx context.Context, id string) (Usage, error) {
	if _, err := o.ls.top(id); err != nil {
		return Usage{}, err
	}
	return usage(ctx, o.ls.snapshot(id)+"/upper")
}

func (o *Overlay) Changes(ctx context.Context, id string) ([]Change, error) {
	below, err := o.ls.below(id)
	if err != nil {
		return nil, err
	}
	var out []Change
	err = walkUpper(ctx, o.ls.snapshot(id)+"/upper", func(e upperEntry) error {
		c := Change{Path: "/" + e.name, Kind: Added}
		if at, _, err := lookup(below, e.name); err != nil {
			return err
		} else if at != "" {
			c.Kind = Modified
		}
		if e.gone {
			c.Kind = Deleted
		}
		out = append(out, c)
		return nil
	})
	return out, err
}

func (o *Overlay) Diff(ctx context.Context, id string, opt DiffOptions) (io.ReadCloser, error) {
	if _, err := o.ls.top(id); err != nil {
		return nil, err
	}
	upper := o.ls.snapshot(id) + "/upper"
	return pipe(func(w io.Writer) error {
		d := newDiffWriter(w, opt)
		if err := walkUpper(ctx, upper, d.entry); err != nil {
			return err
		}
		return d.close()
	}), nil
}

func (o *Overlay) Commit(ctx context.Context, id string, opt DiffOptions) (Layer, error) {
	return commit(ctx, o, o.ls, id, opt)
}

// commit stages what Diff gives: what a layer is, is decided in one place.
func commit(ctx context.Context, d Driver, ls *layers, id string, opt DiffOptions) (Layer, error) {
	top, err := ls.top(id)
	if err != nil {
		return Layer{}, err
	}
	r, err := d.Diff(ctx, id, opt)
	if err != nil {
		return Layer{}, err
	}
	defer r.Close()
	st, err := d.Stage(ctx, r)
	if err != nil {
		return Layer{}, err
	}
	return st.Commit(ctx, top)
}
