package store

import (
	"context"

	"sampan/cluster/kind"
)

// Op is a further write that happens in the same transaction as the main one.
type Op struct {
	Key    Key
	Object kind.Object // nil: delete

	// Revision is what the object must be at: 0, it must not exist; AnyRevision,
	// whatever there is.
	Revision int64
}

// AnyRevision as Op.Revision: the write does not depend on what is there.
const AnyRevision = -1

// Change makes the next state of an object out of the current one, which is
// shared: DeepCopy it first. It is called again, with a newer object, when
// another writer was faster. Returning current itself writes nothing. What it
// returns belongs to the store: it may be returned again, but not written to
// once it was returned. Its errors end the write and are returned as
// they are.
type Change func(current kind.Object) (next kind.Object, extra []Op, err error)

// Create stores obj, which belongs to the store from then on, and returns it
// with its resourceVersion when the cache has it. A fault of class Exists if
// there is one of that name; *OpFailed if a further operation could not be.
func (s *Store) Create(ctx context.Context, k Key, obj kind.Object, extra ...Op) (kind.Object, error) {
	return s.write(ctx, k, mustNotExist, func(kind.Object) (kind.Object, []Op, error) { return obj, extra, nil })
}

// Update replaces the object by what change makes of it. A fault of class
// NotFound if there is none. A change that leaves the stored bytes as they are
// writes nothing and returns the current object.
func (s *Store) Update(ctx context.Context, k Key,
	change func(current kind.Object) (kind.Object, error), extra ...Op) (kind.Object, error) {
	return s.write(ctx, k, mustExist, func(current kind.Object) (kind.Object, []Op, error) {
		next, err := change(current)
		return next, extra, err
	})
}

// Transact is Update with further operations that depend on the current
// state. If the object does not exist change gets nil, and what it returns is
// created.
func (s *Store) Transact(ctx context.Context, k Key, change Change) (kind.Object, error) {
	return s.write(ctx, k, mayExist, change)
}

// Delete removes the object if check, which may be nil, agrees, and returns
// its last state with the deletion's revision. check is called again if
// another writer was faster; its errors are returned as they are.
func (s *Store) Delete(ctx context.Context, k Key,
	check func(current kind.Object) error, extra ...Op) (kind.Object, error) {
	return s.remove(ctx, k, check, extra)
}

// mode is what a write expects to be there.
type mode uint8

const (
	mustExist mode = iota
	mustNotExist
	mayExist
)

// state is an object as a write found it; obj is nil if there was none.
type state struct {
	obj      kind.Object
	revision int64
	hash     uint64
}

func (s *Store) write(ctx context.Context, k Key, m mode, change Change) (kind.Object, error) {
	const op = "write"
	current, err := s.current(ctx, k, m)
	if err != nil {
		return nil, err
	}
	var met int64
	defer func() { s.catchUp(ctx, met) }()
	for t := (txn{store: s, ctx: ctx}); ; t = t.again() {
		switch {
		case current.obj == nil && m == mustExist:
			return nil, notFound("update", k)
		case current.obj != nil && m == mustNotExist:
			return nil, exists(k)
		}
		next, extra, err := change(current.obj)
		if err != nil {
			return nil, err
		}
		unchanged := next == current.obj
		if !unchanged {
			h, err := t.put(k, next, current.revision)
			if err != nil {
				t.abort()
				return nil, err
			}
			unchanged = current.obj != nil && h.hash == current.hash
		}
		if unchanged {
			stale, err := s.stale(ctx, k, current)
			if err == nil && stale && next == current.obj {
				_, err = t.put(k, next.DeepCopyObject().(kind.Object), current.revision)
			}
			if err != nil || !stale {
				t.abort()
				t = t.again()
			}
			if err != nil {
				return nil, err
			}
			unchanged = !stale
		}
		if unchanged {
			if len(extra) == 0 && (s.etcd.alone() || current.obj == nil) {
				return current.obj, nil
			}
			t.compare(k, current.revision) // what we have may be old
		}
		done, err := t.commit(extra)
		if err != nil {
			return nil, unavailable(op, k.String(), err)
		}
		if done.revision != 0 {
			if unchanged {
				return current.obj, nil
			}
			return t.written(0, done.revision), nil
		}
		met = done.now
		if m == mustNotExist && len(done.kvs) > 0 && len(done.kvs[0]) > 0 {
			return nil, exists(k)
		}
		if current, err = done.found(ctx, k, current.revision, extra); err != nil {
			return nil, err
		}
	}
}

func (s *Store) remove(ctx context.Context, k Key, check func(kind.Object) error, extra []Op) (kind.Object, error) {
	current, err := s.current(ctx, k, mustExist)
	if err != nil {
		return nil, err
	}
	var met int64
	defer func() { s.catchUp(ctx, met) }()
	for t := (txn{store: s, ctx: ctx}); ; t = t.again() {
		if current.obj == nil {
			return nil, notFound("delete", k)
		}
		if check != nil {
			if err := check(current.obj); err != nil {
				return nil, err
			}
		}
		t.remove(k, current.revision)
		done, err := t.commit(extra)
		if err != nil {
			return nil, unavailable("delete", k.String(), err)
		}
		if done.revision != 0 {
			return withRevision(k.Kind, current.obj, done.revision), nil
		}
		met = done.now
		if current, err = done.found(ctx, k, current.revision, extra); err != nil {
			return nil, err
		}
	}
}

// catchUp waits for the cache to reach the revision at which etcd refused a
// write, if it did: who is told that something exists then finds it. Whoever
// does not wait has the answer all the same.
func (s *Store) catchUp(ctx context.Context, met int64) {
	if met != 0 {
		_ = s.await(ctx, met, !s.etcd.alone())
	}
}

// current is what a write starts from. The cache may be behind an etcd that
// others write to as well; then what it has not got is looked up, and the rest
// shows in the compare.
func (s *Store) current(ctx context.Context, k Key, m mode) (state, error) {
	set, err := s.set(k.Kind)
	if err != nil || m == mustNotExist {
		return state{}, err
	}
	s.mu.RLock()
	e, ok := set.getLocked(k.Namespace, k.Name)
	unread := set.unread[s.etcd.root.path(k)]
	failed := s.failed
	s.mu.RUnlock()
	switch {
	case failed != nil:
		return state{}, failed
	case ok:
		return state{e.obj, e.revision, e.hash}, nil
	case unread != nil:
		return state{}, unread
	case s.etcd.alone():
		return state{}, nil
	}
	resp, err := s.get(ctx, k)
	if err != nil {
		return state{}, unavailable("get", k.String(), err)
	}
	return s.stateOf(ctx, k, resp.Kvs)
}
