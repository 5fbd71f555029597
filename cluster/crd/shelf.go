package crd

import "sync"

// inUse is how many definitions have what was made of their schemas at hand.
// With what others keep for its kinds (kind.Custom.Kept) one has about a
// megabyte; to make it again takes some milliseconds.
const inUse = 256

// shelf holds the definitions that have something compiled, and takes it from
// one that was not used for a while when there are too many. It is safe for
// concurrent use.
type shelf struct {
	most int

	mu   sync.Mutex // guards all below, and definition.shelved
	all  []*definition
	hand int // whose turn it is to go, if it was not used since the last round
}

// put takes in a definition that has something compiled now.
func (s *shelf) put(d *definition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.shelved {
		return
	}
	d.shelved = true
	if len(s.all) < s.most {
		s.all = append(s.all, d)
		return
	}
	s.hand %= len(s.all)
	for s.all[s.hand].used.Swap(false) {
		s.hand = (s.hand + 1) % len(s.all)
	}
	s.all[s.hand].emptyLocked()
	s.all[s.hand] = d
	s.hand++
}

// drop forgets a definition that is gone or was replaced.
func (s *shelf) drop(d *definition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !d.shelved {
		return
	}
	d.emptyLocked()
	for i, other := range s.all {
		if other == d {
			last := len(s.all) - 1
			s.all[i], s.all[last] = s.all[last], nil
			s.all = s.all[:last]
			return
		}
	}
}

// emptyLocked gives back what was made of a definition; it is made again when
// somebody needs it. The shelf's lock is held.
func (d *definition) emptyLocked() {
	d.shelved = false
	for _, f := range d.versions {
		f.made.Store(nil)
	}
	d.kept.Clear()
}
