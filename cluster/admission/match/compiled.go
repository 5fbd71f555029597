package match

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
)

// Compiled keeps what was made of configurations, for as long as they stay as
// they are. The zero value is ready.
type Compiled[T client.Typed, V any] struct {
	mu  sync.Mutex // guards all below
	all map[types.UID]Made[V]
}

// Made is what was made of one configuration. With an error, as much of it as
// there is.
type Made[V any] struct {
	version string // of the configuration
	Value   V
	Err     error
}

// Of returns what compile makes of each object, in their order. What is not
// among the objects is forgotten.
func (c *Compiled[T, V]) Of(objects []T, compile func(T) (V, error)) []Made[V] {
	c.mu.Lock()
	defer c.mu.Unlock()
	next, list := make(map[types.UID]Made[V], len(objects)), make([]Made[V], len(objects))
	for i, o := range objects {
		m, ok := c.all[o.GetUID()]
		if !ok || m.version != o.GetResourceVersion() {
			m = Made[V]{version: o.GetResourceVersion()}
			m.Value, m.Err = compile(o)
		}
		next[o.GetUID()], list[i] = m, m
	}
	c.all = next
	return list
}
