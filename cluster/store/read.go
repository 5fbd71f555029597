package store

import (
	"context"
	"time"

	"sampan/cluster/kind"
)

// Get returns the object in the cache, shared.
func (s *Store) Get(k Key) (kind.Object, bool) {
	set, err := s.set(k.Kind)
	if err != nil {
		return nil, false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e, ok := set.getLocked(k.Namespace, k.Name); ok {
		return e.obj, true
	}
	return nil, false
}

// Sync waits until the cache is at least as new as etcd was when Sync was
// called, and returns the revision it has reached. A read after Sync is
// consistent.
func (s *Store) Sync(ctx context.Context) (int64, error) {
	now, err := s.etcd.revision(ctx)
	if err != nil {
		return 0, unavailable("read", "the current revision", err)
	}
	if err := s.await(ctx, now, true); err != nil {
		return 0, err
	}
	return s.Revision(), nil
}

// WaitFor waits until the cache has reached a revision. Its error is ctx's, or
// says why the store has failed.
func (s *Store) WaitFor(ctx context.Context, revision int64) error {
	return s.await(ctx, revision, false)
}

// nudge is how long Sync waits for events before it asks etcd for progress:
// the current revision may be one of a key that is not ours, and then no event
// will come.
const nudge = 10 * time.Millisecond

func (s *Store) await(ctx context.Context, revision int64, ask bool) error {
	done, err := s.register(revision)
	if done == nil {
		return err
	}
	var remind <-chan time.Time
	if ask {
		t := time.NewTicker(nudge)
		defer t.Stop()
		remind = t.C
	}
	for {
		select {
		case <-done:
			s.mu.RLock()
			defer s.mu.RUnlock()
			if s.revision >= revision {
				return nil
			}
			return s.failed
		case <-ctx.Done():
			s.unregister(done)
			return ctx.Err()
		case <-remind:
			if err := s.tail.progress(ctx); err != nil && ctx.Err() == nil {
				s.log.Warn("etcd does not tell its progress", "err", err)
			}
		}
	}
}

// register returns a channel that is closed when revision is reached, or nil
// if that is so already.
func (s *Store) register(revision int64) (chan struct{}, error) {
	s.mu.RLock()
	reached, failed := s.revision >= revision, s.failed
	s.mu.RUnlock()
	if reached {
		return nil, nil
	}
	if failed != nil {
		return nil, failed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.revision >= revision || s.failed != nil {
		if s.revision >= revision {
			return nil, nil
		}
		return nil, s.failed
	}
	w := waiter{revision, make(chan struct{})}
	s.waiters = append(s.waiters, w)
	return w.done, nil
}

func (s *Store) unregister(done chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, w := range s.waiters {
		if w.done == done {
			s.waiters[i] = s.waiters[len(s.waiters)-1]
			s.waiters = s.waiters[:len(s.waiters)-1]
			return
		}
	}
}

// wakeLocked tells waiters that the cache has come to s.revision, or that it
// comes no further.
func (s *Store) wakeLocked() {
	left := s.waiters[:0]
	for _, w := range s.waiters {
		if w.revision <= s.revision || s.failed != nil {
			close(w.done)
		} else {
			left = append(left, w)
		}
	}
	clear(s.waiters[len(left):])
	s.waiters = left
}
