package store

import (
	"errors"
	"fmt"
	"reflect"
	"sync"

	"sampan/cluster/kind"
)

var errNoReads = errors.New("etcd refused the transaction and did not say why")

// withRevision returns obj, which is shared, with another resourceVersion. Of
// a Go type only the top struct is copied: the rest stays shared.
func withRevision(k *kind.Kind, obj kind.Object, revision int64) kind.Object {
	var own kind.Object
	if v := reflect.ValueOf(obj); k.Type != nil && v.Type() == k.Type {
		copied := reflect.New(k.Type.Elem())
		copied.Elem().Set(v.Elem())
		own = copied.Interface().(kind.Object)
	} else { // unstructured: its metadata is in nested maps
		own = obj.DeepCopyObject().(kind.Object)
	}
	setRevision(own, revision)
	return own
}

// sharedCheck finds objects that were written to after they were handed out.
type sharedCheck struct {
	codec Codec

	mu   sync.Mutex // guards all below
	errs []error
}

func (c *sharedCheck) hash(k *kind.Kind, obj kind.Object) uint64 {
	data, err := c.codec.Encode(k, obj)
	if err != nil {
		return 1
	}
	return hashOf(data) | 1
}

// enter notes what e is like. It is called before e is handed out.
func (c *sharedCheck) enter(k *kind.Kind, e *entry) {
	if c != nil {
		e.shared = c.hash(k, e.obj)
	}
}

// leave compares; e is about to be forgotten by the cache.
func (c *sharedCheck) leave(k *kind.Kind, e *entry) {
	if c == nil || e == nil || c.hash(k, e.obj) == e.shared {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.errs = append(c.errs, fmt.Errorf("%s was written to although it is shared (revision %d): DeepCopy it first",
		Key{k, e.namespace, e.name}, e.revision))
}

func (c *sharedCheck) found() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(c.errs...)
}
