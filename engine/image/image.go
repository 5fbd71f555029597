// Package image keeps images: names, manifests and configurations by digest,
// and, through a snapshot driver, their layers. Images come from archives,
// registries and builds, and go back to archives.
//
// All state is on disk and several processes may use it at once. The package
// knows nothing of containers: who uses an image is asked through Config.InUse.
package image

import (
	"context"
	"log/slog"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"sampan/engine/snapshot"
)

// ConfigFile is an image's configuration: OCI's with Docker's health check,
// shell and triggers.
type ConfigFile = dockerspec.DockerOCIImage

// Config is what a Store needs.
type Config struct {
	Dir       string          // state; made if missing
	Snapshots snapshot.Driver // keeps the layers
	Log       *slog.Logger    // default: slog.Default
	Mirrors   []Mirror        // asked in this order, before the registry itself

	// InUse names who uses an image ("container web-1"), for Remove. It may be nil.
	InUse func(ctx context.Context, id digest.Digest) ([]string, error)
}

// Image is one image. It is a copy: changing it changes nothing.
type Image struct {
	ID       digest.Digest   // digest of the configuration
	Names    []string        // normalized, with tag: docker.io/library/busybox:latest
	Digests  []string        // normalized, with digest: docker.io/library/busybox@sha256:…
	Manifest digest.Digest   // of the manifest it came with, or of one made for it
	Config   ConfigFile      // decoded configuration
	DiffIDs  []digest.Digest // bottom-up
	Chain    []digest.Digest // chain IDs, bottom-up
	Size     int64           // bytes of the unpacked layers
	Loaded   time.Time       // when it came here
	Platform ocispec.Platform
}

// Progress is one line of news while an image comes in.
type Progress struct {
	Image   string        // name or ID
	Layer   digest.Digest // empty: about the whole image
	Phase   Phase
	Current int64 // compressed bytes so far
	Total   int64 // compressed bytes in all, 0 if not known
}

// Phase is where a layer, or an image, is.
type Phase string

const (
	Resolving Phase = "resolving"
	Unpacking Phase = "unpacking"
	Present   Phase = "already present"
	Done      Phase = "done"
)

// Auth is a registry's credentials; the zero value is anonymous.
type Auth struct {
	Username, Password string
	IdentityToken      string // OAuth2 refresh token
	RegistryToken      string // bearer token
}

// PullOptions is how to pull.
type PullOptions struct {
	Platform *ocispec.Platform // default: this machine's
	Auth     Auth
	Progress func(Progress) // called from one goroutine at a time; may be nil
}

// Removed is what Remove did.
type Removed struct {
	Untagged []string        // names, normalized
	Deleted  []digest.Digest // images and layers
	Freed    int64           // bytes
}
