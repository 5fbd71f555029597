// Package encrypt is encryption at rest: it changes what the store keeps of an
// object on its way to etcd, and back, as an EncryptionConfiguration
// (apiserver.config.k8s.io/v1) says. What it writes is what upstream's API
// server writes, byte for byte: the data of one is read by the other.
//
// It knows resources by name and bytes; not what the bytes are, nor who keeps
// them.
package encrypt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/internal/fault"
)

// reloadEvery is how often the file is looked at, upstream's.
const reloadEvery = time.Minute

// Config says what to encrypt and how.
type Config struct {
	File   string // an EncryptionConfiguration, in YAML or JSON
	Reload bool   // the file is read again when it changes
	Log    *slog.Logger

	Metrics prometheus.Registerer // nil: nothing is counted
}

// Encryption seals and opens stored values. It is safe for concurrent use.
type Encryption struct {
	cfg     Config
	content fingerprint // of the file as it was last read
	current atomic.Pointer[table]
	changed chan struct{} // has room for one
	metrics *metrics
}

// Open reads the file and asks the key management plugins that it names for
// a key each. A plugin that does not answer is no error: what needs it fails
// until it does, and Check says so.
func Open(ctx context.Context, cfg Config) (*Encryption, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	e := &Encryption{cfg: cfg, changed: make(chan struct{}, 1), metrics: newMetrics(cfg.Metrics)}
	t, content, err := e.load(ctx)
	if err != nil {
		return nil, err
	}
	e.content = content
	e.current.Store(t)
	return e, nil
}

// load makes a table of the file as it is.
func (e *Encryption) load(ctx context.Context) (*table, fingerprint, error) {
	config, content, err := read(e.cfg.File)
	if err != nil {
		return nil, content, err
	}
	t, err := build(config, func(k *kms) { k.recovered, k.log = e.signal, e.cfg.Log })
	if err != nil {
		return nil, content, invalid(e.cfg.File, err)
	}
	for _, k := range t.plugins {
		if err := k.check(ctx); err != nil {
			e.cfg.Log.Warn("a key management plugin is not ready", "err", err)
		}
	}
	return t, content, nil
}

func invalid(file string, err error) error {
	return &fault.Error{Class: fault.Invalid, Op: "read encryption configuration", On: file, Err: err,
		Fix: "correct the file given with --encryption-provider-config; docs/encryption.md has examples"}
}

// Seal returns what is to be stored of data, an object of a resource, under a
// key of etcd, which becomes part of what is authenticated.
func (e *Encryption) Seal(ctx context.Context, resource schema.GroupResource, key string, data []byte) ([]byte, error) {
	c := e.current.Load().of(resource)
	if c == nil {
		return data, nil
	}
	began := time.Now()
	stored, err := c.seal(ctx, []byte(key), data)
	e.metrics.count(sealing, resource, c.providers[0].prefix, began, err)
	return stored, err
}

// Open returns what Seal was given. stale says that Seal would write it
// otherwise by now, with another key: then a write that changes nothing is
// worth doing.
func (e *Encryption) Open(ctx context.Context, resource schema.GroupResource, key string, stored []byte) (data []byte, stale bool, err error) {
	c := e.current.Load().of(resource)
	if c == nil {
		return identity{}.open(ctx, nil, stored)
	}
	began := time.Now()
	data, stale, err = c.open(ctx, []byte(key), stored)
	e.metrics.count(opening, resource, c.prefixOf(stored), began, err)
	return data, stale, err
}

// Changed has a value when what Open refused may be had now: the file has
// changed, or a plugin is back.
func (e *Encryption) Changed() <-chan struct{} { return e.changed }

func (e *Encryption) signal() {
	select {
	case e.changed <- struct{}{}:
	default:
	}
}

// UsesPlugin says whether there is anything for Check to look at, now or after
// a change of the file.
func (e *Encryption) UsesPlugin() bool { return e.cfg.Reload || len(e.current.Load().plugins) > 0 }

// Check is upstream's health check "kms-providers".
func (e *Encryption) Check(ctx context.Context) error {
	var errs []error
	for i, k := range e.current.Load().plugins {
		if err := k.check(ctx); err != nil {
			errs = append(errs, fmt.Errorf("kms-provider-%d: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

// Run keeps the keys of plugins fresh and follows the file, if that was asked
// for, until ctx ends. Without either it does nothing.
func (e *Encryption) Run(ctx context.Context) {
	defer func() {
		if ctx.Err() != nil { // else it is run again
			e.current.Load().close()
		}
	}()
	for ctx.Err() == nil {
		t := e.current.Load()
		turn, stop := context.WithCancel(ctx)
		polled := t.poll(turn)
		next := e.follow(ctx)
		stop()
		<-polled
		if next == nil {
			return
		}
		e.current.Store(next)
		e.signal()
		// Calls under way may still need the old connections.
		old := time.AfterFunc(t.grace(), t.close)
		defer func() {
			if old.Stop() {
				t.close()
			}
		}()
	}
}

// follow waits until the file has changed and can be used; nil when ctx ends.
func (e *Encryption) follow(ctx context.Context) *table {
	if !e.cfg.Reload {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(reloadEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		content, err := fingerprintOf(e.cfg.File)
		if err == nil && content == e.content {
			continue
		}
		t, content, err := e.load(ctx)
		if err != nil {
			if content != e.content {
				e.cfg.Log.Error("the encryption configuration has changed and cannot be used; the one before stays in force", "err", err)
				e.content = content // said once
			}
			continue
		}
		e.content = content
		e.cfg.Log.Info("encryption configuration read again", "file", e.cfg.File)
		return t
	}
}
