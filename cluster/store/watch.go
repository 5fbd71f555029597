package store

import (
	"time"

	"sampan/cluster/kind"
)

// EventType is what happened to an object.
type EventType uint8

const (
	Added EventType = iota
	Modified
	Deleted
)

// Event is one change of one object. Events are shared between all watchers.
type Event struct {
	Type     EventType
	Revision int64
	Object   kind.Object // after the change; for Deleted the last state, with the deletion's revision
	Old      kind.Object // before it; nil for Added

	size int
	at   time.Time
	enc  encodings
}

// WatchOptions selects the events of a cursor.
type WatchOptions struct {
	// Since is the revision to start after; 0: only what is new.
	Since int64

	// Index and Value restrict the cursor to objects that have, or had before
	// the event, this value: the cursor is not woken for others. Empty Index:
	// all events.
	Index, Value string
}

// Cursor is one watcher's place in the log of a kind. Its methods are for one
// goroutine.
type Cursor struct {
	store *Store
	set   *set
	opts  WatchOptions
	more  chan struct{}

	// Store.mu guards all below.
	next    int64    // position in the set's log; not used with an index
	pending []*Event // of a cursor by index
	lost    bool     // there were more pending events than are kept
	seen    int64    // all events up to here were returned
	failed  error    // the kind is gone
}

// maxPending bounds the events queued for a cursor by index.
const maxPending = 10_000

// Watch returns a cursor on the events of k after opts.Since. *Expired if
// they are not kept any more. Close the cursor.
func (s *Store) Watch(k *kind.Kind, opts WatchOptions) (*Cursor, error) {
	set, err := s.set(k)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watchLocked(set, opts)
}

// ListAndWatch returns the objects in the cache and a cursor on what comes
// after. opts.Keep is not needed for that.
func (s *Store) ListAndWatch(k *kind.Kind, opts ListOptions) (*List, *Cursor, error) {
	set, err := s.set(k)
	if err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.listLocked(set, opts)
	if err != nil {
		return nil, nil, err
	}
	c, err := s.watchLocked(set, WatchOptions{Since: l.Revision, Index: opts.Index, Value: opts.Value})
	return l, c, err
}

func (s *Store) watchLocked(set *set, opts WatchOptions) (*Cursor, error) {
	if s.failed != nil {
		return nil, s.failed
	}
	if opts.Since == 0 {
		opts.Since = s.revision
	}
	c := &Cursor{store: s, set: set, opts: opts, more: make(chan struct{}, 1), seen: opts.Since}
	var ok bool
	if c.next, ok = set.events.after(opts.Since); !ok {
		return nil, &Expired{Revision: opts.Since, Oldest: set.events.since}
	}
	if opts.Index == "" {
		set.cursors[c] = struct{}{}
	} else {
		values := set.kind.Indexes[opts.Index]
		if values == nil {
			l := &List{kind: set.kind, view: set.snapshotLocked(), opts: ListOptions{Index: opts.Index}}
			return nil, l.check()
		}
		for _, e := range set.events.from(c.next) {
			if contains(values(e.Object), opts.Value) || e.Old != nil && contains(values(e.Old), opts.Value) {
				c.pending = append(c.pending, e)
			}
		}
		key := indexed{opts.Index, opts.Value}
		if set.byValue[key] == nil {
			set.byValue[key] = map[*Cursor]struct{}{}
		}
		set.byValue[key][c] = struct{}{}
	}
	c.wake()
	return c, nil
}

// Next returns the events since the last call, oldest first, none if there
// are none, and the revision up to which everything has now been returned.
// *Expired if the cursor was too slow: list and watch again. Do not write to
// the slice.
func (c *Cursor) Next() ([]*Event, int64, error) {
	s := c.store
	s.mu.RLock()
	defer s.mu.RUnlock()
	var events []*Event
	if c.opts.Index != "" {
		if c.lost {
			return nil, c.seen, &Expired{Revision: c.seen, Oldest: c.set.events.since}
		}
		events, c.pending = c.pending, nil
	} else {
		if c.next < c.set.events.base {
			return nil, c.seen, &Expired{Revision: c.seen, Oldest: c.set.events.since}
		}
		events = c.set.events.from(c.next)
		c.next += int64(len(events))
	}
	for len(events) > 0 && events[0].Revision <= c.opts.Since { // a watch from the future
		events = events[1:]
	}
	c.seen = max(c.seen, s.revision)
	if len(events) == 0 && c.failed != nil {
		return nil, c.seen, c.failed
	}
	if s.failed != nil && len(events) == 0 {
		return nil, c.seen, s.failed
	}
	return events, c.seen, nil
}

// More has a value when Next may return something, an error included.
func (c *Cursor) More() <-chan struct{} { return c.more }

// Close ends the cursor. It may be called twice.
func (c *Cursor) Close() {
	s := c.store
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(c.set.cursors, c)
	key := indexed{c.opts.Index, c.opts.Value}
	if all := c.set.byValue[key]; all != nil {
		delete(all, c)
		if len(all) == 0 {
			delete(c.set.byValue, key)
		}
	}
}

// wake makes More have a value. It never blocks.
func (c *Cursor) wake() {
	select {
	case c.more <- struct{}{}:
	default:
	}
}
