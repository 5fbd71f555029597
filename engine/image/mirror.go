package image

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/name"

	"sampan/internal/fault"
)

// Mirror is a registry that is asked before another one, for that one's images.
type Mirror struct {
	Registry string // the host in the names of images, such as registry.k8s.io
	Host     string // where the mirror is, host or host:port
	Path     string // goes before the names of images on the mirror; may be empty
	Plain    bool   // HTTP without TLS: on this machine's loopback only
}

// ParseMirror reads REGISTRY=URL, as in docker.io=https://mirror.example.com/hub.
func ParseMirror(text string) (Mirror, error) {
	wrong := func(err error) (Mirror, error) {
		return Mirror{}, &fault.Error{Class: fault.Invalid, Op: "read registry mirror", On: text, Err: err, Fix: "write it like registry.k8s.io=https://mirror.example.com"}
	}
	registry, address, found := strings.Cut(text, "=")
	if !found || registry == "" || strings.Contains(registry, "/") {
		return wrong(errors.New("want REGISTRY=URL"))
	}
	u, err := url.Parse(address)
	if err != nil {
		return wrong(err)
	}
	if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return wrong(fmt.Errorf("%q is no address of a registry", address))
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		return wrong(errors.New("plain HTTP is allowed to loopback only"))
	}
	return Mirror{Registry: registry, Host: u.Host, Path: strings.Trim(u.Path, "/"), Plain: u.Scheme == "http"}, nil
}

// endpoint is a place to ask for an image.
type endpoint struct {
	ref    name.Reference
	mirror string // "": the registry itself. A mirror does not get its credentials
}

// endpoints are where an image may be, in the order in which to ask.
func endpoints(named reference.Named, mirrors []Mirror) ([]endpoint, error) {
	var all []endpoint
	for _, m := range mirrors {
		if m.Registry != reference.Domain(named) {
			continue
		}
		at := m.Host + "/" + strings.Trim(m.Path+"/"+reference.Path(named), "/")
		options := []name.Option{name.StrictValidation}
		if m.Plain {
			options = append(options, name.Insecure)
		}
		ref, err := name.ParseReference(at+strings.TrimPrefix(named.String(), named.Name()), options...)
		if err != nil {
			return nil, err
		}
		all = append(all, endpoint{ref, m.Host})
	}
	ref, err := name.ParseReference(named.String(), name.StrictValidation)
	return append(all, endpoint{ref: ref}), err
}

// resolve asks the registry's mirrors in turn, then the registry.
func (s *Store) resolve(ctx context.Context, named reference.Named, o PullOptions) (incoming, error) {
	if o.Progress != nil {
		o.Progress(Progress{Image: reference.FamiliarString(named), Phase: Resolving})
	}
	all, err := endpoints(named, s.cfg.Mirrors)
	if err != nil {
		return incoming{}, err
	}
	for _, at := range all {
		auth := o.Auth
		if at.mirror != "" {
			auth = Auth{}
		}
		var in incoming
		if in, err = s.resolveAt(ctx, named, at.ref, auth, o); err == nil || ctx.Err() != nil {
			return in, err
		}
		if at.mirror != "" {
			s.cfg.Log.Warn("registry mirror has not the image, asking the next", "image", named.String(), "mirror", at.mirror, "error", err)
		}
	}
	return incoming{}, err
}
