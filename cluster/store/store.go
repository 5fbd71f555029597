// Package store keeps every object of the cluster, decoded, once.
//
// Objects live in etcd, under upstream's keys; one etcd watch feeds one cache
// of ordered copy-on-write trees, and a bounded log of events per kind. Reads
// are served from the cache, writes go to etcd with a compare on the object's
// revision and return when the cache has them. Whatever is handed out is
// shared: never write to it.
//
// store knows no HTTP and no rules: whoever calls it has validated.
package store

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"sampan/cluster/kind"
	"sampan/internal/fault"
)

// Config says where objects are kept. Kinds, Codec and one of Dir and
// Endpoints are required.
type Config struct {
	// Dir is where the embedded etcd keeps its files. It is made if it is not
	// there. Only one process may have it open.
	Dir string

	// Endpoints are those of an etcd cluster that runs elsewhere; with them no
	// etcd is embedded and Dir is not used. TLS is how to reach them, nil for
	// plain text.
	Endpoints []string
	TLS       *tls.Config

	// Prefix is what the keys in etcd begin with; default /registry. Stores
	// with different ones may share an etcd and know nothing of each other.
	Prefix string

	Kinds *kind.Table // the kinds kept from the start; see Add for later ones
	Codec Codec
	Log   *slog.Logger // default: none

	Transformer Transformer // encrypts what is stored; nil: it is stored as the Codec has it

	CompactEvery time.Duration // how much history etcd keeps, at least; default 5 min, negative: all
	Quota        int64         // bytes the embedded etcd may use before it refuses writes; default 8 GiB

	Window Window // bounds of the event log of each kind

	// CheckShared finds writes to shared objects: they are hashed when they
	// enter the cache and when they leave it. For tests: it costs two
	// encodings of each object.
	CheckShared bool
}

// Window bounds the log of events that each kind keeps for watches to resume.
// Zero fields have the defaults named.
type Window struct {
	Min      int           // events kept however old they are, if they are small; 100
	MinBytes int           // encoded bytes of the objects in those; decoded they may be five times as many; 2 MiB
	Max      int           // events kept however young they are; 10,000
	Bytes    int           // encoded bytes of the objects in the events kept, beyond Min; 32 MiB
	Age      time.Duration // for how long more than Min and MinBytes are kept; 2 min
}

// Codec turns objects into the bytes stored and back. Both functions are safe
// for concurrent use; Decode keeps no reference to data.
type Codec interface {
	Encode(k *kind.Kind, obj kind.Object) ([]byte, error)
	Decode(k *kind.Kind, data []byte) (kind.Object, error)
}

// Store is the cluster's state. All methods are safe for concurrent use.
type Store struct {
	codec     Codec
	transform Transformer // nil: none
	log       *slog.Logger
	window    Window
	check     *sharedCheck // nil: off
	etcd      *etcd
	tail      *tail // of etcd; the feeder receives from it
	leases    leases
	sharing   sharing
	frames    frames // forms of events that were sent lately

	unreadSaid *kind.Kind // of which the feeder has last said that objects cannot be read

	sets atomic.Pointer[map[string]*set] // by Kind.Prefix; replaced, never written to
	adds chan addition                   // kinds for the feeder to take up

	// handed holds the objects of writes under way, by etcd key, so that the
	// feeder need not decode what this process encoded.
	handedMu sync.Mutex
	handed   map[string][]*handover

	// mu guards what the feeder changes: revision, waiters, and every set.
	// It is held for a batch of events at a time, never across I/O.
	mu       sync.RWMutex
	revision int64 // the cache has everything up to here
	waiters  []waiter
	failed   error // why the feeder stopped; nil while it runs

	done chan struct{} // closed when failed is set

	compact compactor

	stop  context.CancelFunc
	over  sync.WaitGroup // the feeder
	close func() error   // what Close does, once
}

// waiter is a call that waits for the cache to reach a revision.
type waiter struct {
	revision int64
	done     chan struct{} // closed when it has, or when the feeder stopped
}

// Open starts the embedded etcd or connects to the one given, and fills the
// cache. The store is ready to serve when Open returns. ctx bounds the start
// only.
func Open(ctx context.Context, c Config) (*Store, error) {
	if c.Kinds == nil || c.Codec == nil || (c.Dir == "") == (len(c.Endpoints) == 0) {
		return nil, &fault.Error{Class: fault.Invalid, Op: "open store", On: c.Dir,
			Err: errors.New("kinds, codec and either a directory or endpoints are needed")}
	}
	c = c.withDefaults()
	server, err := openEtcd(c)
	if err != nil {
		return nil, err
	}
	run, stop := context.WithCancel(context.Background())
	s := &Store{
		codec: c.Codec, transform: c.Transformer, log: c.Log, window: c.Window.withDefaults(), etcd: server,
		adds: make(chan addition), done: make(chan struct{}), handed: map[string][]*handover{}, stop: stop,
		leases: leases{etcd: server},
	}
	s.close = sync.OnceValue(s.shut)
	s.compact = compactor{every: max(c.CompactEvery, 0), store: s, ctx: run}
	if c.CheckShared {
		s.check = &sharedCheck{codec: c.Codec}
	}
	sets := map[string]*set{}
	for _, k := range c.Kinds.All() {
		sets[k.Prefix] = newSet(k)
	}
	s.sets.Store(&sets)
	err = server.unlessEnded(func() (err error) {
		s.tail, err = s.load(ctx, run)
		return err
	})
	if err != nil {
		stop()
		server.close()
		return nil, err
	}
	server.release()
	s.over.Go(func() { s.feed(run) })
	if server.ended != nil {
		s.over.Go(func() { s.failWith(run, server.ended) })
	}
	return s, nil
}

// failWith makes the store fail when the embedded etcd has ended.
func (s *Store) failWith(ctx context.Context, ended *ending) {
	select {
	case <-ended.done:
		s.fail(ended.reason())
	case <-ctx.Done():
	}
}

// Close ends all watches and stops the embedded etcd. Calls under way fail.
// Its error names objects that were written to although shared, if the
// Config asked for that check. It may be called twice.
func (s *Store) Close() error { return s.close() }

func (s *Store) shut() error {
	s.stop()
	s.etcd.settle(func() {
		s.over.Wait()
		s.compact.close()
	})
	s.etcd.close()
	if s.check == nil {
		return nil
	}
	for _, set := range *s.sets.Load() {
		for _, e := range set.tree.Items() {
			s.check.leave(set.kind, e)
		}
	}
	return s.check.found()
}

// Revision is the revision that the cache has reached.
func (s *Store) Revision() int64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.revision
}

// Done is closed when the cache can follow etcd no more, because the store was
// closed or for the reason that Err gives: then the process has to start anew.
func (s *Store) Done() <-chan struct{} { return s.done }

// Err says why Done is closed; nil as long as it is not.
func (s *Store) Err() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.failed
}

// Add takes up a kind at run time: when it returns, its stored objects are in
// the cache. A kind with the same prefix is replaced: its objects and its log
// stay, its indexes are made anew. The objects of a custom kind are read again,
// since their form may be another now, and its cursors end.
func (s *Store) Add(ctx context.Context, k *kind.Kind) error {
	a := addition{kind: k, done: make(chan error, 1)}
	select {
	case s.adds <- a:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-a.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Remove forgets a kind and ends its cursors. What etcd holds of it stays;
// delete the objects first.
func (s *Store) Remove(k *kind.Kind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := (*s.sets.Load())[k.Prefix]
	if old == nil {
		return
	}
	sets := maps.Clone(*s.sets.Load())
	delete(sets, k.Prefix)
	s.sets.Store(&sets)
	old.goneLocked(&Ended{Kind: k.String(), Gone: true})
}

// set returns the objects of k.
func (s *Store) set(k *kind.Kind) (*set, error) {
	if found := (*s.sets.Load())[k.Prefix]; found != nil {
		return found, nil
	}
	return nil, &fault.Error{Class: fault.NotFound, Op: "find kind in store", On: k.String()}
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.CompactEvery == 0 {
		c.CompactEvery = 5 * time.Minute
	}
	if c.Quota == 0 {
		c.Quota = 8 << 30
	}
	return c
}

func (w Window) withDefaults() Window {
	if w.Min == 0 {
		w.Min = 100
	}
	if w.MinBytes == 0 {
		w.MinBytes = 2 << 20
	}
	if w.Max == 0 {
		w.Max = 10_000
	}
	if w.Bytes == 0 {
		w.Bytes = 32 << 20
	}
	if w.Age == 0 {
		w.Age = 2 * time.Minute
	}
	w.Max = max(w.Max, w.Min)
	return w
}
