package scheduler

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// group is the pods that some terms select, counted on each node as they come
// and go. It is made when a pod asks for it for the first time; that is the
// only time when all pods are looked at.
type group struct {
	tally
	key    string
	terms  []term // a pod is counted that all of them select
	active bool   // pods that are leaving do not count
	used   uint64 // when it was asked for, by Snapshot.clock
}

// maxGroups bounds what is counted; of more, the half that was not asked for
// for longest is forgotten.
const maxGroups = 4096

func (g *group) counts(p *corev1.Pod, spaces map[string]labels.Set) bool {
	if g.active && p.DeletionTimestamp != nil {
		return false
	}
	for i := range g.terms {
		if !g.terms[i].matches(p, spaces) {
			return false
		}
	}
	return true
}

// group returns the group of the pods that all terms select, of which there is
// at least one.
func (s *Snapshot) group(active bool, terms ...term) *group {
	keys := make([]string, len(terms), len(terms)+1)
	for i := range terms {
		keys[i] = terms[i].key()
	}
	if active {
		keys = append(keys, "active")
	}
	key := strings.Join(keys, "\n")
	s.clock++
	if g := s.groups[key]; g != nil {
		g.used = s.clock
		return g
	}
	if len(s.groups) >= maxGroups {
		s.forgetOld()
	}
	g := &group{key: key, terms: terms, active: active, used: s.clock}
	for uid, node := range s.where {
		n := s.byName[node]
		if g.counts(n.pods[uid].Pod, s.spaces) {
			g.add(n, 1)
		}
	}
	s.groups[key] = g
	s.selecting.add(terms[0].selector, g)
	return g
}

func (s *Snapshot) forgetOld() {
	all := make([]*group, 0, len(s.groups))
	for _, g := range s.groups {
		all = append(all, g)
	}
	slices.SortFunc(all, func(a, b *group) int { return cmp.Compare(a.used, b.used) })
	for _, g := range all[:len(all)/2] {
		s.forget(g)
	}
}

func (s *Snapshot) forget(g *group) {
	delete(s.groups, g.key)
	s.selecting.drop(g.terms[0].selector, g)
}

// held is a term of pods that are on nodes, which the scheduler has to respect
// for pods that it selects: how many on each node do not want such a pod near,
// and how much the others want it.
type held struct {
	term  term
	key   heldKey
	users int
	anti  tally
	likes tally
}

type heldKey struct{ topology, term string }

// hold counts p's terms on n, with sign -1 no more.
func (s *Snapshot) hold(p *Pod, n *Node, sign int64) {
	if p.near == nil {
		return
	}
	each := func(terms []term, count func(h *held, t *term)) {
		for i := range terms {
			t := &terms[i]
			key := heldKey{t.topology, t.key()}
			h := s.held[key]
			if h == nil {
				h = &held{term: *t, key: key}
				s.held[key] = h
				s.holding.add(t.selector, h)
			}
			h.users += int(sign)
			count(h, t)
			if h.users == 0 {
				delete(s.held, key)
				s.holding.drop(t.selector, h)
			}
		}
	}
	// A pod that must be near others is glad to have more of them: upstream's
	// hardPodAffinityWeight, 1.
	each(p.near.must, func(h *held, _ *term) { h.likes.add(n, sign) })
	each(p.near.mustNot, func(h *held, _ *term) { h.anti.add(n, sign) })
	each(p.near.likes, func(h *held, t *term) { h.likes.add(n, sign*t.weight) })
}
