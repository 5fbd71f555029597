// Package client is how every part of Sampan reads and writes API objects.
//
// Controllers, the scheduler and the local node get verb.Local, which reads
// the one cache and writes through the same authorization, admission and
// validation as HTTP, without encoding anything. A joined node gets the same
// interface over HTTP. Tests get clienttest.Fake.
//
// client has no store and no rules.
package client

import (
	"context"
	"errors"
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/kind"
)

// Reader reads. What it returns is shared: never write to an object, and
// never keep one of a list's slices longer than needed. Errors are upstream's
// (k8s.io/apimachinery/pkg/api/errors), so IsNotFound and its siblings work.
type Reader interface {
	// Kinds is the table of kinds that can be read and written.
	Kinds() *kind.Table

	// Get returns one object from memory. It does not block once the kind has
	// been read for the first time.
	Get(ctx context.Context, k *kind.Kind, namespace, name string) (kind.Object, error)

	// List returns the objects that match q, from memory, ordered by namespace
	// and name.
	List(ctx context.Context, k *kind.Kind, q Query) ([]kind.Object, error)

	// Watch follows the objects that match q: first all there are, as Added,
	// then one Synced, then every change in order. It resumes by itself and
	// ends only with ctx.
	Watch(ctx context.Context, k *kind.Kind, q Query) (Watcher, error)
}

// Query selects objects of one kind. The zero value selects all.
type Query struct {
	Namespace string // empty: all
	Name      string // empty: all
	Labels    labels.Selector
	Fields    fields.Selector

	// Index and Value look up by one of kind.Kind.Indexes, without a scan.
	// Empty Index: no look-up.
	Index, Value string
}

// Watcher delivers events to one goroutine.
type Watcher interface {
	// Next blocks until there are events, and returns them in order. Its only
	// error is ctx's (the context given to Watch or to Next).
	Next(ctx context.Context) ([]Event, error)
}

// EventType is what happened to an object as seen through the Query: one that
// stops to match is Deleted, one that starts to is Added.
type EventType uint8

const (
	Added EventType = iota
	Modified
	Deleted
	Synced // Object is nil: all objects that existed at the start were delivered
)

// Event is one change. Object is the state after it, for Deleted the last one;
// Old is the state before, nil if it was not in view.
type Event struct {
	Type        EventType
	Object, Old kind.Object
}

// Client reads and writes as one user.
type Client interface {
	Reader

	// Create stores obj, which belongs to the callee from then on. With a
	// metadata.generateName the name is chosen.
	Create(ctx context.Context, k *kind.Kind, obj kind.Object) (kind.Object, error)

	// Update replaces an object or, with sub, a part of it ("status"). obj
	// belongs to the callee from then on. An empty resourceVersion means
	// "whatever is there"; else a conflict is an error.
	Update(ctx context.Context, k *kind.Kind, obj kind.Object, sub string) (kind.Object, error)

	// Patch changes an object, or with sub a part of it.
	Patch(ctx context.Context, k *kind.Kind, p Patch) (kind.Object, error)

	// Delete removes an object, or marks it for removal. Nil opts: the kind's
	// defaults.
	Delete(ctx context.Context, k *kind.Kind, namespace, name string, opts *metav1.DeleteOptions) error

	// Act posts body to a subresource of another kind ("binding", "token",
	// "eviction") and returns the answer.
	Act(ctx context.Context, k *kind.Kind, namespace, name, sub string, body runtime.Object) (runtime.Object, error)
}

// Patch is a change of one object as a document.
type Patch struct {
	Namespace, Name, Sub string
	Type                 types.PatchType
	Data                 []byte
	FieldManager         string
	Force                bool
}

// Typed is a pointer to an API type that is a kind's hub.
type Typed interface{ kind.Object }

// KindOf returns the kind whose hub is T. It panics if the table has none:
// that is a mistake in the program, not in its input.
func KindOf[T Typed](r Reader) *kind.Kind {
	k := r.Kinds().ByType(reflect.TypeFor[T]())
	if k == nil {
		panic("client: no kind is declared for " + reflect.TypeFor[T]().String())
	}
	return k
}

// Get returns the object of type T, shared: never write to it.
func Get[T Typed](ctx context.Context, r Reader, namespace, name string) (T, error) {
	obj, err := r.Get(ctx, KindOf[T](r), namespace, name)
	if err != nil {
		var none T
		return none, err
	}
	return obj.(T), nil
}

// List returns the objects of type T that match q, shared: never write to one.
func List[T Typed](ctx context.Context, r Reader, q Query) ([]T, error) {
	objs, err := r.List(ctx, KindOf[T](r), q)
	if err != nil {
		return nil, err
	}
	all := make([]T, len(objs))
	for i, o := range objs {
		all[i] = o.(T)
	}
	return all, nil
}

// Create stores obj.
func Create[T Typed](ctx context.Context, c Client, obj T) (T, error) {
	return as[T](c.Create(ctx, KindOf[T](c), obj))
}

// Update replaces obj. See Client.Update.
func Update[T Typed](ctx context.Context, c Client, obj T) (T, error) {
	return as[T](c.Update(ctx, KindOf[T](c), obj, ""))
}

// UpdateStatus replaces the status of obj.
func UpdateStatus[T Typed](ctx context.Context, c Client, obj T) (T, error) {
	return as[T](c.Update(ctx, KindOf[T](c), obj, "status"))
}

// Delete removes an object of type T.
func Delete[T Typed](ctx context.Context, c Client, namespace, name string, opts *metav1.DeleteOptions) error {
	return c.Delete(ctx, KindOf[T](c), namespace, name, opts)
}

// Change is an Event with its Go type.
type Change[T Typed] struct {
	Type        EventType
	Object, Old T    // nil where Event's are
	First       bool // it was there when the watch began; set by Changes
}

// Follow calls each for every event of a Watch, in order, until ctx ends, and
// returns nil then.
func Follow[T Typed](ctx context.Context, r Reader, q Query, each func(Change[T])) error {
	w, err := r.Watch(ctx, KindOf[T](r), q)
	if err != nil {
		return err
	}
	for {
		events, err := w.Next(ctx)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		}
		for _, e := range events {
			c := Change[T]{Type: e.Type}
			if e.Object != nil {
				c.Object = e.Object.(T)
			}
			if e.Old != nil {
				c.Old = e.Old.(T)
			}
			each(c)
		}
	}
}

// Changes is Follow as a controller's loop.Source: seen is called where Follow
// would tell Synced.
func Changes[T Typed](r Reader, q Query, each func(context.Context, Change[T])) func(ctx context.Context, seen func()) error {
	return func(ctx context.Context, seen func()) error {
		first := true
		return Follow(ctx, r, q, func(e Change[T]) {
			if e.Type == Synced {
				first = false
				seen()
				return
			}
			e.First = first
			each(ctx, e)
		})
	}
}

func as[T Typed](obj kind.Object, err error) (T, error) {
	if err != nil {
		var none T
		return none, err
	}
	return obj.(T), nil
}
