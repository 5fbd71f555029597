package store

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// compactor tells etcd to forget history. Its timer runs only while there is
// something to forget: an idle store writes nothing.
type compactor struct {
	every time.Duration // 0: never
	store *Store
	ctx   context.Context // ends when the store is closed

	mu    sync.Mutex // guards all below
	timer *time.Timer
	mark  int64 // where the store was when the timer was set: older than every
	done  int64 // compacted up to here
	over  bool
	work  sync.WaitGroup
}

// moved says that the store has come to a revision. It is cheap and never
// blocks for long.
func (c *compactor) moved(revision int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.timer == nil && !c.over && c.every > 0 {
		c.setLocked(revision)
	}
}

func (c *compactor) setLocked(mark int64) {
	c.mark = mark
	c.work.Add(1)
	c.timer = time.AfterFunc(c.every, c.run)
}

func (c *compactor) run() {
	defer c.work.Done()
	now := c.store.Revision()
	c.mu.Lock()
	mark := c.mark
	c.mu.Unlock()

	_, err := c.store.etcd.client.Compact(c.ctx, mark, clientv3.WithCompactPhysical())
	compacted := err == nil || errors.Is(err, rpctypes.ErrCompacted)
	if !compacted && c.ctx.Err() == nil {
		c.store.log.Warn("etcd's history was not compacted; trying again later", "err", err)
	}
	if err == nil {
		c.store.etcd.defragment()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = nil
	if compacted {
		c.done = max(c.done, mark)
	}
	if c.over {
		return
	}
	if !compacted {
		c.setLocked(mark)
	} else if now > mark {
		c.setLocked(now)
	}
}

// oldest is the oldest revision that can still be read.
func (c *compactor) oldest() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

// close returns when no compaction is under way.
func (c *compactor) close() {
	c.mu.Lock()
	c.over = true
	if c.timer != nil && c.timer.Stop() {
		c.work.Done()
	}
	c.mu.Unlock()
	c.work.Wait()
}

// Compact forgets all history before revision, as the store does by itself
// after Config.CompactEvery.
func (s *Store) Compact(ctx context.Context, revision int64) error {
	if _, err := s.etcd.client.Compact(ctx, revision); err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		return unavailable("compact", "etcd", err)
	}
	s.compact.mu.Lock()
	defer s.compact.mu.Unlock()
	s.compact.done = max(s.compact.done, revision)
	return nil
}
