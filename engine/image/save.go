package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"sampan/internal/fault"
)

// Save writes images as one tar that is an OCI layout and a docker-archive at
// once, as `docker save` does. Layers are not packed: see
// docs/decisions/020-layers-without-blobs.md.
func (s *Store) Save(ctx context.Context, w io.Writer, refs []string) error {
	out := &archiveWriter{tw: tar.NewWriter(w), has: map[string]bool{}}
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	index.SchemaVersion = 2
	var list []dockerManifest
	at := map[digest.Digest]int{}
	for _, ref := range refs {
		im, err := s.Get(ctx, ref)
		if err != nil {
			return err
		}
		var names []string
		if name, err := tagged(ref); err == nil && slices.Contains(im.Names, name) {
			names = []string{name}
		}
		if i, ok := at[im.ID]; ok {
			for _, n := range names {
				list[i].RepoTags = append(list[i].RepoTags, Familiar(n))
			}
		} else {
			at[im.ID] = len(list)
			m, err := s.saveImage(ctx, out, im)
			if err != nil {
				return err
			}
			for _, n := range names {
				m.RepoTags = append(m.RepoTags, Familiar(n))
			}
			list = append(list, m)
		}
		d, err := s.savedManifest(out, im)
		if err != nil {
			return err
		}
		if len(names) > 0 {
			d.Annotations = map[string]string{"io.containerd.image.name": names[0]}
		}
		index.Manifests = append(index.Manifests, d)
	}
	for _, f := range []struct {
		name  string
		value any
	}{
		{"manifest.json", list},
		{ocispec.ImageIndexFile, index},
		{ocispec.ImageLayoutFile, ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}},
	} {
		data, err := json.Marshal(f.value)
		if err == nil {
			err = out.put(f.name, data)
		}
		if err != nil {
			return &fault.Error{Op: "save image", Err: err}
		}
	}
	if err := out.tw.Close(); err != nil {
		return &fault.Error{Op: "save image", Err: err}
	}
	return nil
}

func (s *Store) saveImage(ctx context.Context, out *archiveWriter, im Image) (dockerManifest, error) {
	m := dockerManifest{Config: blobName(im.ID), RepoTags: []string{}, Layers: []string{}}
	raw, err := s.blob(im.ID)
	if err != nil {
		return m, err
	}
	if err := out.put(m.Config, raw); err != nil {
		return m, &fault.Error{Op: "save image", Err: err}
	}
	for _, c := range im.Chain {
		l, err := s.cfg.Snapshots.Layer(c)
		if err != nil {
			return m, err
		}
		m.Layers = append(m.Layers, blobName(l.DiffID))
		if out.has[blobName(l.DiffID)] {
			continue
		}
		r, err := s.cfg.Snapshots.Tar(ctx, c)
		if err != nil {
			return m, err
		}
		err = out.copy(blobName(l.DiffID), l.TarSize, r)
		r.Close()
		if err != nil {
			return m, &fault.Error{Op: "save image", On: im.ID.String(), Err: err}
		}
	}
	return m, nil
}

// savedManifest puts the manifest of an image with unpacked layers.
func (s *Store) savedManifest(out *archiveWriter, im Image) (ocispec.Descriptor, error) {
	raw, err := s.blob(im.ID)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	data, err := s.plainManifest(raw, im.Chain)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if err := out.put(blobName(d.Digest), data); err != nil {
		return d, &fault.Error{Op: "save image", Err: err}
	}
	return d, nil
}

// archiveWriter writes each part once, with times that do not change.
type archiveWriter struct {
	tw  *tar.Writer
	has map[string]bool
}

func (a *archiveWriter) put(name string, data []byte) error {
	return a.copy(name, int64(len(data)), bytes.NewReader(data))
}

func (a *archiveWriter) copy(name string, size int64, r io.Reader) error {
	if a.has[name] {
		return nil
	}
	a.has[name] = true
	if err := a.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	_, err := io.Copy(a.tw, r)
	return err
}
