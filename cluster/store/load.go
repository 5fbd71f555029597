package store

import (
	"context"
	"runtime"
	"slices"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"sampan/cluster/kind"
)

// pageSize is how many objects one core decodes at a time, and the fewest that
// are read from etcd.
const pageSize = 250

// How much is read from etcd at a time, about. For each read etcd counts all
// that is left as well, so that many objects in small reads take time as the
// square of their number.
const (
	readBytes   = 8 << 20
	readObjects = 10_000 // at the most
)

// nextRead is how many objects to read after some of that size.
func nextRead(kvs []*mvccpb.KeyValue) int {
	bytes := 1
	for _, kv := range kvs {
		bytes += len(kv.Key) + len(kv.Value)
	}
	return min(max(readBytes*len(kvs)/bytes, pageSize), readObjects)
}

// page is what follows one another in etcd. Its reader sets kvs or err, its
// decoder objects and then closes done.
type page struct {
	kvs     []*mvccpb.KeyValue
	err     error // why there are no more
	objects []loaded
	done    chan struct{}
}

// loaded is an object, or why it cannot be read; neither if it is damaged.
type loaded struct {
	set    *set
	entry  *entry
	unread *Unreadable
}

// loadInto fills sets with all objects whose keys have a prefix, as they were
// at a revision. While etcd is read all cores decode; the sets, which nobody
// else has yet, are filled in order.
func (s *Store) loadInto(ctx context.Context, sets map[string]*set, prefix string, revision int64) (err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	cores := runtime.GOMAXPROCS(0)
	undecoded, pages := make(chan *page), make(chan *page, cores)
	var all sync.WaitGroup
	all.Go(func() {
		defer close(undecoded)
		defer close(pages)
		s.readPages(ctx, prefix, revision, func(p *page) {
			undecoded <- p
			pages <- p
		})
	})
	for range cores {
		all.Go(func() {
			for p := range undecoded {
				p.objects = s.decodePage(ctx, sets, p.kvs)
				clear(p.kvs) // others of the same read wait still
				close(p.done)
			}
		})
	}
	for p := range pages { // to the end, also after an error: the reader waits for room
		<-p.done
		if err == nil && p.err != nil {
			err = p.err
		}
		for _, l := range p.objects {
			l.set.loadLocked(l.entry, l.unread)
			s.sayUnread(l.set.kind, l.unread)
		}
	}
	all.Wait()
	return err
}

// readPages calls each for the pages in order; the last one has an error if not
// all could be read.
func (s *Store) readPages(ctx context.Context, prefix string, revision int64, each func(*page)) {
	from, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	limit := pageSize
	for {
		resp, err := s.etcd.getAt(ctx, from, revision, clientv3.WithRange(end), clientv3.WithSerializable(), clientv3.WithLimit(int64(limit)))
		if err != nil {
			each(&page{err: err, done: make(chan struct{})})
			return
		}
		// Whoever decodes takes the objects away.
		limit = nextRead(resp.Kvs)
		if resp.More {
			from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
		}
		for kvs := range slices.Chunk(resp.Kvs, pageSize) {
			each(&page{kvs: kvs, done: make(chan struct{})})
		}
		if !resp.More {
			return
		}
	}
}

// decodePage decodes what belongs to one of sets. Objects share parts with
// those before them in the page.
func (s *Store) decodePage(ctx context.Context, sets map[string]*set, kvs []*mvccpb.KeyValue) []loaded {
	all := make([]loaded, 0, len(kvs))
	var kept *set
	var before []kind.Object
	for _, kv := range kvs {
		set, namespace, name, ok := s.etcd.root.find(sets, string(kv.Key))
		if !ok {
			continue
		}
		if set != kept {
			kept, before = set, nil
		}
		e, unread := s.entry(ctx, set.kind, namespace, name, kv, func() []kind.Object { return before })
		if e != nil {
			before = append(before[max(0, len(before)-most+1):], e.obj)
		}
		all = append(all, loaded{set, e, unread})
	}
	return all
}

// loadLocked takes up what was read; both may be nil.
func (s *set) loadLocked(e *entry, unread *Unreadable) {
	if e != nil {
		s.putLocked(e)
	}
	if unread != nil {
		s.unreadLocked(unread)
	}
}

// sayUnread logs that an object cannot be decrypted, once for all of a kind that
// are read together.
func (s *Store) sayUnread(k *kind.Kind, unread *Unreadable) {
	if unread != nil && s.unreadSaid != k {
		s.unreadSaid = k
		s.log.Error("objects cannot be decrypted", "key", unread.Path(), "err", unread.Err, "fix", unreadableFix)
	}
}

// several is from how many events on it pays to decode on all cores: those of
// other writers at once, or of the time before a start.
const several = 100

// onCores calls each for the numbers below n, and returns when all are done.
func onCores(n int, each func(i int)) {
	cores := runtime.GOMAXPROCS(0)
	if n < several || cores == 1 {
		for i := range n {
			each(i)
		}
		return
	}
	var all sync.WaitGroup
	for first := range cores {
		all.Go(func() {
			for i := first; i < n; i += cores {
				each(i)
			}
		})
	}
	all.Wait()
}
