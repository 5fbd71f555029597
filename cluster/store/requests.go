package store

import (
	"context"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"sampan/cluster/kind"
	"sampan/internal/counted"
)

// operation is what etcd is asked for, as upstream counts it
// (apiserver/pkg/storage/etcd3). What concerns no single kind is not counted:
// the reading of everything at the start, leases, and the compaction.
type operation int

const (
	getting operation = iota
	listing
	creating
	updating
	deleting
	operations // how many there are
)

func (o operation) String() string {
	return [operations]string{"get", "list", "create", "update", "delete"}[o]
}

// requestSeconds are the bounds that times are counted by, upstream's.
var requestSeconds = counted.Seconds(0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60)

// requests counts what etcd was asked for about one kind. Of most kinds and
// operations that is nothing, so a count is made when it is first needed.
type requests [operations]atomic.Pointer[tally]

// tally counts requests by the time they took.
type tally struct {
	times  *counted.Values
	errors atomic.Int64
}

// ended counts a request. It costs a search and two or three atomic additions.
func (r *requests) ended(o operation, began time.Time, err error) {
	took := time.Since(began)
	t := r[o].Load()
	if t == nil {
		r[o].CompareAndSwap(nil, &tally{times: requestSeconds.Values()})
		t = r[o].Load()
	}
	t.times.Add(int64(took))
	if err != nil {
		t.errors.Add(1)
	}
}

// Requests is how often etcd was asked for one thing about one kind, and how
// long that took.
type Requests struct {
	Operation string // get, list, create, update or delete
	Times     counted.Histogram
	Errors    int64
}

// Requests are those that were made about k, all its versions; what nobody
// asked for is left out.
func (s *Store) Requests(k *kind.Kind) (all []Requests) {
	set, err := s.set(k)
	if err != nil {
		return nil
	}
	for o := range operations {
		t := set.requests[o].Load()
		if t == nil {
			continue
		}
		all = append(all, Requests{Operation: o.String(), Times: t.times.Histogram(), Errors: t.errors.Load()})
	}
	return all
}

// asked counts a request about k that has ended, if the kind is still kept.
func (s *Store) asked(k *kind.Kind, o operation, began time.Time, err error) {
	if set, gone := s.set(k); gone == nil {
		set.requests.ended(o, began, err)
	}
}

// get asks etcd for one object.
func (s *Store) get(ctx context.Context, k Key) (*clientv3.GetResponse, error) {
	began := time.Now()
	resp, err := s.etcd.client.Get(ctx, s.etcd.root.path(k))
	s.asked(k.Kind, getting, began, err)
	return resp, err
}
