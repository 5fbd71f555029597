// Package report writes the status of what a controller keeps, and tells the
// controller's own writes of it from everybody else's.
//
// It knows nothing of what a status says.
package report

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/controller/loop"
)

// Status is that of the objects of one kind, as one controller writes it. Its
// own writes need no other look: after a failure that look would be one before
// the back-off is over. Somebody else's do: the controller has to mend them.
//
// The exported fields are set before its first use. It is safe for concurrent
// use.
type Status[T client.Typed, S any] struct {
	Client client.Client
	Of     func(T) S

	// Same is false for two of one generation that ask for different things all
	// the same. It may be nil.
	Same func(old, now T) bool

	mu   sync.Mutex // guards last
	last map[types.UID]S
}

// Watch calls add for an object that asks for something else than before, or
// whose status somebody else has written.
func (s *Status[T, S]) Watch(add func(types.NamespacedName)) loop.Source {
	return client.Changes(s.Client, client.Query{}, func(_ context.Context, e client.Change[T]) {
		switch {
		case e.Type == client.Deleted:
			s.forget(e.Object.GetUID())
		case e.Type == client.Modified && !s.concerns(e.Old, e.Object):
		default:
			add(types.NamespacedName{Namespace: e.Object.GetNamespace(), Name: e.Object.GetName()})
		}
	})
}

// concerns is true for a change that the controller has to look at.
func (s *Status[T, S]) concerns(old, now T) bool {
	if old.GetUID() != now.GetUID() || old.GetGeneration() != now.GetGeneration() ||
		(old.GetDeletionTimestamp() == nil) != (now.GetDeletionTimestamp() == nil) || s.Same != nil && !s.Same(old, now) {
		return true
	}
	status := s.Of(now)
	return !equality.Semantic.DeepEqual(s.Of(old), status) && !s.wrote(now.GetUID(), status)
}

// Write writes the status of next, which belongs to the callee from then on.
// That the object is gone is no error.
func (s *Status[T, S]) Write(ctx context.Context, next T) error {
	s.note(next.GetUID(), s.Of(next))
	_, err := client.UpdateStatus(ctx, s.Client, next)
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (s *Status[T, S]) note(uid types.UID, status S) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil {
		s.last = map[types.UID]S{}
	}
	s.last[uid] = status
}

func (s *Status[T, S]) wrote(uid types.UID, status S) bool {
	s.mu.Lock()
	last, ok := s.last[uid]
	s.mu.Unlock()
	return ok && equality.Semantic.DeepEqual(last, status)
}

func (s *Status[T, S]) forget(uid types.UID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.last, uid)
}
