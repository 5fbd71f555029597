package store

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sort"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"sampan/cluster/kind"
	"sampan/internal/fault"
)

// ListOptions selects objects of one kind. The zero value selects all.
type ListOptions struct {
	Namespace string // empty: all

	// Index and Value look up by one of Kind.Indexes. Empty Index: no look-up.
	Index, Value string

	// AfterNamespace and AfterName are the object that the list continues
	// after; it need not exist. Both empty: from the start.
	AfterNamespace, AfterName string

	// Limit is how many objects All yields at most; 0: all. Callers that
	// filter leave it 0 and stop by themselves.
	Limit int

	// Keep asks that the revision be kept for ListAt, for the pages to come.
	Keep bool
}

// List is a consistent view of the objects of a kind at one revision, ordered
// as their etcd keys are. It stays valid; it holds on to old objects, so it is
// not kept longer than needed. The zero value is empty.
type List struct {
	Revision int64

	kind    *kind.Kind
	view    *snapshot
	opts    ListOptions
	objects []kind.Object // of a list read from etcd: the page; view is nil
	count   int           // of a list read from etcd
}

// List returns the objects in the cache. For a consistent read call Sync
// before.
func (s *Store) List(k *kind.Kind, opts ListOptions) (*List, error) {
	set, err := s.set(k)
	if err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.listLocked(set, opts)
}

func (s *Store) listLocked(set *set, opts ListOptions) (*List, error) {
	if s.failed != nil {
		return nil, s.failed
	}
	if err := set.wholeLocked(opts.Namespace); err != nil {
		return nil, err
	}
	l := &List{Revision: s.revision, kind: set.kind, view: set.snapshotLocked(), opts: opts}
	if err := l.check(); err != nil {
		return nil, err
	}
	if opts.Keep {
		set.keep(l)
	}
	return l, nil
}

func (l *List) check() error {
	if l.opts.Index != "" && l.view.indexes[l.opts.Index] == nil {
		return &fault.Error{Class: fault.Invalid, Op: "list " + l.kind.String() + " by index", On: l.opts.Index}
	}
	return nil
}

// kept is how many revisions of each kind are kept in memory for paging.
// A list in pages that takes longer is read from etcd.
const kept = 4

// keptFor is how long they are kept at most.
const keptFor = time.Minute

func (s *set) keep(l *List) {
	s.snapMu.Lock()
	defer s.snapMu.Unlock()
	for _, p := range s.pages {
		if p.Revision == l.Revision {
			return
		}
	}
	if len(s.pages) == kept {
		s.pages = slices.Delete(s.pages, 0, 1)
	}
	if len(s.pages) == 0 {
		// They hold on to objects that may be gone: whoever is still turning
		// pages then reads from etcd.
		time.AfterFunc(keptFor, func() {
			s.snapMu.Lock()
			defer s.snapMu.Unlock()
			s.pages = nil
		})
	}
	s.pages = append(s.pages, &List{Revision: l.Revision, kind: l.kind, view: l.view})
}

// ListAt returns the objects as they were at a revision: from memory if a
// List with Keep was of that revision, else from etcd, which cannot look up
// by index. *Expired if etcd has compacted that revision.
func (s *Store) ListAt(ctx context.Context, k *kind.Kind, revision int64, opts ListOptions) (*List, error) {
	set, err := s.set(k)
	if err != nil {
		return nil, err
	}
	if l := s.listKept(set, revision, opts); l != nil {
		return l, l.check()
	}
	if opts.Index != "" {
		return nil, &fault.Error{Class: fault.Invalid, Op: "list " + k.String() + " of the past by index", On: opts.Index}
	}
	return s.listEtcd(ctx, set, revision, opts)
}

func (s *Store) listKept(set *set, revision int64, opts ListOptions) *List {
	s.mu.RLock()
	defer s.mu.RUnlock()
	set.snapMu.Lock()
	defer set.snapMu.Unlock()
	for _, p := range set.pages {
		if p.Revision == revision {
			return &List{Revision: revision, kind: set.kind, view: p.view, opts: opts}
		}
	}
	if revision == s.revision && set.snap != nil {
		return &List{Revision: revision, kind: set.kind, view: set.snap, opts: opts}
	}
	return nil
}

func (s *Store) listEtcd(ctx context.Context, set *set, revision int64, opts ListOptions) (*List, error) {
	k := set.kind
	from := s.etcd.root.dir(k)
	if opts.Namespace != "" && !k.Cluster {
		from += opts.Namespace + "/"
	}
	end := clientv3.GetPrefixRangeEnd(from)
	if after := (Key{k, opts.AfterNamespace, opts.AfterName}); opts.AfterName != "" {
		from = max(from, s.etcd.root.path(after)+"\x00")
	}
	began := time.Now()
	resp, err := s.etcd.getAt(ctx, from, revision, clientv3.WithRange(end), clientv3.WithLimit(int64(opts.Limit)))
	set.requests.ended(listing, began, err)
	if errors.Is(err, rpctypes.ErrCompacted) {
		return nil, &Expired{Revision: revision, Oldest: s.compact.oldest()}
	}
	if err != nil {
		return nil, unavailable("list", k.String(), err)
	}
	l := &List{Revision: revision, kind: k, opts: opts, count: int(resp.Count)}
	for _, kv := range resp.Kvs {
		obj, _, err := s.decode(ctx, k, kv)
		var unreadable *Unreadable
		if errors.As(err, &unreadable) {
			return nil, UnreadableObjects{unreadable}
		}
		if err != nil {
			s.log.Error("object skipped: it cannot be decoded", "key", string(kv.Key), "err", err)
			l.count--
			continue
		}
		l.objects = append(l.objects, obj)
	}
	return l, nil
}

// All yields the objects, shared, in order, up to the Limit.
func (l *List) All() iter.Seq[kind.Object] {
	return func(yield func(kind.Object) bool) {
		if l.view == nil {
			for _, o := range l.objects {
				if !yield(o) {
					return
				}
			}
			return
		}
		n := 0
		l.scan(func(e *entry) bool {
			n++
			return yield(e.obj) && n != l.opts.Limit
		})
	}
}

// Slice returns what All yields.
func (l *List) Slice() []kind.Object {
	if l.view == nil {
		return l.objects
	}
	n := l.Count()
	if l.opts.Limit > 0 {
		n = min(n, l.opts.Limit)
	}
	all := make([]kind.Object, 0, n)
	for o := range l.All() {
		all = append(all, o)
	}
	return all
}

// scan calls each for the entries in range, in order, without regard to Limit.
func (l *List) scan(each func(*entry) bool) {
	ns, afterNS, after := l.opts.Namespace, l.opts.AfterNamespace, l.opts.AfterName
	if ns != "" && (after == "" || compare(afterNS, after, ns, "") < 0) {
		afterNS, after = ns, "" // the first of the namespace; no object has an empty name
	}
	from := &entry{namespace: afterNS, name: after}
	in := func(e *entry) (more bool) {
		if ns != "" && e.namespace != ns {
			return false
		}
		if after != "" && e.name == after && e.namespace == afterNS {
			return true
		}
		return each(e)
	}
	switch {
	case l.opts.Index != "":
		l.view.indexes[l.opts.Index].Ascend(posting{l.opts.Value, from}, func(p posting) bool {
			return p.value == l.opts.Value && in(p.entry)
		})
	case ns == "" && after == "":
		l.view.tree.Scan(in)
	default:
		l.view.tree.Ascend(from, in)
	}
}

// Count is how many objects there are in range, whatever the Limit:
// remainingItemCount is Count minus those taken.
func (l *List) Count() int {
	switch {
	case l.view == nil:
		return l.count
	case l.opts.Index != "":
		n := 0
		l.scan(func(*entry) bool { n++; return true })
		return n
	case l.opts.Namespace == "" && l.opts.AfterName == "":
		return l.view.tree.Len()
	}
	tree := l.view.tree
	first := func(ns, name string, past bool) int { // the position of the first entry not before
		return sort.Search(tree.Len(), func(i int) bool {
			e, _ := tree.GetAt(i)
			c := compare(e.namespace, e.name, ns, name)
			return c > 0 || c == 0 && !past
		})
	}
	start, end := 0, tree.Len()
	if ns := l.opts.Namespace; ns != "" {
		start = first(ns, "", false)
		end = sort.Search(tree.Len(), func(i int) bool {
			e, _ := tree.GetAt(i)
			return e.namespace != ns && compare(e.namespace, "", ns, "") > 0
		})
	}
	if l.opts.AfterName != "" {
		start = max(start, first(l.opts.AfterNamespace, l.opts.AfterName, true))
	}
	return max(end-start, 0)
}
