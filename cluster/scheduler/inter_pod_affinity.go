package scheduler

import (
	"math"
)

// interPodAffinity puts pods near those that their affinity selects, and away
// from those that their anti-affinity selects; and keeps them away from pods
// whose anti-affinity selects them.
func interPodAffinity() Plugin {
	alone := lasting("node(s) didn't match pod affinity rules")
	crowded := refusal("node(s) didn't match pod anti-affinity rules")
	unwanted := refusal("node(s) didn't satisfy existing pods anti-affinity rules")
	return Plugin{
		Name:   "InterPodAffinity",
		Weight: 2,
		Wakes:  NodeAdded | NodeLabels | PodGone | PodPlaced | SpaceLabels,
		For: func(pod *Pod, s *Snapshot) (r Rule) {
			// Where pods are by a label of nodes that this one must not be near,
			// or does or does not like to be near.
			var must, mustNot, refused, liked []nearby
			first := false
			if pod.near != nil {
				must, first = s.required(pod)
				for i := range pod.near.mustNot {
					t := &pod.near.mustNot[i]
					mustNot = append(mustNot, nearby{t.topology, s.group(false, *t).by(t.topology, s.Nodes), 1})
				}
				for i := range pod.near.likes {
					t := &pod.near.likes[i]
					liked = append(liked, nearby{t.topology, s.group(false, *t).by(t.topology, s.Nodes), t.weight})
				}
			}
			for h := range s.holding.of(pod.Labels) {
				if !h.term.matches(pod.Pod, s.spaces) {
					continue
				}
				if in := h.anti.by(h.term.topology, s.Nodes); len(in) > 0 {
					refused = append(refused, nearby{h.term.topology, in, 1})
				}
				if in := h.likes.by(h.term.topology, s.Nodes); len(in) > 0 {
					liked = append(liked, nearby{h.term.topology, in, 1})
				}
			}
			if len(must)+len(mustNot)+len(refused) > 0 {
				r.Filter = func(n *Node) *Refusal {
					switch {
					case !beside(must, n, first):
						return alone
					case among(mustNot, n):
						return crowded
					case among(refused, n):
						return unwanted
					}
					return nil
				}
			}
			if len(liked) > 0 {
				r.Score = func(fit []*Node, scores []int64) { scoreLiking(liked, fit, scores) }
			}
			return r
		},
	}
}

// nearby is how many pods there are in each domain of a label.
type nearby struct {
	key    string
	in     map[string]int64
	weight int64
}

// required is where the pods are that pod must be near: those that all its
// terms select. first is true if there are none anywhere and pod is one
// itself: then it may be the first.
func (s *Snapshot) required(pod *Pod) (must []nearby, first bool) {
	terms := pod.near.must
	if len(terms) == 0 {
		return nil, false
	}
	g := s.group(false, terms...)
	first = g.counts(pod.Pod, s.spaces)
	for i := range terms {
		in := g.by(terms[i].topology, s.Nodes)
		first = first && len(in) == 0
		must = append(must, nearby{terms[i].topology, in, 1})
	}
	return must, first
}

func beside(must []nearby, n *Node, first bool) bool {
	for _, m := range must {
		value, ok := n.Labels[m.key]
		if !ok || m.in[value] <= 0 && !first {
			return false
		}
	}
	return true
}

func among(mustNot []nearby, n *Node) bool {
	for _, m := range mustNot {
		if value, ok := n.Labels[m.key]; ok && m.in[value] > 0 {
			return true
		}
	}
	return false
}

// scoreLiking gives the node that is liked least 0, and the one liked most 100.
func scoreLiking(liked []nearby, fit []*Node, scores []int64) {
	least, top := int64(math.MaxInt64), int64(math.MinInt64)
	for i, n := range fit {
		scores[i] = 0
		for _, m := range liked {
			if value, ok := n.Labels[m.key]; ok {
				scores[i] += m.weight * m.in[value]
			}
		}
		least, top = min(least, scores[i]), max(top, scores[i])
	}
	for i := range scores {
		if top > least {
			scores[i] = int64(most * (float64(scores[i]-least) / float64(top-least)))
		} else {
			scores[i] = 0
		}
	}
}
