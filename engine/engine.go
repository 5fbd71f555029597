// Package engine runs containers on one machine: it is the model (Container,
// Sandbox, Volume as plain data) and what can be done with it.
//
// All state is on disk and in the kernel. Several processes use one state
// directory at once, the daemon and commands alike, and each may be killed at
// any moment: whoever comes next takes over what runs and finishes or undoes
// what was half made. An operation holds the lock file in the directory of
// what it changes; a sandbox's is taken before its containers'.
//
// The engine knows nothing of the APIs in front of it; see engine/cri and
// engine/dockerapi.
package engine

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"sampan/engine/image"
	"sampan/engine/network"
	"sampan/engine/runtime"
	"sampan/engine/snapshot"
	"sampan/internal/fault"
)

// Config says where an engine keeps its things. Engines with different State
// directories do not see each other.
type Config struct {
	State string // survives a reboot; default /var/lib/sampan
	Run   string // sockets, mounts, pins; cleared by a reboot; default /run/sampan
	// Self is a program with arguments that takes "settle ID": it is run when a
	// detached container ends while nobody may be looking. Empty: what is left
	// of the container waits for the next process that opens the engine.
	Self []string
	Log  *slog.Logger // default: discards

	Mirrors []image.Mirror // of registries, for pulls
}

// Engine is safe for concurrent use.
type Engine struct {
	Images    *image.Store
	Snapshots snapshot.Driver
	Runtime   *runtime.Runtime

	config  Config
	log     *slog.Logger
	network *network.Network
	records records
	events  hub

	recovered     chan struct{} // see Recovered
	recoveredOnce sync.Once

	mu     sync.Mutex // guards all below
	closed bool
	alive  bool            // live has done its work
	warned map[string]bool // see news

	sandboxOf map[string]string // of containers whose record was read, see isOf
}

// Instance is a name for what the kernel shares between all engines of a
// machine, such as control groups. It is made of the state directory.
func Instance(state string) string {
	sum := sha256.Sum256([]byte(filepath.Clean(state)))
	return "sampan-" + hex.EncodeToString(sum[:4])
}

// Open makes the directories that are missing and opens the image store. It
// starts nothing and changes nothing of what runs; see Recover.
func Open(ctx context.Context, c Config) (*Engine, error) {
	if c.State == "" {
		c.State = "/var/lib/sampan"
	}
	if c.Run == "" {
		c.Run = "/run/sampan"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if !filepath.IsAbs(c.State) || !filepath.IsAbs(c.Run) {
		return nil, &fault.Error{Class: fault.Invalid, Op: "open engine", On: c.State, Err: errors.New("state and run directories must be absolute paths")}
	}
	if os.Geteuid() != 0 {
		return nil, &fault.Error{Class: fault.Forbidden, Op: "open engine", On: c.State,
			Err: errors.New("containers need root"), Fix: "run it with sudo"}
	}
	e := &Engine{config: c, log: c.Log, recovered: make(chan struct{}), sandboxOf: map[string]string{}}
	for _, dir := range []string{e.path("containers"), e.path("sandboxes"), e.path("names"), e.path("volumes"), e.path("logs")} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, &fault.Error{Op: "make directory", On: dir, Err: err, Fix: "see whether the file system is full or read-only"}
		}
	}
	var err error
	if e.Snapshots, err = snapshot.NewOverlay(e.path("snapshots")); err != nil {
		return nil, err
	}
	if err := e.openImages(); err != nil {
		return nil, err
	}
	if e.Runtime, err = runtime.New(runtime.Config{Dir: e.run("pods"), MonitorCgroup: e.CgroupRoot() + "/monitors", Log: c.Log}); err != nil {
		return nil, err
	}
	if e.network, err = network.New(network.Config{Dir: e.run("network")}); err != nil {
		return nil, err
	}
	return e, nil
}

// Close ends connections to monitors. Containers go on.
func (e *Engine) Close() error {
	e.mu.Lock()
	closed := e.closed
	e.closed = true
	e.mu.Unlock()
	if closed {
		return nil
	}
	e.events.close()
	return e.Runtime.Close()
}

// CgroupRoot is the path of this engine's control groups, from the root of
// each hierarchy.
func (e *Engine) CgroupRoot() string { return "/" + Instance(e.config.State) }

// StateDir is where the engine's files are.
func (e *Engine) StateDir() string { return filepath.Join(e.config.State, "engine") }

func (e *Engine) path(elem ...string) string {
	return filepath.Join(append([]string{e.config.State, "engine"}, elem...)...)
}

func (e *Engine) run(elem ...string) string {
	return filepath.Join(append([]string{e.config.Run, "engine"}, elem...)...)
}

// newID is 32 random bytes in hexadecimal, as Docker's IDs are.
func newID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

func failed(op, on string, err error) error {
	if err == nil {
		return nil
	}
	return &fault.Error{Op: op, On: on, Err: err}
}

// in adds what an error was about, once.
func in(op, on string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", op, on, err)
}

func short(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}
