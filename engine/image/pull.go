package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"sampan/internal/fault"
)

// Pull gets an image from its registry: over TLS, or plain HTTP if the
// registry is on this machine's loopback. Layers go from the network straight
// into their folders; nothing is kept of a pull that fails.
func (s *Store) Pull(ctx context.Context, ref string, o PullOptions) (Image, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return Image{}, &fault.Error{Class: fault.Invalid, Op: "pull image", On: ref, Err: err, Fix: "names look like registry.example.com/team/app:1.0"}
	}
	named = reference.TagNameOnly(named)
	in, err := s.resolve(ctx, named, o)
	if err != nil {
		return Image{}, pullError(ref, err)
	}
	im, err := s.takeIn(ctx, in)
	if err != nil {
		return Image{}, pullError(ref, err)
	}
	return im, nil
}

// resolveAt reads manifest and configuration of what ref has; layers are
// opened later.
func (s *Store) resolveAt(ctx context.Context, named reference.Named, ref name.Reference, auth Auth, o PullOptions) (incoming, error) {
	in := incoming{progress: o.Progress}
	want := ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	if o.Platform != nil {
		want = *o.Platform
	}
	desc, err := remote.Get(ref, remote.WithContext(ctx), remote.WithTransport(loopbackOnly{remote.DefaultTransport}),
		remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: auth.Username, Password: auth.Password, IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken})),
		remote.WithPlatform(v1.Platform{OS: want.OS, Architecture: want.Architecture, Variant: want.Variant}))
	if err != nil {
		return in, err
	}
	if desc.MediaType.IsSchema1() {
		return in, &fault.Error{Class: fault.Invalid, Op: "read manifest", On: named.String(), Err: errors.New("it has the manifest format of before 2017 (schema 1)"), Fix: "push the image again with a current tool"}
	}
	if desc.MediaType.IsIndex() {
		if err := offers(desc.Manifest, want); err != nil {
			return in, err
		}
	}
	img, err := desc.Image()
	if err != nil {
		return in, err
	}
	if in.manifest, err = img.RawManifest(); err != nil {
		return in, err
	}
	if in.config, err = img.RawConfigFile(); err != nil {
		return in, err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(in.manifest, &m); err != nil {
		return in, err
	}
	if err := verify("image configuration", m.Config.Digest, in.config); err != nil {
		return in, err
	}
	for _, l := range m.Layers {
		in.layers = append(in.layers, source{digest: l.Digest, size: l.Size, open: func(context.Context) (io.ReadCloser, error) {
			layer, err := img.LayerByDigest(v1.Hash{Algorithm: l.Digest.Algorithm().String(), Hex: l.Digest.Encoded()})
			if err != nil {
				return nil, err
			}
			return layer.Compressed()
		}})
	}
	in.digests = []string{named.Name() + "@" + desc.Digest.String()}
	if _, ok := named.(reference.Canonical); !ok {
		in.names = []string{named.String()}
	}
	return in, nil
}

// offers says which platforms there are if none suits.
func offers(index []byte, want ocispec.Platform) error {
	var ix ocispec.Index
	if err := json.Unmarshal(index, &ix); err != nil {
		return err
	}
	var have []string
	for _, d := range ix.Manifests {
		if d.Platform == nil || suits(*d.Platform, want) {
			return nil
		}
		if d.Platform.OS != "unknown" {
			have = append(have, platformName(d.Platform))
		}
	}
	return &fault.Error{Class: fault.NotFound, Op: "choose platform", On: platformName(&want), Err: errors.New("the image is only for " + strings.Join(have, ", "))}
}

// pullError gives the registry's answer a class and a fix.
func pullError(ref string, err error) error {
	out := &fault.Error{Class: classOr(err, fault.Unavailable), Op: "pull image", On: ref, Err: err}
	if t, ok := errors.AsType[*transport.Error](err); ok {
		switch t.StatusCode {
		case http.StatusNotFound:
			out.Class, out.Fix = fault.NotFound, "check the name and the tag"
		case http.StatusUnauthorized, http.StatusForbidden:
			out.Class, out.Fix = fault.Forbidden, "the image does not exist or needs credentials"
		}
	} else if _, ok := errors.AsType[net.Error](err); ok {
		out.Fix = "check that the registry can be reached from here, or bring the image with: sampan load"
	}
	return out
}

// loopbackOnly refuses plain HTTP to anything but this machine: the library
// would use it for private addresses, too.
type loopbackOnly struct{ next http.RoundTripper }

func (l loopbackOnly) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme == "http" {
		if !loopback(r.URL.Hostname()) {
			return nil, &fault.Error{Class: fault.Forbidden, Op: "reach registry", On: r.URL.Host, Err: fmt.Errorf("plain HTTP is allowed to loopback only"), Fix: "serve the registry over TLS"}
		}
	}
	return l.next.RoundTrip(r)
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
