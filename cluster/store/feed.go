package store

import (
	"context"
	"errors"
	"maps"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"sampan/cluster/kind"
	"sampan/internal/fault"
)

// addition asks the feeder to take up a kind.
type addition struct {
	kind *kind.Kind
	done chan error // has room for one
}

// history is how many revisions the event logs are filled with at start, if
// etcd still has them, so that watches resume across a restart. More would
// make the start slower.
const history = 500

// load reads all objects as they were some revisions ago and replays what has
// happened since, so that the logs have the old objects as well. It returns
// the tail from which the feeder goes on. The reading needs no leader, and
// goes on while the first election is waited for.
func (s *Store) load(ctx, run context.Context) (*tail, error) {
	t, err := s.loadOnce(ctx, run)
	if !errors.Is(err, rpctypes.ErrCompacted) {
		return t, err
	}
	// The end of etcd's log, which is applied while we read, has a compaction:
	// the program was killed just after one. When etcd is ready there is no
	// other to come.
	if err := s.etcd.ready(ctx); err != nil {
		return nil, err
	}
	sets := map[string]*set{}
	for prefix, old := range *s.sets.Load() {
		sets[prefix] = newSet(old.kind)
	}
	s.sets.Store(&sets)
	s.revision = 0
	return s.loadOnce(ctx, run)
}

func (s *Store) loadOnce(ctx, run context.Context) (*tail, error) {
	base, err := s.base(ctx)
	if err != nil {
		return nil, unavailable("read", "etcd", err)
	}
	if s.etcd.server == nil {
		return s.loadFar(ctx, run, base)
	}
	if err := s.loadAt(ctx, base); err != nil {
		return nil, unavailable("load", string(s.etcd.root), err)
	}
	if err := s.etcd.ready(ctx); err != nil {
		return nil, err
	}
	now, err := s.etcd.revision(ctx)
	if err != nil {
		return nil, unavailable("read", "etcd", err)
	}
	for s.Revision() < now {
		a, err := s.etcd.past(s.Revision(), min(s.Revision()+history, now))
		if err == nil {
			err = s.follow(ctx, a)
		}
		if err != nil {
			return nil, unavailable("load", string(s.etcd.root), err)
		}
	}
	s.compact.done = base
	return s.etcd.tail(run, now)
}

// loadFar is loadOnce from an etcd elsewhere, which only its watch tells what
// has happened after base.
func (s *Store) loadFar(ctx, run context.Context, base int64) (_ *tail, err error) {
	run, drop := context.WithCancel(run)
	defer func() {
		if err != nil {
			drop()
		}
	}()
	t, err := s.etcd.tail(run, base)
	if err != nil {
		return nil, err
	}
	if err := s.loadAt(ctx, base); err != nil {
		return nil, unavailable("load", string(s.etcd.root), err)
	}
	now, err := s.etcd.revision(ctx)
	if err != nil {
		return nil, unavailable("read", "etcd", err)
	}
	s.compact.done = base
	remind := time.NewTicker(nudge)
	defer remind.Stop()
	for s.Revision() < now {
		select {
		case resp := <-t.far:
			if err := s.follow(ctx, remote(resp)); err != nil {
				return nil, err
			}
		case <-remind.C:
			if err := t.progress(run); err != nil {
				return nil, unavailable("watch", string(s.etcd.root), err)
			}
		case <-ctx.Done():
			return nil, unavailable("load", string(s.etcd.root), ctx.Err())
		}
	}
	return t, nil
}

// base is the revision to start from.
func (s *Store) base(ctx context.Context) (int64, error) {
	now, err := s.etcd.revision(ctx)
	if err != nil {
		return 0, err
	}
	compacted, err := s.etcd.compacted(ctx)
	return max(compacted, now-history), err
}

func (s *Store) loadAt(ctx context.Context, revision int64) error {
	sets := *s.sets.Load()
	if err := s.loadInto(ctx, sets, string(s.etcd.root), revision); err != nil { // nobody else has the store yet
		return err
	}
	for _, set := range sets {
		set.events.since = revision
	}
	s.revision = revision
	return nil
}

// entry decodes what is stored, or takes it from its writer. nil if it cannot
// be decoded: one damaged object must not stop the others. Why it cannot be
// opened is returned, since that may change. like are objects that a decoded
// one shares parts with.
func (s *Store) entry(ctx context.Context, k *kind.Kind, namespace, name string, kv *mvccpb.KeyValue, like func() []kind.Object) (*entry, *Unreadable) {
	e := &entry{namespace: namespace, name: name, revision: kv.ModRevision, size: len(kv.Value)}
	if h := s.take(kv); h != nil {
		e.obj, e.hash = h.obj, h.hash
	} else {
		obj, hash, err := s.decode(ctx, k, kv)
		var unread *Unreadable
		if errors.As(err, &unread) {
			return nil, unread
		}
		if err != nil {
			s.log.Error("object skipped: it cannot be decoded", "key", string(kv.Key), "err", err)
			return nil, nil
		}
		e.obj, e.hash = s.sharing.share(obj, true, like()...), hash
	}
	if have := e.obj.GetName(); have == name {
		e.name = have // one string for both
	}
	if have := e.obj.GetNamespace(); have == namespace {
		e.namespace = have
	}
	s.check.enter(k, e)
	return e, nil
}

// feed brings the cache up to every change until ctx ends. It is the only one
// that changes the cache.
func (s *Store) feed(ctx context.Context) {
	defer s.tail.close()
	near, far := s.tail.chans()
	var changed <-chan struct{}
	if s.transform != nil {
		changed = s.transform.Changed()
	}
	for {
		select {
		case <-ctx.Done():
			s.fail(&fault.Error{Class: fault.Unavailable, Op: "use store", Err: errors.New("it is closed")})
			return
		case resp, ok := <-near:
			if !ok {
				s.untold(ctx)
				near = nil
				continue
			}
			s.tell(ctx, nearby(resp, near))
		case resp, ok := <-far:
			if !ok {
				s.untold(ctx)
				far = nil
				continue
			}
			s.tell(ctx, remote(resp))
		case a := <-s.adds:
			a.done <- s.add(ctx, a.kind)
		case <-changed:
			s.reopen(ctx)
		}
	}
}

// tell has the cache follow while it runs.
func (s *Store) tell(ctx context.Context, a answer) {
	if err := s.follow(ctx, a); err != nil && ctx.Err() == nil {
		s.log.Error("the cache cannot follow etcd any more", "err", err)
		s.fail(err)
	}
}

// untold is the end of what etcd tells.
func (s *Store) untold(ctx context.Context) {
	if ctx.Err() == nil {
		s.fail(unavailable("watch", string(s.etcd.root), errors.New("etcd ended the watch")))
	}
}

// fail ends all waiting; the first reason is kept.
func (s *Store) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = err
		close(s.done)
	}
	s.wakeLocked()
	for _, set := range *s.sets.Load() {
		set.goneLocked(s.failed)
		if set.events.timer != nil {
			set.events.timer.Stop()
		}
	}
	s.frames.stop()
}

// change is an event of etcd's after decoding.
type change struct {
	set             *set
	namespace, name string
	revision        int64
	kv              *mvccpb.KeyValue // nil: deleted
	entry           *entry           // nil: deleted, or not to be decoded
	unread          *Unreadable      // not nil: there, and not to be read
}

// follow puts what etcd has told into the cache.
func (s *Store) follow(ctx context.Context, a answer) error {
	if a.err != nil {
		return unavailable("watch", string(s.etcd.root), a.err)
	}
	sets := *s.sets.Load()
	changes := make([]change, 0, len(a.events))
	for _, ev := range a.events {
		set, ns, name, ok := s.etcd.root.find(sets, string(ev.Kv.Key))
		if !ok {
			continue
		}
		c := change{set: set, namespace: ns, name: name, revision: ev.Kv.ModRevision}
		if ev.GetType() == mvccpb.Event_PUT {
			c.kv = ev.Kv
		}
		changes = append(changes, c)
	}
	chains := chained(changes)
	onCores(len(chains), func(i int) {
		var before []kind.Object
		for _, c := range chains[i] {
			if c.kv == nil {
				continue
			}
			c.entry, c.unread = s.entry(ctx, c.set.kind, c.namespace, c.name, c.kv, func() []kind.Object {
				return append(before, s.alike(Key{c.set.kind, c.namespace, c.name})...)
			})
			if c.entry != nil {
				before = []kind.Object{c.entry.obj}
			}
		}
	})
	for _, c := range changes {
		s.sayUnread(c.set.kind, c.unread)
	}
	s.apply(changes, a.upTo)
	return nil
}

// chained puts the changes of one object together, in order: its states share
// parts, and none of them is in the cache while an answer is decoded.
func chained(changes []change) [][]*change {
	if len(changes) == 1 { // as mostly
		return [][]*change{{&changes[0]}}
	}
	type name struct {
		set             *set
		namespace, name string
	}
	at := make(map[name]int, len(changes))
	all := make([][]*change, 0, len(changes))
	for i := range changes {
		c := &changes[i]
		n := name{c.set, c.namespace, c.name}
		j, ok := at[n]
		if !ok {
			j = len(all)
			at[n], all = j, append(all, nil)
		}
		all[j] = append(all[j], c)
	}
	return all
}

func (s *Store) apply(changes []change, upTo int64) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range changes {
		if c.revision > s.revision { // else it was loaded already
			s.applyLocked(c, now)
		}
	}
	if upTo > s.revision {
		s.revision = upTo
		s.compact.moved(upTo)
	}
	s.wakeLocked()
}

func (s *Store) applyLocked(c change, now time.Time) {
	var old *entry
	if len(c.set.unread) > 0 {
		delete(c.set.unread, s.etcd.root.path(Key{c.set.kind, c.namespace, c.name}))
	}
	if c.entry != nil {
		old = c.set.putLocked(c.entry)
	} else {
		old = c.set.dropLocked(c.namespace, c.name)
	}
	if s.check != nil {
		s.check.leave(c.set.kind, old)
	}
	if c.unread != nil {
		c.set.unreadLocked(c.unread)
		c.set.cutLocked(c.revision)
		return
	}
	e := &Event{Revision: c.revision, at: now, enc: encodings{of: &s.frames}}
	switch {
	case c.entry == nil && old == nil:
		return
	case c.entry == nil:
		e.Type, e.Old = Deleted, old.obj
		e.Object = withRevision(c.set.kind, old.obj, c.revision)
		e.size = old.size
	case old == nil:
		e.Type, e.Object, e.size = Added, c.entry.obj, c.entry.size
	default:
		e.Type, e.Object, e.Old = Modified, c.entry.obj, old.obj
		e.size = c.entry.size + old.size
	}
	c.set.events.add(e, s.window)
	s.trimLaterLocked(c.set)
	c.set.dispatchLocked(e)
}

// trimLaterLocked has the log of a set made small again when a burst is over.
func (s *Store) trimLaterLocked(set *set) {
	l := &set.events
	if l.timer != nil || l.rests(s.window) || s.failed != nil {
		return
	}
	l.timer = time.AfterFunc(s.window.Age, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		l.timer = nil
		if l.trim(s.window, time.Now()) {
			s.trimLaterLocked(set)
		}
	})
}

// dispatchLocked wakes those who want the event.
func (s *set) dispatchLocked(e *Event) {
	for c := range s.cursors {
		c.wake()
	}
	if len(s.byValue) == 0 {
		return
	}
	for name, values := range s.kind.Indexes {
		now := values(e.Object)
		for _, v := range now {
			s.queueLocked(indexed{name, v}, e)
		}
		if e.Old == nil || e.Type == Deleted {
			continue
		}
		for _, v := range values(e.Old) {
			if !contains(now, v) {
				s.queueLocked(indexed{name, v}, e)
			}
		}
	}
}

func (s *set) queueLocked(key indexed, e *Event) {
	for c := range s.byValue[key] {
		if len(c.pending) < maxPending {
			c.pending = append(c.pending, e)
		} else {
			c.lost, c.pending = true, nil
		}
		c.wake()
	}
}

// add takes up a kind. The feeder runs it, so that nothing happens between the
// reading and the events after it.
func (s *Store) add(ctx context.Context, k *kind.Kind) error {
	have := (*s.sets.Load())[k.Prefix]
	if have != nil && k.Custom == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		have.reindexLocked(k)
		return nil
	}
	objects := newSet(k)
	revision := s.Revision()
	one := map[string]*set{k.Prefix: objects}
	if err := s.loadInto(ctx, one, s.etcd.root.dir(k), revision); err != nil {
		return unavailable("load", k.String(), err)
	}
	if have != nil {
		s.replace(have, objects)
		return nil
	}
	objects.events.since = revision
	sets := maps.Clone(*s.sets.Load())
	sets[k.Prefix] = objects
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sets.Store(&sets)
	return nil
}

// replace puts the objects of a kind that was read again in the place of those
// there were. The log stays, so that watches resume.
func (s *Store) replace(have, again *set) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.check != nil {
		have.tree.Scan(func(e *entry) bool {
			s.check.leave(have.kind, e)
			return true
		})
	}
	have.tree, have.unread = again.tree, again.unread
	have.reindexLocked(again.kind)
	have.goneLocked(&Ended{Kind: again.kind.String()})
}
