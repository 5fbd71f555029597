package store

import "sampan/cluster/kind"

// Count is how many objects of k there are, those of all its versions.
func (s *Store) Count(k *kind.Kind) int {
	set, err := s.set(k)
	if err != nil {
		return 0
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return set.tree.Len()
}
