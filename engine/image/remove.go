package image

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"sampan/internal/durable"
	"sampan/internal/fault"
)

// Remove takes the name ref from its image, and deletes the image with its
// last name. By ID it takes all names; force allows that when they are of
// several repositories. An image in use is never deleted: it may lose names
// but the last, or with force also that.
func (s *Store) Remove(ctx context.Context, ref string, force bool) (Removed, error) {
	var out Removed
	im, err := s.Get(ctx, ref)
	if err != nil {
		return out, err
	}
	// Asked before the lock is taken: the callback is not ours.
	var users []string
	if s.cfg.InUse != nil {
		if users, err = s.cfg.InUse(ctx, im.ID); err != nil {
			return out, err
		}
	}
	err = s.change(ctx, func(rs []record) ([]record, error) {
		im, err := s.findRecord(rs, ref)
		if err != nil {
			return nil, err
		}
		out, err = plan(im, ref, force, users)
		if err != nil {
			return nil, err
		}
		return slices.DeleteFunc(untag(rs, im.ID, out.Untagged), func(r record) bool {
			return r.ID == im.ID && len(out.Deleted) > 0
		}), nil
	})
	if err != nil || len(out.Deleted) == 0 {
		return out, err
	}
	layers, freed, err := s.sweep(ctx)
	out.Deleted, out.Freed = append(out.Deleted, layers...), freed
	return out, err
}

// plan decides what removing ref does to im.
func plan(im Image, ref string, force bool, users []string) (Removed, error) {
	refs := slices.Concat(im.Names, im.Digests)
	id := byID(im, ref)
	var out Removed
	if id {
		if repos := repositories(refs); len(repos) > 1 && !force {
			return out, &fault.Error{Class: fault.Conflict, Op: "remove image", On: ref,
				Err: errors.New("it has names in several repositories: " + strings.Join(repos, ", ")), Fix: "remove it by name, or with --force"}
		}
		out.Untagged = refs
	} else {
		want := ""
		named, _ := reference.ParseNormalizedNamed(ref)
		if c, ok := named.(reference.Canonical); ok {
			want = reference.TrimNamed(c).Name() + "@" + c.Digest().String()
		} else {
			want = reference.TagNameOnly(named).String()
		}
		out.Untagged = []string{want}
		// A digest reference lives as long as a tag of its repository (or alone).
		if rest := slices.DeleteFunc(slices.Clone(im.Names), func(n string) bool { return n == want }); len(rest) == 0 {
			for _, d := range im.Digests {
				if d != want {
					out.Untagged = append(out.Untagged, d)
				}
			}
		}
	}
	if len(out.Untagged) < len(refs) {
		return out, nil
	}
	if len(users) > 0 {
		if id || !force {
			return Removed{}, &fault.Error{Class: fault.Conflict, Op: "remove image", On: ref, Err: errors.New("in use by " + strings.Join(users, ", ")),
				Fix: "remove that first"}
		}
		return out, nil
	}
	out.Deleted = []digest.Digest{im.ID}
	return out, nil
}

func repositories(refs []string) []string {
	var repos []string
	for _, r := range refs {
		if named, err := reference.ParseNormalizedNamed(r); err == nil && !slices.Contains(repos, named.Name()) {
			repos = append(repos, named.Name())
		}
	}
	return repos
}

func untag(rs []record, id digest.Digest, names []string) []record {
	gone := func(n string) bool { return slices.Contains(names, n) }
	for i := range rs {
		if rs[i].ID == id {
			rs[i].Names = slices.DeleteFunc(rs[i].Names, gone)
			rs[i].Digests = slices.DeleteFunc(rs[i].Digests, gone)
		}
	}
	return rs
}

// Collect deletes images that have no tag and that inUse does not claim, and
// everything that no image, snapshot or operation under way needs.
func (s *Store) Collect(ctx context.Context, inUse func(digest.Digest) bool) (freed int64, err error) {
	all, err := s.read()
	if err != nil {
		return 0, err
	}
	claimed := map[digest.Digest]bool{}
	for _, im := range all {
		claimed[im.ID] = len(im.Names) > 0 || inUse != nil && inUse(im.ID)
	}
	err = s.change(ctx, func(rs []record) ([]record, error) {
		return slices.DeleteFunc(rs, func(r record) bool {
			keep, known := claimed[r.ID]
			return known && !keep && len(r.Names) == 0
		}), nil
	})
	if err != nil {
		return 0, err
	}
	_, freed, err = s.sweep(ctx)
	return freed, err
}

// sweep removes layers and blobs that nothing names.
func (s *Store) sweep(ctx context.Context) (layers []digest.Digest, freed int64, err error) {
	if err := s.cfg.Snapshots.Sweep(ctx); err != nil {
		return nil, 0, err
	}
	l, err := durable.Exclusive(ctx, filepath.Join(s.cfg.Dir, "lock"))
	if err != nil {
		return nil, 0, err
	}
	defer l.Unlock()
	needed, err := s.leased()
	if err != nil {
		return nil, 0, err
	}
	rs, err := s.records()
	if err != nil {
		return nil, 0, err
	}
	for _, r := range rs {
		needed[r.ID], needed[r.Manifest] = true, true
		im, err := s.decode(r.ID)
		if err != nil {
			// Without its configuration nobody knows its layers: keep everything.
			return nil, 0, &fault.Error{Op: "collect images", On: r.ID.String(), Err: err}
		}
		for _, c := range im.Chain {
			needed[c] = true
		}
	}
	all, err := s.cfg.Snapshots.Layers(ctx)
	if err != nil {
		return nil, 0, err
	}
	// From the top down: a layer goes only when none stands on it.
	for again := true; again; {
		again = false
		for i, layer := range all {
			if layer.Chain == "" || needed[layer.Chain] {
				continue
			}
			err := s.cfg.Snapshots.RemoveLayer(ctx, layer.Chain)
			if fault.ClassOf(err) == fault.Conflict {
				continue
			}
			if err != nil {
				return layers, freed, err
			}
			layers, freed, again = append(layers, layer.Chain), freed+layer.Size, true
			all[i].Chain = ""
		}
	}
	blobs, err := os.ReadDir(filepath.Join(s.cfg.Dir, "blobs/sha256"))
	if err != nil {
		return layers, freed, &fault.Error{Op: "collect images", On: s.cfg.Dir, Err: err}
	}
	for _, b := range blobs {
		if !needed[digest.NewDigestFromEncoded(digest.SHA256, b.Name())] {
			if info, err := b.Info(); err == nil {
				freed += info.Size()
			}
			os.Remove(filepath.Join(s.cfg.Dir, "blobs/sha256", b.Name()))
		}
	}
	return layers, freed, nil
}

// findRecord is Get over records read under the lock.
func (s *Store) findRecord(rs []record, ref string) (Image, error) {
	all := make([]Image, len(rs))
	for i, r := range rs {
		all[i] = Image{ID: r.ID, Names: r.Names, Digests: r.Digests, Manifest: r.Manifest}
	}
	return find(all, ref)
}
