// Package snapshot turns layers into root file systems: it unpacks a layer
// once, stacks layers under a writable folder, and says what a container wrote.
//
// It knows layers by chain ID (OCI image spec, config.md) and snapshots by the
// caller's id. It knows neither images nor containers. All state is on disk
// and several processes may use one folder at once.
package snapshot

import (
	"context"
	"io"
	"time"

	"github.com/opencontainers/go-digest"
)

// Driver is a way of stacking layers. All methods may be called by several
// goroutines and processes at once; only calls for the same snapshot id must
// be ordered by the caller.
type Driver interface {
	// Name is "overlay".
	Name() string

	// Stage unpacks one uncompressed layer tar. It needs no parent, so that all
	// layers of an image can be staged at once. The result is invisible until
	// Commit and is removed by Discard, or by the next Sweep if this process dies.
	Stage(ctx context.Context, diff io.Reader) (*Staged, error)
	// Has reports whether a layer is there, complete.
	Has(chain digest.Digest) bool
	// Layer describes a layer; fault.NotFound if it is not there.
	Layer(chain digest.Digest) (Layer, error)
	// Layers lists all complete layers.
	Layers(ctx context.Context) ([]Layer, error)
	// Tar gives the layer's tar back, bit for bit: its digest is the DiffID.
	Tar(ctx context.Context, chain digest.Digest) (io.ReadCloser, error)
	// RemoveLayer removes a layer. fault.Conflict if a layer or snapshot stands on it.
	RemoveLayer(ctx context.Context, chain digest.Digest) error
	// Sync makes all committed layers survive a loss of power.
	Sync() error
	// Sweep removes what killed processes left half-done.
	Sweep(ctx context.Context) error

	// Prepare makes a writable snapshot with an empty top. chain lists the chain
	// IDs bottom-up and may be empty. fault.Exists if id is taken.
	Prepare(ctx context.Context, id string, chain []digest.Digest) error
	// Snapshots lists ids and what they stand on.
	Snapshots(ctx context.Context) ([]Info, error)
	// Mounts says how to mount id, for runtimes and people that do it themselves.
	Mounts(id string) ([]Mount, error)
	// Mount mounts id at target, an existing folder.
	Mount(ctx context.Context, id, target string, o MountOptions) error
	// Unmount takes the mount at target away; nil if there is none.
	Unmount(ctx context.Context, target string) error
	// Remove removes the snapshot and what was written to it; nil if there is none.
	// It must not be mounted.
	Remove(ctx context.Context, id string) error
	// Usage says what the snapshot itself takes on disk.
	Usage(ctx context.Context, id string) (Usage, error)
	// Changes lists what differs from the layers below, in path order.
	Changes(ctx context.Context, id string) ([]Change, error)
	// Diff is what differs as a layer tar with whiteouts.
	Diff(ctx context.Context, id string, o DiffOptions) (io.ReadCloser, error)
	// Commit makes a layer of what was written to id. The snapshot stays.
	Commit(ctx context.Context, id string, o DiffOptions) (Layer, error)
}

// Layer is one unpacked layer.
type Layer struct {
	Chain   digest.Digest
	Parent  digest.Digest `json:",omitempty"` // chain ID below, empty for the lowest
	DiffID  digest.Digest // digest of the uncompressed tar
	TarSize int64         // bytes of the uncompressed tar
	Size    int64         // bytes of the files in it
	Files   int64         // files, folders and links in it
}

// Info is one snapshot.
type Info struct {
	ID  string
	Top digest.Digest // chain ID it stands on, empty for none
}

// Mount is one mount(2) as data.
type Mount struct {
	Type    string
	Source  string
	Target  string // below the root file system; empty for its root
	Options []string
}

// MountOptions is how a snapshot is mounted.
type MountOptions struct {
	// Volatile leaves out every sync to disk, which makes unmounting cheap. What
	// was written is not to be relied on after a loss of power (kernel.org,
	// overlayfs.rst, "Volatile mount"): for pods, build steps, and run --rm.
	Volatile bool
	// Base is a directory that shows below all layers, for mount points and such.
	// It is no part of the snapshot: Changes, Diff and Commit do not know it. A
	// driver that cannot show one, or has no room for it, leaves it out.
	Base string
}

// Usage is what something takes on disk.
type Usage struct {
	Bytes  int64 // blocks taken
	Inodes int64
}

// ChangeKind is what happened to a path.
type ChangeKind uint8

const (
	Modified ChangeKind = iota
	Added
	Deleted
)

// Change is one path that differs from the layers below. String gives the
// line of `docker diff`.
type Change struct {
	Path string // absolute
	Kind ChangeKind
}

func (c Change) String() string { return string("CAD"[c.Kind]) + " " + c.Path }

// DiffOptions is how a diff is written.
type DiffOptions struct {
	// MaxTime is the newest time that may appear (SOURCE_DATE_EPOCH); zero for no limit.
	MaxTime time.Time
}

// ChainIDs gives the chain ID of every layer, bottom-up (OCI image spec,
// config.md, "Layer ChainID").
func ChainIDs(diffs []digest.Digest) []digest.Digest {
	chain := make([]digest.Digest, len(diffs))
	for i, d := range diffs {
		if i == 0 {
			chain[i] = d
		} else {
			chain[i] = digest.FromString(chain[i-1].String() + " " + d.String())
		}
	}
	return chain
}
