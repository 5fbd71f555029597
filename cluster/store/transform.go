package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/kind"
)

// Transformer changes what is stored: encryption at rest. It is safe for
// concurrent use.
type Transformer interface {
	// Seal returns what to store under an etcd key of data, the encoded form of
	// an object.
	Seal(ctx context.Context, resource schema.GroupResource, key string, data []byte) ([]byte, error)

	// Open returns what Seal was given. stale says that Seal would not write
	// it like that any more.
	Open(ctx context.Context, resource schema.GroupResource, key string, stored []byte) (data []byte, stale bool, err error)

	// Changed has a value when what could not be opened may be by now.
	Changed() <-chan struct{}
}

// Unreadable is the error of reading an object that the Transformer cannot
// open. Its text is upstream's, but for the end. Whatever lists the kind fails
// as well: a part must not be taken for the whole.
type Unreadable struct {
	Key  Key
	Err  error
	path string
}

func (u *Unreadable) Error() string {
	return fmt.Sprintf("StorageError: corrupt object, Code: 7, Key: %s, ResourceVersion: 0, AdditionalErrorMsg: "+
		"data from the storage is not transformable revision=0: %v (%s)", u.path, u.Err, unreadableFix)
}

// unreadableFix is what helps.
const unreadableFix = "give the key that it was encrypted with back to --encryption-provider-config, after the one to write with"

func (u *Unreadable) Unwrap() error { return u.Err }

// Path is the object's key in etcd.
func (u *Unreadable) Path() string { return u.path }

// UnreadableObjects is the error of a list that some objects are missing from.
type UnreadableObjects []*Unreadable

func (all UnreadableObjects) Error() string {
	text := fmt.Sprintf("failed to read one or more %s from the storage: %v", all[0].Key.Kind, all[0])
	if n := len(all) - 1; n > 0 {
		text += fmt.Sprintf(" (and %d more)", n)
	}
	return text
}

// maxUnreadable is how many objects a list names, upstream's.
const maxUnreadable = 100

// errEncrypted is what upstream says without an encryption configuration.
var errEncrypted = errors.New("identity transformer tried to read encrypted data")

// encrypted begins what upstream has encrypted.
var encrypted = []byte("k8s:enc:")

func resource(k *kind.Kind) schema.GroupResource {
	return schema.GroupResource{Group: k.GVK.Group, Resource: k.Plural}
}

// seal makes the stored form of data.
func (s *Store) seal(ctx context.Context, k Key, data []byte) ([]byte, error) {
	if s.transform == nil {
		return data, nil
	}
	return s.transform.Seal(ctx, resource(k.Kind), s.etcd.root.path(k), data)
}

// open undoes seal. Its error is an *Unreadable.
func (s *Store) open(ctx context.Context, k *kind.Kind, kv *mvccpb.KeyValue) (data []byte, stale bool, err error) {
	if s.transform != nil {
		data, stale, err = s.transform.Open(ctx, resource(k), string(kv.Key), kv.Value)
	} else if data = kv.Value; bytes.HasPrefix(data, encrypted) {
		err = errEncrypted
	}
	if err != nil {
		path := string(kv.Key)
		namespace, name := s.etcd.root.placed(k, path)
		return nil, false, &Unreadable{Key: Key{k, namespace, name}, Err: err, path: path}
	}
	return data, stale, nil
}

// placed is the name of an object by its key in etcd.
func (r root) placed(k *kind.Kind, path string) (namespace, name string) {
	rest := strings.TrimPrefix(path, r.dir(k))
	if k.Cluster {
		return "", rest
	}
	namespace, name, _ = strings.Cut(rest, "/")
	return namespace, name
}

// stale says whether what etcd has of an object has to be written again,
// although it would be the same object: with another key, say. It is true as
// well if etcd has another state by now, which the write will find out.
func (s *Store) stale(ctx context.Context, k Key, current state) (bool, error) {
	if s.transform == nil || current.obj == nil {
		return false, nil
	}
	resp, err := s.get(ctx, k)
	if err != nil {
		return false, unavailable("get", k.String(), err)
	}
	if len(resp.Kvs) == 0 || resp.Kvs[0].ModRevision != current.revision {
		return true, nil
	}
	_, stale, err := s.open(ctx, k.Kind, resp.Kvs[0])
	return stale, err
}

// Unreadable says why an object cannot be read that Get does not have, nil if
// there is none.
func (s *Store) Unreadable(k Key) error {
	set, err := s.set(k.Kind)
	if err != nil {
		return nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if u := set.unread[s.etcd.root.path(k)]; u != nil {
		return u
	}
	return nil
}

// Discard deletes an object that cannot be read, and no other: nothing is known
// of what it holds or who waits for its end. (KEP-3926.) With dryRun it only
// says whether it would.
func (s *Store) Discard(ctx context.Context, k Key, dryRun bool) error {
	for {
		resp, err := s.get(ctx, k)
		if err != nil {
			return unavailable("get", k.String(), err)
		}
		if len(resp.Kvs) == 0 {
			return notFound("delete", k)
		}
		if _, _, err := s.decode(ctx, k.Kind, resp.Kvs[0]); err == nil {
			return &Readable{Key: k, path: s.etcd.root.path(k)}
		}
		if dryRun {
			return nil
		}
		t := txn{store: s, ctx: ctx}
		t.remove(k, resp.Kvs[0].ModRevision)
		done, err := t.commit(nil)
		if err != nil {
			return unavailable("delete", k.String(), err)
		}
		if done.revision != 0 {
			return nil
		}
	}
}

// Readable is the error of discarding an object that can be read. Its text is
// upstream's.
type Readable struct {
	Key  Key
	path string
}

func (r *Readable) Error() string {
	return fmt.Sprintf("StorageError: invalid object, Code: 4, Key: %s, ResourceVersion: 0, AdditionalErrorMsg: "+
		"unsafe deletion is not allowed because the object is decodable from storage", r.path)
}

// wholeLocked returns an error if objects cannot be read that a list of the
// namespace would have, or of all if that is empty.
func (s *set) wholeLocked(namespace string) error {
	if len(s.unread) == 0 {
		return nil
	}
	var all UnreadableObjects
	for _, path := range slices.Sorted(maps.Keys(s.unread)) {
		if u := s.unread[path]; (namespace == "" || s.kind.Cluster || u.Key.Namespace == namespace) && len(all) < maxUnreadable {
			all = append(all, u)
		}
	}
	if all == nil {
		return nil
	}
	return all
}

// unreadLocked notes an object that cannot be read.
func (s *set) unreadLocked(u *Unreadable) {
	if s.unread == nil {
		s.unread = map[string]*Unreadable{}
	}
	s.unread[u.path] = u
}

// cutLocked makes all watches of the set start anew: what has happened up to
// revision cannot be told as events.
func (s *set) cutLocked(revision int64) {
	s.events.cut(revision)
	for c := range s.cursors {
		c.wake() // its place is before the log's first
	}
	for _, cursors := range s.byValue {
		for c := range cursors {
			c.lost, c.pending = true, nil
			c.wake()
		}
	}
}

// reopen tries again to read what could not be read. The feeder runs it.
func (s *Store) reopen(ctx context.Context) {
	for _, set := range *s.sets.Load() {
		s.mu.RLock()
		unread := slices.Collect(maps.Values(set.unread))
		s.mu.RUnlock()
		if len(unread) == 0 {
			continue
		}
		var read []*entry
		for _, u := range unread {
			resp, err := s.etcd.getAt(ctx, u.path, s.Revision(), clientv3.WithSerializable())
			if err != nil || len(resp.Kvs) == 0 {
				continue // etcd is not well, or the object's end is on its way
			}
			if e, again := s.entry(ctx, set.kind, u.Key.Namespace, u.Key.Name, resp.Kvs[0], func() []kind.Object { return nil }); e != nil && again == nil {
				read = append(read, e)
			}
		}
		s.mu.Lock()
		for _, e := range read {
			delete(set.unread, s.etcd.root.path(Key{set.kind, e.namespace, e.name}))
			set.putLocked(e)
		}
		if len(read) > 0 {
			set.cutLocked(s.revision)
		}
		s.mu.Unlock()
		s.log.Info("what could not be decrypted was read again", "kind", set.kind.String(), "objects", len(read), "left", len(unread)-len(read))
	}
}
