package store

import (
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tidwall/btree"

	"sampan/cluster/kind"
)

// entry is one object in the cache. Entries are never written to once they
// are in a tree: trees, snapshots and events share them.
type entry struct {
	namespace, name string
	obj             kind.Object
	revision        int64
	hash            uint64 // of the bytes stored, to see that a write changes nothing
	size            int    // of the bytes stored
	shared          uint64 // hash of the object as it came in; 0 unless Config.CheckShared
}

// posting is an entry in an index.
type posting struct {
	value string
	*entry
}

// set holds the objects of one kind and the log of their changes. Store.mu
// guards all of it but what snapMu does.
type set struct {
	kind    *kind.Kind
	tree    *btree.BTreeG[*entry]
	indexes map[string]*btree.BTreeG[posting]
	events  eventLog
	changes atomic.Uint64          // how often the set has changed; read without a lock
	unread  map[string]*Unreadable // by etcd key: objects that are there and cannot be read; nil: none

	requests requests // to etcd; counted and read without a lock

	cursors map[*Cursor]struct{}             // those that see all events
	byValue map[indexed]map[*Cursor]struct{} // those that see events of one index value

	snapMu sync.Mutex // taken after Store.mu, guards all below
	snap   *snapshot  // of the trees as they are; nil if nobody asked since the last change
	pages  []*List    // whole lists kept for ListAt, the youngest last
}

// indexed names one value of one index.
type indexed struct{ index, value string }

// snapshot is a set at one moment. It is never written to.
type snapshot struct {
	tree    *btree.BTreeG[*entry]
	indexes map[string]*btree.BTreeG[posting]
}

func newSet(k *kind.Kind) *set {
	s := &set{
		kind: k,
		tree: btree.NewBTreeGOptions(func(a, b *entry) bool {
			return compare(a.namespace, a.name, b.namespace, b.name) < 0
		}, btree.Options{NoLocks: true}),
		cursors: map[*Cursor]struct{}{}, byValue: map[indexed]map[*Cursor]struct{}{},
	}
	s.reindexLocked(k)
	return s
}

// reindexLocked makes k the set's kind.
func (s *set) reindexLocked(k *kind.Kind) {
	s.kind = k
	s.indexes = map[string]*btree.BTreeG[posting]{}
	for name := range k.Indexes {
		s.indexes[name] = btree.NewBTreeGOptions(func(a, b posting) bool {
			if c := strings.Compare(a.value, b.value); c != 0 {
				return c < 0
			}
			return compare(a.namespace, a.name, b.namespace, b.name) < 0
		}, btree.Options{NoLocks: true, Degree: 16})
	}
	s.tree.Scan(func(e *entry) bool {
		s.indexLocked(nil, e)
		return true
	})
	s.changedLocked()
}

// getLocked needs Store.mu for reading only.
func (s *set) getLocked(namespace, name string) (*entry, bool) {
	return s.tree.Get(&entry{namespace: namespace, name: name})
}

// putLocked replaces the entry of the same name and returns that.
func (s *set) putLocked(e *entry) (old *entry) {
	s.changedLocked()
	old, _ = s.tree.Set(e)
	s.indexLocked(old, e)
	return old
}

// dropLocked removes an object and returns its entry, nil if there was none.
func (s *set) dropLocked(namespace, name string) (old *entry) {
	s.changedLocked()
	old, _ = s.tree.Delete(&entry{namespace: namespace, name: name})
	s.indexLocked(old, nil)
	return old
}

func (s *set) changedLocked() {
	s.changes.Add(1)
	s.snapMu.Lock()
	defer s.snapMu.Unlock()
	s.snap = nil
}

// indexLocked moves the postings of an object from old to e; either may be nil.
func (s *set) indexLocked(old, e *entry) {
	for name, tree := range s.indexes {
		values := s.kind.Indexes[name]
		var now []string
		if e != nil {
			now = values(e.obj)
		}
		if old != nil {
			for _, v := range values(old.obj) {
				if !contains(now, v) {
					tree.Delete(posting{v, old})
				}
			}
		}
		for _, v := range now {
			tree.Set(posting{v, e})
		}
	}
}

func contains(all []string, v string) bool {
	for _, a := range all {
		if a == v {
			return true
		}
	}
	return false
}

// snapshotLocked returns the set as it is. Store.mu is held for reading.
func (s *set) snapshotLocked() *snapshot {
	s.snapMu.Lock()
	defer s.snapMu.Unlock()
	if s.snap == nil {
		s.snap = &snapshot{tree: s.tree.IsoCopy(), indexes: make(map[string]*btree.BTreeG[posting], len(s.indexes))}
		for name, tree := range s.indexes {
			s.snap.indexes[name] = tree.IsoCopy()
		}
	}
	return s.snap
}

// goneLocked ends all cursors with err.
func (s *set) goneLocked(err error) {
	for c := range s.cursors {
		c.failed = err
		c.wake()
	}
	for _, cursors := range s.byValue {
		for c := range cursors {
			c.failed = err
			c.wake()
		}
	}
}
