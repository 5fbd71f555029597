package loop

import (
	"sync"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
)

// Own tells a controller's own writes of a status from everybody else's. Its
// own need no other look: after a failure that look would be one before the
// back-off is over. Somebody else's do: the controller has to mend them.
//
// The zero value is ready. It is safe for concurrent use.
type Own[S any] struct {
	mu   sync.Mutex // guards last
	last map[types.UID]S
}

// Write notes what is about to be written. s may be shared from then on.
func (o *Own[S]) Write(uid types.UID, s S) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.last == nil {
		o.last = map[types.UID]S{}
	}
	o.last[uid] = s
}

// Wrote is true if s is what was written last.
func (o *Own[S]) Wrote(uid types.UID, s S) bool {
	o.mu.Lock()
	last, ok := o.last[uid]
	o.mu.Unlock()
	return ok && equality.Semantic.DeepEqual(last, s)
}

// Forget is called for an object that is gone.
func (o *Own[S]) Forget(uid types.UID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.last, uid)
}
