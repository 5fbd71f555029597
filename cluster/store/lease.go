package store

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"sampan/cluster/kind"
)

// leases gives objects that have a time to live an etcd lease. Objects written
// within a minute share one, since a lease each would cost more than the
// object; they live up to that minute longer.
type leases struct {
	etcd *etcd

	mu      sync.Mutex // guards all below
	current map[time.Duration]*lease
}

// lease is one being granted or granted. All but made is set before made is
// closed.
type lease struct {
	id    clientv3.LeaseID
	err   error
	until time.Time // new objects get another lease from here on
	made  chan struct{}
}

const shareFor = time.Minute

// of returns the lease for an object of k written now, NoLease if it lives
// for ever.
func (l *leases) of(ctx context.Context, k *kind.Kind) (clientv3.LeaseID, error) {
	if k.TTL == 0 {
		return clientv3.NoLease, nil
	}
	// Kinds that live for seconds (in tests) share for less, or their objects
	// would live for twice as long.
	share := min(shareFor, max(k.TTL/10, time.Second))
	for {
		got, mine := l.join(k.TTL, share)
		if mine {
			l.grant(ctx, got, k.TTL+share)
		}
		select {
		case <-got.made:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		if got.err == nil || mine {
			return got.id, got.err
		}
		// Whoever asked for it failed, perhaps only because he was in a hurry.
	}
}

// join returns the lease that objects with this time to live share now; mine
// says that the caller has to have it granted.
func (l *leases) join(ttl, share time.Duration) (got *lease, mine bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if got = l.current[ttl]; got != nil && time.Now().Before(got.until) {
		return got, false
	}
	got = &lease{until: time.Now().Add(share), made: make(chan struct{})}
	if l.current == nil {
		l.current = map[time.Duration]*lease{}
	}
	l.current[ttl] = got
	return got, true
}

func (l *leases) grant(ctx context.Context, got *lease, ttl time.Duration) {
	resp, err := l.etcd.client.Grant(ctx, int64((ttl+time.Second-1)/time.Second))
	if err != nil {
		l.mu.Lock()
		for key, have := range l.current {
			if have == got {
				delete(l.current, key)
			}
		}
		l.mu.Unlock()
		got.err = err
	} else {
		got.id = resp.ID
	}
	close(got.made)
}
