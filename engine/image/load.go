package image

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"path"
	"runtime"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"sampan/internal/fault"
)

// dockerManifest is an entry of manifest.json in a docker-archive
// (moby image-spec v1.2, "Combined Image JSON + Filesystem Changeset Format").
type dockerManifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// Load takes in every image of an archive as `docker save` makes them, or of
// an OCI layout, packed with gzip, zstd, or not. An image whose layers do not
// all verify leaves nothing behind; images before it in the archive stay.
func (s *Store) Load(ctx context.Context, r io.Reader, progress func(Progress)) ([]Image, error) {
	a, err := openArchive(ctx, r, s.cfg.Dir)
	if err != nil {
		return nil, err
	}
	if io.Reader(a.file) != r {
		defer a.file.Close()
	}
	found, err := contents(a)
	if err != nil {
		return nil, err
	}
	var out []Image
	for _, in := range found {
		in.progress = progress
		im, err := s.takeIn(ctx, in)
		if err != nil {
			return out, err
		}
		out = append(out, im)
	}
	return out, nil
}

// contents says which images are in the archive.
func contents(a *archive) ([]incoming, error) {
	switch {
	case a.has("manifest.json"):
		return dockerContents(a)
	case a.has(ocispec.ImageIndexFile):
		return ociContents(a)
	}
	return nil, &fault.Error{Class: fault.Invalid, Op: "read archive", Err: errors.New("it has neither manifest.json (docker save) nor index.json (OCI layout)"), Fix: damaged}
}

func dockerContents(a *archive) ([]incoming, error) {
	raw, err := a.bytes("manifest.json")
	if err != nil {
		return nil, err
	}
	var ms []dockerManifest
	if err := json.Unmarshal(raw, &ms); err != nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "read archive", On: "manifest.json", Err: err, Fix: damaged}
	}
	var out []incoming
	for _, m := range ms {
		in := incoming{}
		if in.config, err = a.bytes(m.Config); err != nil {
			return nil, err
		}
		if err := verify("image configuration "+m.Config, named(m.Config), in.config); err != nil {
			return nil, err
		}
		for _, t := range m.RepoTags {
			n, err := tagged(t)
			if err != nil {
				return nil, err
			}
			in.names = append(in.names, n)
		}
		for _, l := range m.Layers {
			if _, err := a.open(l); err != nil {
				return nil, err
			}
			// Only blobs/sha256/HEX says what its bytes must be: HEX/layer.tar is an ID.
			want := digest.Digest("")
			if strings.HasPrefix(l, "blobs/sha256/") {
				want = named(l)
			}
			in.layers = append(in.layers, a.source(l, want))
		}
		out = append(out, in)
	}
	if len(out) == 0 {
		return nil, &fault.Error{Class: fault.Invalid, Op: "read archive", Err: errors.New("manifest.json names no image"), Fix: damaged}
	}
	return out, nil
}

// named is the digest that a file name like blobs/sha256/HEX or HEX.json
// promises, or empty.
func named(file string) digest.Digest {
	d := digest.NewDigestFromEncoded(digest.SHA256, strings.TrimSuffix(path.Base(file), ".json"))
	if d.Validate() != nil {
		return ""
	}
	return d
}

func verify(what string, want digest.Digest, data []byte) error {
	if got := digest.FromBytes(data); want != "" && got != want {
		return &fault.Error{Class: fault.Invalid, Op: "verify " + what, Err: errors.New("its digest is " + got.String() + ", expected " + want.String()), Fix: damaged}
	}
	return nil
}

func (a *archive) source(name string, want digest.Digest) source {
	return source{digest: want, size: a.parts[path.Clean(name)].size, open: func(context.Context) (io.ReadCloser, error) {
		r, err := a.open(name)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(r), nil
	}}
}

func blobName(d digest.Digest) string { return "blobs/" + d.Algorithm().String() + "/" + d.Encoded() }

func ociContents(a *archive) ([]incoming, error) {
	raw, err := a.bytes(ocispec.ImageIndexFile)
	if err != nil {
		return nil, err
	}
	return ociIndex(a, raw, nil, 0)
}

// ociIndex reads an index; inner indexes choose this machine's platform.
func ociIndex(a *archive, raw []byte, names []string, depth int) ([]incoming, error) {
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "read archive", On: ocispec.ImageIndexFile, Err: err, Fix: damaged}
	}
	if depth > 3 {
		return nil, &fault.Error{Class: fault.Invalid, Op: "read archive", Err: errors.New("indexes are nested more than three deep"), Fix: damaged}
	}
	var out []incoming
	var offered []string
	for _, d := range index.Manifests {
		if d.Digest.Validate() != nil || !a.has(blobName(d.Digest)) {
			offered = append(offered, platformName(d.Platform))
			continue // another platform's, left out of the archive
		}
		if depth > 0 && d.Platform != nil && !suits(*d.Platform, ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}) {
			offered = append(offered, platformName(d.Platform))
			continue
		}
		data, err := a.bytes(blobName(d.Digest))
		if err != nil {
			return nil, err
		}
		if err := verify("manifest", d.Digest, data); err != nil {
			return nil, err
		}
		mine := names
		if n := ociName(d); n != "" {
			if n, err = tagged(n); err != nil {
				return nil, err
			}
			mine = []string{n}
		}
		if d.MediaType == ocispec.MediaTypeImageIndex || strings.HasSuffix(d.MediaType, "manifest.list.v2+json") {
			inner, err := ociIndex(a, data, mine, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, inner...)
			continue
		}
		in, err := ociManifest(a, data)
		if err != nil {
			return nil, err
		}
		in.names = mine
		out = merged(out, in)
		if depth > 0 {
			break // the first that suits
		}
	}
	if len(out) == 0 {
		return nil, &fault.Error{Class: fault.Invalid, Op: "read archive", Err: errors.New("it has no image for linux/" + runtime.GOARCH + ", only for: " + strings.Join(offered, ", "))}
	}
	return out, nil
}

// merged adds in, or only its names if the same manifest is listed twice.
func merged(out []incoming, in incoming) []incoming {
	for i := range out {
		if digest.FromBytes(out[i].manifest) == digest.FromBytes(in.manifest) {
			out[i].names = append(out[i].names, in.names...)
			return out
		}
	}
	return append(out, in)
}

// ociName is the name of an entry of index.json: containerd's annotation has
// the whole name, OCI's often the tag only, which names nothing by itself.
func ociName(d ocispec.Descriptor) string {
	if n := d.Annotations["io.containerd.image.name"]; n != "" {
		return n
	}
	if n := d.Annotations[ocispec.AnnotationRefName]; strings.ContainsAny(n, ":/") {
		return n
	}
	return ""
}

func ociManifest(a *archive, raw []byte) (incoming, error) {
	in := incoming{manifest: raw}
	var m ocispec.Manifest
	if err := json.Unmarshal(raw, &m); err != nil {
		return in, &fault.Error{Class: fault.Invalid, Op: "read archive", On: "manifest", Err: err, Fix: damaged}
	}
	var err error
	if in.config, err = a.bytes(blobName(m.Config.Digest)); err != nil {
		return in, err
	}
	if err := verify("image configuration", m.Config.Digest, in.config); err != nil {
		return in, err
	}
	for _, l := range m.Layers {
		if _, err := a.open(blobName(l.Digest)); err != nil {
			return in, err
		}
		in.layers = append(in.layers, a.source(blobName(l.Digest), l.Digest))
	}
	return in, nil
}

func platformName(p *ocispec.Platform) string {
	if p == nil {
		return "unknown"
	}
	name := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		name += "/" + p.Variant
	}
	return name
}

// suits reports whether an image for have runs where want is asked for.
func suits(have, want ocispec.Platform) bool {
	return have.OS == want.OS && have.Architecture == want.Architecture && (want.Variant == "" || have.Variant == want.Variant)
}
