// Package build makes images from Dockerfiles: it compiles the file to a list
// of steps, and carries the steps out on snapshots, skipping those whose
// result it has from before.
//
// It does not know how a process is run in a container: that is a Runner's work.
package build

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"sampan/engine/image"
	"sampan/engine/snapshot"
	"sampan/internal/fault"
)

// Runner runs the command of a RUN step and waits for its end.
type Runner interface {
	// Run returns the command's exit code; err is for what kept it from running.
	// It kills everything the command started when ctx ends, and before it returns.
	Run(ctx context.Context, r RunRequest) (exitCode int, err error)
}

// RunRequest is one command in a root file system.
type RunRequest struct {
	RootFS string   // a mounted, writable root file system
	Args   []string // never empty
	Env    []string // NAME=value; has PATH
	Dir    string   // absolute, exists
	User   string   // as in USER: name or number, optionally :group; empty for root
	Output io.Writer
}

// Config is what a Builder needs.
type Config struct {
	Dir       string // state: the build cache; made if missing
	Images    *image.Store
	Snapshots snapshot.Driver // the one that Images uses
	Runner    Runner
	Log       *slog.Logger // default: slog.Default
}

// Builder builds images. It may be used by several goroutines at once.
type Builder struct{ cfg Config }

// New checks cfg and makes its folder.
func New(cfg Config) (*Builder, error) {
	if cfg.Images == nil || cfg.Snapshots == nil || cfg.Runner == nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "make builder", Err: errors.New("images, snapshots and runner must be given")}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if err := os.MkdirAll(filepath.Join(cfg.Dir, "cache"), 0o700); err != nil {
		return nil, &fault.Error{Op: "make builder", On: cfg.Dir, Err: err}
	}
	return &Builder{cfg}, nil
}

// Request is one build.
type Request struct {
	Context    string            // folder that COPY copies from
	Dockerfile string            // path; default: Dockerfile in Context
	Tags       []string          // names of the result
	Args       map[string]string // --build-arg
	Target     string            // stage to build; default: the last
	NoCache    bool
	// Created is the time of the image and the newest that its files may have
	// (SOURCE_DATE_EPOCH); zero for now.
	Created time.Time
	// Pull gets a base image that is not here; nil: that is an error.
	Pull   func(ctx context.Context, ref string) (image.Image, error)
	Output io.Writer // progress lines as of `docker build --progress=plain`, and what RUN prints
}
