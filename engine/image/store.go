package image

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"sampan/engine/snapshot"
	"sampan/internal/durable"
	"sampan/internal/fault"
)

// Store is the images of one state folder:
//
//	blobs/sha256/HEX   configurations and manifests (layers are with the driver)
//	images.json        every image's record, replaced as a whole
//	leases/            what operations under way need, see lease.go
//	lock               held exclusively to change images.json or to collect
//
// An image exists once images.json names it; all it needs is on disk by then.
type Store struct {
	cfg Config

	mu     sync.Mutex // guards all below
	seen   fileID     // the images.json that images was read from
	images []Image    // shared, replaced as a whole, never written to
}

// record is an image in images.json.
type record struct {
	ID       digest.Digest
	Names    []string `json:",omitempty"`
	Digests  []string `json:",omitempty"`
	Manifest digest.Digest
	Size     int64
	Loaded   time.Time
}

type fileID struct {
	ino   uint64
	size  int64
	mtime syscall.Timespec
}

// Open opens the store in cfg.Dir and makes it if it is missing. It reads
// nothing else and starts nothing.
func Open(cfg Config) (*Store, error) {
	if cfg.Snapshots == nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "open image store", On: cfg.Dir, Err: errors.New("no snapshot driver given")}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	for _, sub := range []string{"blobs/sha256", "leases"} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, sub), 0o700); err != nil {
			return nil, &fault.Error{Op: "open image store", On: cfg.Dir, Err: err}
		}
	}
	return &Store{cfg: cfg}, nil
}

// List gives all images, newest first. It costs one stat(2) while nothing changes.
func (s *Store) List(ctx context.Context) ([]Image, error) {
	all, err := s.read()
	if err != nil {
		return nil, err
	}
	return slices.Clone(all), nil
}

// Get finds an image by name, name@digest, ID or the beginning of an ID.
func (s *Store) Get(ctx context.Context, ref string) (Image, error) {
	all, err := s.read()
	if err != nil {
		return Image{}, err
	}
	return find(all, ref)
}

// RawConfig is the image's configuration, byte for byte.
func (s *Store) RawConfig(ctx context.Context, id digest.Digest) ([]byte, error) { return s.blob(id) }

// Tag gives the image ref one more name, and takes that name from another
// image that had it.
func (s *Store) Tag(ctx context.Context, ref, newName string) (Image, error) {
	name, err := tagged(newName)
	if err != nil {
		return Image{}, err
	}
	var id digest.Digest
	err = s.change(ctx, func(rs []record) ([]record, error) {
		im, err := s.findRecord(rs, ref)
		if err != nil {
			return nil, err
		}
		id = im.ID
		return rename(rs, im.ID, name), nil
	})
	if err != nil {
		return Image{}, err
	}
	return s.Get(ctx, id.String())
}

// Create makes an image of layers that the driver has; name may be empty.
// config.RootFS is set from layers.
func (s *Store) Create(ctx context.Context, config ConfigFile, layers []snapshot.Layer, name string) (Image, error) {
	config.RootFS = ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{}}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.DiffID)
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return Image{}, &fault.Error{Op: "create image", On: name, Err: err}
	}
	var names []string
	if name != "" {
		n, err := tagged(name)
		if err != nil {
			return Image{}, err
		}
		names = []string{n}
	}
	l, err := s.lease(ctx, snapshot.ChainIDs(config.RootFS.DiffIDs))
	if err != nil {
		return Image{}, err
	}
	defer l.end()
	for _, layer := range layers {
		if !s.cfg.Snapshots.Has(layer.Chain) {
			return Image{}, &fault.Error{Class: fault.NotFound, Op: "create image", On: name, Err: errors.New("layer " + layer.Chain.String() + " is gone")}
		}
	}
	return s.add(ctx, raw, nil, names, nil)
}

// add records an image whose layers are all there. manifest may be nil. The
// caller holds a lease on the layers.
func (s *Store) add(ctx context.Context, config, manifest []byte, names, digests []string) (Image, error) {
	id := digest.FromBytes(config)
	var file ConfigFile
	if err := json.Unmarshal(config, &file); err != nil {
		return Image{}, &fault.Error{Class: fault.Invalid, Op: "read image configuration", On: id.String(), Err: err}
	}
	r := record{ID: id, Names: names, Digests: digests, Loaded: time.Now().UTC()}
	chain := snapshot.ChainIDs(file.RootFS.DiffIDs)
	for _, c := range chain {
		l, err := s.cfg.Snapshots.Layer(c)
		if err != nil {
			return Image{}, err
		}
		r.Size += l.Size
	}
	if manifest == nil {
		var err error
		if manifest, err = s.plainManifest(config, chain); err != nil {
			return Image{}, err
		}
	}
	r.Manifest = digest.FromBytes(manifest)
	// Layers first: once the record can be seen, all that it needs is on disk.
	if err := s.cfg.Snapshots.Sync(); err != nil {
		return Image{}, err
	}
	err := s.change(ctx, func(rs []record) ([]record, error) {
		// Under the lock, so that no collection runs between blob and record.
		for _, b := range [][]byte{config, manifest} {
			if err := s.putBlob(b); err != nil {
				return nil, err
			}
		}
		if i := slices.IndexFunc(rs, func(o record) bool { return o.ID == id }); i >= 0 {
			for _, d := range r.Digests {
				if !slices.Contains(rs[i].Digests, d) {
					rs[i].Digests = append(rs[i].Digests, d)
				}
			}
			if len(r.Digests) > 0 {
				rs[i].Manifest = r.Manifest
			}
		} else {
			fresh := r
			fresh.Names = nil
			rs = append(rs, fresh)
		}
		for _, n := range names {
			rs = rename(rs, id, n)
		}
		return rs, nil
	})
	if err != nil {
		return Image{}, err
	}
	return s.Get(ctx, id.String())
}

// rename gives name to id alone.
func rename(rs []record, id digest.Digest, name string) []record {
	for i := range rs {
		rs[i].Names = slices.DeleteFunc(rs[i].Names, func(n string) bool { return n == name })
		if rs[i].ID == id {
			rs[i].Names = append(rs[i].Names, name)
		}
	}
	return rs
}

// change replaces images.json by what fn makes of its records.
func (s *Store) change(ctx context.Context, fn func([]record) ([]record, error)) error {
	l, err := durable.Exclusive(ctx, filepath.Join(s.cfg.Dir, "lock"))
	if err != nil {
		return err
	}
	defer l.Unlock()
	rs, err := s.records()
	if err != nil {
		return err
	}
	if rs, err = fn(rs); err != nil {
		return err
	}
	data, err := json.MarshalIndent(rs, "", " ")
	if err != nil {
		return &fault.Error{Op: "write image list", On: s.cfg.Dir, Err: err}
	}
	return durable.WriteFile(filepath.Join(s.cfg.Dir, "images.json"), data, 0o600)
}

// read gives all images, from memory unless the file changed.
func (s *Store) read() ([]Image, error) {
	path := filepath.Join(s.cfg.Dir, "images.json")
	st, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &fault.Error{Op: "read image list", On: path, Err: err}
	}
	sys := st.Sys().(*syscall.Stat_t)
	now := fileID{sys.Ino, st.Size(), sys.Mtim}
	s.mu.Lock()
	seen, images := s.seen, s.images
	s.mu.Unlock()
	if seen == now {
		return images, nil
	}
	rs, err := s.records()
	if err != nil {
		return nil, err
	}
	known := map[digest.Digest]Image{}
	for _, im := range images {
		known[im.ID] = im
	}
	fresh := make([]Image, 0, len(rs))
	for _, r := range rs {
		im, ok := known[r.ID]
		if !ok {
			if im, err = s.decode(r.ID); err != nil {
				s.cfg.Log.Error("image left out: its configuration cannot be read", "key", r.ID, "err", err)
				continue
			}
		}
		im.Names, im.Digests, im.Manifest, im.Size, im.Loaded = r.Names, r.Digests, r.Manifest, r.Size, r.Loaded
		fresh = append(fresh, im)
	}
	slices.SortStableFunc(fresh, func(a, b Image) int { return b.Loaded.Compare(a.Loaded) })
	s.mu.Lock()
	defer s.mu.Unlock()
	// If the file changed since stat, seen is older than images, and the next
	// read only reads once more.
	s.seen, s.images = now, fresh
	return fresh, nil
}

func (s *Store) decode(id digest.Digest) (Image, error) {
	raw, err := s.blob(id)
	if err != nil {
		return Image{}, err
	}
	im := Image{ID: id}
	if err := json.Unmarshal(raw, &im.Config); err != nil {
		return Image{}, err
	}
	im.DiffIDs = im.Config.RootFS.DiffIDs
	im.Chain = snapshot.ChainIDs(im.DiffIDs)
	im.Platform = im.Config.Platform
	return im, nil
}

func (s *Store) records() ([]record, error) {
	path := filepath.Join(s.cfg.Dir, "images.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var rs []record
	if err == nil {
		err = json.Unmarshal(data, &rs)
	}
	if err != nil {
		return nil, &fault.Error{Op: "read image list", On: path, Err: err}
	}
	return rs, nil
}

func (s *Store) blobPath(d digest.Digest) string {
	return filepath.Join(s.cfg.Dir, "blobs/sha256", d.Encoded())
}

// blob reads a small blob and verifies it.
func (s *Store) blob(d digest.Digest) ([]byte, error) {
	if err := d.Validate(); err != nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "read blob", On: d.String(), Err: err}
	}
	data, err := os.ReadFile(s.blobPath(d))
	if err != nil {
		return nil, &fault.Error{Class: fault.NotFound, Op: "read blob", On: d.String(), Err: err}
	}
	if got := digest.FromBytes(data); got != d {
		return nil, &fault.Error{Class: fault.Invalid, Op: "read blob", On: d.String(), Err: errors.New("the file's digest is " + got.String()),
			Fix: "the disk changed it: remove the image and load or pull it again"}
	}
	return data, nil
}

func (s *Store) putBlob(data []byte) error {
	path := s.blobPath(digest.FromBytes(data))
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return durable.WriteFile(path, data, 0o600)
}

// plainManifest makes a manifest whose layers are uncompressed tars, which is
// what Save writes.
func (s *Store) plainManifest(config []byte, chain []digest.Digest) ([]byte, error) {
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Layers: []ocispec.Descriptor{},
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(config), Size: int64(len(config))}}
	m.SchemaVersion = 2
	for _, c := range chain {
		l, err := s.cfg.Snapshots.Layer(c)
		if err != nil {
			return nil, err
		}
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: l.DiffID, Size: l.TarSize})
	}
	data, err := json.Marshal(m)
	if err != nil {
		return nil, &fault.Error{Op: "make manifest", Err: err}
	}
	return data, nil
}
