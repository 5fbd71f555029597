package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"sampan/engine/snapshot"
	"sampan/internal/fault"
)

// incoming is an image on its way in, from an archive or a registry.
type incoming struct {
	names    []string
	digests  []string
	config   []byte
	manifest []byte // nil if it came without
	layers   []source
	progress func(Progress)
}

// source is where a layer's bytes come from, packed or not.
type source struct {
	digest digest.Digest // of the bytes as they come, or empty if nobody said
	size   int64
	open   func(context.Context) (io.ReadCloser, error)
}

// takeIn unpacks the layers that are missing, all at once, and records the
// image when every one has verified.
func (s *Store) takeIn(ctx context.Context, in incoming) (Image, error) {
	id := digest.FromBytes(in.config)
	who := id.String()
	if len(in.names) > 0 {
		who = Familiar(in.names[0])
	}
	var file ConfigFile
	if err := json.Unmarshal(in.config, &file); err != nil {
		return Image{}, &fault.Error{Class: fault.Invalid, Op: "read image configuration", On: who, Err: err, Fix: damaged}
	}
	diffs := file.RootFS.DiffIDs
	if len(diffs) != len(in.layers) {
		return Image{}, &fault.Error{Class: fault.Invalid, Op: "take in image", On: who, Err: fmt.Errorf("the configuration names %d layers and the manifest %d", len(diffs), len(in.layers)), Fix: damaged}
	}
	for _, d := range diffs {
		if err := d.Validate(); err != nil || d.Algorithm() != digest.SHA256 {
			return Image{}, &fault.Error{Class: fault.Invalid, Op: "take in image", On: who, Err: errors.New("its configuration has a layer digest that is none: " + d.String()), Fix: damaged}
		}
	}
	chain := snapshot.ChainIDs(diffs)
	if err := s.cfg.Snapshots.Sweep(ctx); err != nil {
		return Image{}, err
	}
	l, err := s.lease(ctx, chain)
	if err != nil {
		return Image{}, err
	}
	defer l.end()
	news := news{fn: in.progress, image: who}
	staged := make([]*snapshot.Staged, len(diffs))
	defer func() {
		for _, st := range staged {
			if st != nil {
				st.Discard()
			}
		}
	}()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(max(2, min(4, runtime.NumCPU())))
	for i := range diffs {
		if s.cfg.Snapshots.Has(chain[i]) {
			news.say(diffs[i], Present, 0, 0)
			continue
		}
		g.Go(func() error {
			st, err := s.stage(gctx, in.layers[i], diffs[i], &news)
			staged[i] = st
			if err != nil {
				return &fault.Error{Class: classOr(err, fault.Unknown), Op: "unpack image", On: who, Err: fmt.Errorf("layer %d of %d (%s): %w", i+1, len(diffs), diffs[i], err), Fix: "get the image again: it is damaged, or was on the way"}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return Image{}, err
	}
	parent := digest.Digest("")
	for i, st := range staged {
		if st != nil {
			if _, err := st.Commit(ctx, parent); err != nil {
				return Image{}, &fault.Error{Class: classOr(err, fault.Unknown), Op: "unpack image", On: who, Err: err}
			}
		}
		parent = chain[i]
	}
	im, err := s.add(ctx, in.config, in.manifest, in.names, in.digests)
	if err == nil {
		news.say("", Done, 0, 0)
	}
	return im, err
}

func classOr(err error, c fault.Class) fault.Class {
	if got := fault.ClassOf(err); got != fault.Unknown {
		return got
	}
	return c
}

// stage unpacks one layer and verifies it twice: the bytes as they came, and
// the tar that was in them.
func (s *Store) stage(ctx context.Context, src source, diff digest.Digest, news *news) (*snapshot.Staged, error) {
	r, err := src.open(ctx)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	h := digest.SHA256.Hash()
	count := &counter{news: news, layer: diff, total: src.size}
	z, err := decompress(io.TeeReader(r, io.MultiWriter(h, count)))
	if err != nil {
		return nil, err
	}
	defer z.Close()
	news.say(diff, Unpacking, 0, src.size)
	st, err := s.cfg.Snapshots.Stage(ctx, z)
	if err != nil {
		return nil, err
	}
	if got := digest.NewDigest(digest.SHA256, h); src.digest != "" && got != src.digest {
		return st, &fault.Error{Class: fault.Invalid, Op: "verify layer", Err: errors.New("the digest of its bytes is " + got.String() + ", expected " + src.digest.String())}
	}
	if st.DiffID != diff {
		return st, &fault.Error{Class: fault.Invalid, Op: "verify layer", Err: errors.New("its diff ID is " + st.DiffID.String() + ", expected " + diff.String())}
	}
	news.say(diff, Done, src.size, src.size)
	return st, nil
}

// news hands progress on, one call at a time.
type news struct {
	fn    func(Progress)
	image string
	mu    sync.Mutex // orders the calls of fn
}

func (n *news) say(layer digest.Digest, p Phase, current, total int64) {
	if n.fn == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fn(Progress{Image: n.image, Layer: layer, Phase: p, Current: current, Total: total})
}

// counter says how far a layer is, once a mebibyte.
type counter struct {
	news     *news
	layer    digest.Digest
	n, total int64
}

func (c *counter) Write(p []byte) (int, error) {
	before := c.n
	c.n += int64(len(p))
	if before>>20 != c.n>>20 {
		c.news.say(c.layer, Unpacking, c.n, c.total)
	}
	return len(p), nil
}
