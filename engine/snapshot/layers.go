package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/opencontainers/go-digest"

	"sampan/internal/durable"
	"sampan/internal/fault"
	"sampan/internal/linux"
)

// layers is what does not depend on how they are stacked: unpacked layers and the list of
// snapshots. On disk:
//
//	layers/HEX/{fs/,tar.zst,replaced/,layer.json}   complete layers by chain ID
//	stage/NAME/                   layers under way, locked by who unpacks them
//	snapshots/ID/{top,…}          top links to the layer that it stands on
//	lock                          shared to add, exclusive to remove
type layers struct {
	dir string

	mu    sync.Mutex // guards known
	known map[digest.Digest]layerFile
}

// layerFile is layer.json.
type layerFile struct {
	Layer
	Moves []move `json:",omitempty"`
}

func openLayers(dir string) (*layers, error) {
	for _, sub := range []string{"layers", "stage", "snapshots"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, &fault.Error{Op: "open snapshots", On: dir, Err: err}
		}
	}
	return &layers{dir: dir, known: map[digest.Digest]layerFile{}}, nil
}

func (ls *layers) path(chain digest.Digest) string {
	return filepath.Join(ls.dir, "layers", chain.Encoded())
}

func (ls *layers) lockPath() string { return filepath.Join(ls.dir, "lock") }

// newStage makes an empty folder that lives as long as its lock.
func (ls *layers) newStage(ctx context.Context) (string, *durable.Lock, error) {
	gate, err := durable.Shared(ctx, ls.lockPath())
	if err != nil {
		return "", nil, err
	}
	defer gate.Unlock()
	dir, err := os.MkdirTemp(filepath.Join(ls.dir, "stage"), "")
	if err != nil {
		return "", nil, &fault.Error{Op: "unpack layer", On: ls.dir, Err: err}
	}
	lock, _, err := durable.TryExclusive(dir)
	if err == nil {
		err = os.Mkdir(dir+"/fs", 0o755)
	}
	if err != nil {
		os.RemoveAll(dir)
		lock.Unlock()
		return "", nil, err
	}
	return dir, lock, nil
}

// keep moves name out of the layer, because the tar map may need its content.
func (st *Staged) keep(dir int, name string) (to string, err error) {
	aside := filepath.Join(st.dir, "replaced")
	if err := os.Mkdir(aside, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	d, err := os.Open(aside)
	if err != nil {
		return "", err
	}
	defer d.Close()
	n := strconv.Itoa(len(st.moves))
	return "replaced/" + n, linux.RenameAt(dir, name, int(d.Fd()), n)
}

// Commit makes the layer visible as the one with chain ID chain, above parent,
// which must be there (or be empty). If another process was first, its layer stands.
func (st *Staged) Commit(ctx context.Context, parent digest.Digest) (Layer, error) {
	ls := st.into
	st.Chain, st.Parent = st.DiffID, parent
	if parent != "" {
		st.Chain = digest.FromString(parent.String() + " " + st.DiffID.String())
	}
	gate, err := durable.Shared(ctx, ls.lockPath())
	if err != nil {
		return Layer{}, err
	}
	defer gate.Unlock()
	defer st.Discard()
	if ls.has(st.Chain) {
		return ls.layer(st.Chain)
	}
	var below []string
	if parent != "" {
		if below, err = ls.folders(parent); err != nil {
			return Layer{}, err
		}
	}
	if err := st.fit(below); err != nil {
		var f *fault.Error
		if errors.As(err, &f) {
			return Layer{}, err
		}
		return Layer{}, &fault.Error{Op: "unpack layer", On: st.DiffID.String(), Err: err}
	}
	data, err := json.Marshal(layerFile{st.Layer, st.moves})
	if err == nil {
		err = os.WriteFile(st.dir+"/layer.json", data, 0o600)
	}
	if err == nil {
		err = os.Rename(st.dir, ls.path(st.Chain))
	}
	if err != nil {
		if ls.has(st.Chain) {
			return ls.layer(st.Chain)
		}
		return Layer{}, &fault.Error{Op: "unpack layer", On: st.DiffID.String(), Err: err}
	}
	st.lock.Unlock()
	st.lock = nil
	return st.Layer, nil
}

func (ls *layers) has(chain digest.Digest) bool {
	if chain.Validate() != nil {
		return false
	}
	var s syscall.Stat_t
	return syscall.Lstat(ls.path(chain), &s) == nil
}

func (ls *layers) layer(chain digest.Digest) (Layer, error) {
	f, err := ls.file(chain)
	return f.Layer, err
}

// file reads layer.json; a layer never changes, so it is remembered while it exists.
func (ls *layers) file(chain digest.Digest) (layerFile, error) {
	if err := chain.Validate(); err != nil {
		return layerFile{}, &fault.Error{Class: fault.Invalid, Op: "find layer", On: chain.String(), Err: err}
	}
	ls.mu.Lock()
	f, ok := ls.known[chain]
	ls.mu.Unlock()
	if ok && ls.has(chain) {
		return f, nil
	}
	data, err := os.ReadFile(filepath.Join(ls.path(chain), "layer.json"))
	if err == nil {
		err = json.Unmarshal(data, &f)
	}
	if err != nil {
		class := fault.Unknown
		if errors.Is(err, os.ErrNotExist) {
			class = fault.NotFound
		}
		return layerFile{}, &fault.Error{Class: class, Op: "find layer", On: chain.String(), Err: err, Fix: "load or pull the image again"}
	}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.known[chain] = f
	return f, nil
}

func (ls *layers) list(ctx context.Context) ([]Layer, error) {
	dirs, err := os.ReadDir(filepath.Join(ls.dir, "layers"))
	if err != nil {
		return nil, &fault.Error{Op: "list layers", On: ls.dir, Err: err}
	}
	var all []Layer
	for _, d := range dirs {
		l, err := ls.layer(digest.NewDigestFromEncoded(digest.SHA256, d.Name()))
		if fault.ClassOf(err) == fault.NotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, nil
}

// folders gives the fs folders of chain, top first.
func (ls *layers) folders(top digest.Digest) ([]string, error) {
	var out []string
	for c := top; c != ""; {
		f, err := ls.file(c)
		if err != nil {
			return nil, err
		}
		out = append(out, ls.path(c)+"/fs")
		c = f.Parent
	}
	return out, nil
}

func (ls *layers) tar(ctx context.Context, chain digest.Digest) (io.ReadCloser, error) {
	f, err := ls.file(chain)
	if err != nil {
		return nil, err
	}
	return pipe(func(w io.Writer) error { return writeTar(ctx, w, ls.path(chain), f.Moves, f.DiffID) }), nil
}

// pipe runs write while its result is read. Close ends both.
func pipe(write func(io.Writer) error) io.ReadCloser {
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(write(w))
	}()
	return &pipeEnd{r, done}
}

type pipeEnd struct {
	*io.PipeReader
	done chan struct{}
}

func (p *pipeEnd) Close() error {
	err := p.PipeReader.Close()
	<-p.done
	return err
}

// remove removes a layer that nothing stands on. It disappears at once, by a
// rename; a crash leaves the rest to sweep.
func (ls *layers) remove(ctx context.Context, chain digest.Digest) error {
	gone, err := ls.detach(ctx, chain)
	if err != nil {
		return err
	}
	ls.mu.Lock()
	delete(ls.known, chain)
	ls.mu.Unlock()
	if err := os.RemoveAll(gone); err != nil {
		return &fault.Error{Op: "remove layer", On: chain.String(), Err: err}
	}
	return nil
}

func (ls *layers) detach(ctx context.Context, chain digest.Digest) (string, error) {
	gate, err := durable.Exclusive(ctx, ls.lockPath())
	if err != nil {
		return "", err
	}
	defer gate.Unlock()
	all, err := ls.list(ctx)
	if err != nil {
		return "", err
	}
	user := ""
	for _, l := range all {
		if l.Parent == chain {
			user = "layer " + l.Chain.String()
		}
	}
	snaps, err := ls.snapshots()
	if err != nil {
		return "", err
	}
	for _, s := range snaps {
		if s.Top == chain {
			user = "snapshot " + s.ID
		}
	}
	if user != "" {
		return "", &fault.Error{Class: fault.Conflict, Op: "remove layer", On: chain.String(), Err: errors.New(user + " stands on it"), Fix: "remove that first"}
	}
	gone := filepath.Join(ls.dir, "stage", "gone-"+chain.Encoded())
	if err := os.Rename(ls.path(chain), gone); err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", &fault.Error{Op: "remove layer", On: chain.String(), Err: err}
	}
	return gone, nil
}

// sweep removes stages whose process has gone.
func (ls *layers) sweep(ctx context.Context) error {
	dir := filepath.Join(ls.dir, "stage")
	names, err := os.ReadDir(dir)
	if err != nil || len(names) == 0 {
		return err
	}
	gate, err := durable.Exclusive(ctx, ls.lockPath())
	if err != nil {
		return err
	}
	defer gate.Unlock()
	for _, n := range names {
		path := filepath.Join(dir, n.Name())
		if s, err := os.Lstat(path); err != nil || !s.IsDir() {
			continue
		}
		l, ok, err := durable.TryExclusive(path)
		if err != nil {
			return err
		}
		if ok {
			err = os.RemoveAll(path)
			l.Unlock()
			if err != nil {
				return &fault.Error{Op: "remove left-over layer", On: path, Err: err}
			}
		}
	}
	return nil
}

func (ls *layers) sync() error {
	d, err := os.Open(ls.dir)
	if err != nil {
		return &fault.Error{Op: "sync layers", On: ls.dir, Err: err}
	}
	defer d.Close()
	return linux.SyncFS(int(d.Fd()))
}

// newSnapshot makes snapshots/ID with its link to top. The link is the record:
// unlike a file it is written with the journal, whole or not at all, without fsync.
func (ls *layers) newSnapshot(ctx context.Context, id string, chain []digest.Digest, fill func(dir string, below []string) error) error {
	if err := checkID(id); err != nil {
		return err
	}
	gate, err := durable.Shared(ctx, ls.lockPath())
	if err != nil {
		return err
	}
	defer gate.Unlock()
	var top digest.Digest
	var below []string
	if len(chain) > 0 {
		top = chain[len(chain)-1]
		if below, err = ls.folders(top); err != nil {
			return err
		}
		if len(below) != len(chain) {
			return &fault.Error{Class: fault.Invalid, Op: "prepare snapshot", On: id, Err: errors.New(strconv.Itoa(len(chain)) + " layers given, and " + strconv.Itoa(len(below)) + " stand below the last")}
		}
	}
	dir := ls.snapshot(id)
	if err := os.Mkdir(dir, 0o700); err != nil {
		if errors.Is(err, os.ErrExist) {
			return &fault.Error{Class: fault.Exists, Op: "prepare snapshot", On: id, Fix: "remove it first, or choose another id"}
		}
		return &fault.Error{Op: "prepare snapshot", On: id, Err: err}
	}
	link := "scratch"
	if top != "" {
		link = "../../layers/" + top.Encoded()
	}
	err = os.Symlink(link, dir+"/top")
	if err == nil {
		err = fill(dir, below)
	}
	if err != nil {
		os.RemoveAll(dir)
		return &fault.Error{Op: "prepare snapshot", On: id, Err: err}
	}
	return nil
}

func checkID(id string) error {
	if id == "" || id[0] == '.' || len(id) > 200 || strings.ContainsAny(id, "/\x00") {
		return &fault.Error{Class: fault.Invalid, Op: "use snapshot", On: id, Err: errors.New("an id is one file name")}
	}
	return nil
}

func (ls *layers) snapshot(id string) string { return filepath.Join(ls.dir, "snapshots", id) }

// top is the layer that id stands on, or empty.
func (ls *layers) top(id string) (digest.Digest, error) {
	if err := checkID(id); err != nil {
		return "", err
	}
	link, err := os.Readlink(ls.snapshot(id) + "/top")
	if err != nil {
		return "", &fault.Error{Class: fault.NotFound, Op: "find snapshot", On: id, Err: err}
	}
	if link == "scratch" {
		return "", nil
	}
	return digest.NewDigestFromEncoded(digest.SHA256, filepath.Base(link)), nil
}

// below gives the folders that id stands on, top first.
func (ls *layers) below(id string) ([]string, error) {
	top, err := ls.top(id)
	if err != nil || top == "" {
		return nil, err
	}
	return ls.folders(top)
}

func (ls *layers) snapshots() ([]Info, error) {
	names, err := os.ReadDir(filepath.Join(ls.dir, "snapshots"))
	if err != nil {
		return nil, &fault.Error{Op: "list snapshots", On: ls.dir, Err: err}
	}
	var all []Info
	for _, n := range names {
		if top, err := ls.top(n.Name()); err == nil {
			all = append(all, Info{ID: n.Name(), Top: top})
		}
	}
	return all, nil
}

func (ls *layers) removeSnapshot(id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	if err := os.RemoveAll(ls.snapshot(id)); err != nil {
		return &fault.Error{Op: "remove snapshot", On: id, Err: err, Fix: "unmount it first"}
	}
	return nil
}
