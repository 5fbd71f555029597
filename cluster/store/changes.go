package store

import "sampan/cluster/kind"

// Changes returns a function whose result differs after every change of an
// object of the kinds: whoever has made something of their objects asks it
// whether that still holds. It costs an atomic read for each kind. What is
// read after a call is at least of that state.
func (s *Store) Changes(kinds ...*kind.Kind) func() uint64 {
	var sets []*set
	for _, k := range kinds {
		if set, err := s.set(k); err == nil {
			sets = append(sets, set)
		}
	}
	return func() (n uint64) {
		for _, set := range sets {
			n += set.changes.Load() // each only grows, so the sum differs
		}
		return n
	}
}
