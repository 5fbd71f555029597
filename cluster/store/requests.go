package store

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"sampan/cluster/kind"
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

const ms = time.Millisecond

// requestBounds are those by which times are counted, upstream's.
var requestBounds = [23]time.Duration{5 * ms, 25 * ms, 50 * ms, 100 * ms, 200 * ms, 400 * ms, 600 * ms, 800 * ms, 1000 * ms, 1250 * ms, 1500 * ms,
	2000 * ms, 3000 * ms, 4000 * ms, 5000 * ms, 6000 * ms, 8000 * ms, 10000 * ms, 15000 * ms, 20000 * ms, 30000 * ms, 45000 * ms, 60000 * ms}

// requests counts what etcd was asked for about one kind. Of most kinds and
// operations that is nothing, so a count is made when it is first needed.
type requests [operations]atomic.Pointer[tally]

// tally counts requests by the time they took.
type tally struct {
	under  [len(requestBounds) + 1]atomic.Int64 // by the first bound that is not less; the last: none is
	nanos  atomic.Int64
	errors atomic.Int64
}

// ended counts a request. It costs a search and two or three atomic additions.
func (r *requests) ended(o operation, began time.Time, err error) {
	took := time.Since(began)
	t := r[o].Load()
	if t == nil {
		r[o].CompareAndSwap(nil, &tally{})
		t = r[o].Load()
	}
	i, _ := slices.BinarySearch(requestBounds[:], took)
	t.under[i].Add(1)
	t.nanos.Add(int64(took))
	if err != nil {
		t.errors.Add(1)
	}
}

// Requests is how often etcd was asked for one thing about one kind, and how
// long that took.
type Requests struct {
	Operation     string // get, list, create, update or delete
	Count, Errors int64
	Seconds       float64 // in all

	At    []float64 // seconds
	Under []int64   // for each of At, those that took no longer but longer than the one before
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
		r := Requests{Operation: o.String(), Errors: t.errors.Load(), Seconds: time.Duration(t.nanos.Load()).Seconds(), Under: make([]int64, len(requestBounds))}
		for _, bound := range requestBounds {
			r.At = append(r.At, bound.Seconds())
		}
		for i := range t.under {
			n := t.under[i].Load()
			r.Count += n
			if i < len(r.Under) {
				r.Under[i] = n
			}
		}
		all = append(all, r)
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
