package scheduler

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// nodeAffinity keeps pods on nodes that their nodeSelector and required node
// affinity ask for, and prefers those that the preferred terms ask for.
func nodeAffinity() Plugin {
	other := lasting("node(s) didn't match Pod's node affinity/selector")
	return Plugin{
		Name:   "NodeAffinity",
		Weight: 2,
		Wakes:  NodeAdded | NodeLabels,
		For: func(pod *Pod, _ *Snapshot) (r Rule) {
			if pod.choosy {
				r.Filter = func(n *Node) *Refusal {
					if pod.wants(n) {
						return nil
					}
					return other
				}
			}
			if pod.prefers != nil {
				r.Score = func(fit []*Node, scores []int64) {
					for i, n := range fit {
						scores[i] = pod.prefers.Score(n.Node)
					}
					normalize(scores, false)
				}
			}
			return r
		},
	}
}

// wants says whether n is among the nodes that the pod's nodeSelector and
// required node affinity ask for. A term that does not parse matches nothing;
// validation refuses it.
func (p *Pod) wants(n *Node) bool {
	if !p.choosy {
		return true
	}
	ok, err := p.affinity.Match(n.Node)
	return ok && err == nil
}

// namesOf are the nodes that p's required affinity names, nil if one of its
// terms names none: a pod of a daemon set need not be tried on any other.
func namesOf(p *corev1.Pod) (names []string) {
	a := p.Spec.Affinity
	if a == nil || a.NodeAffinity == nil || a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return nil
	}
	for _, t := range a.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		i := slices.IndexFunc(t.MatchFields, func(r corev1.NodeSelectorRequirement) bool {
			return r.Key == "metadata.name" && r.Operator == corev1.NodeSelectorOpIn
		})
		if i < 0 {
			return nil
		}
		names = append(names, t.MatchFields[i].Values...)
	}
	return names
}

// named are those of the nodes named that there are, by name.
func (s *Snapshot) named(names []string) (nodes []*Node) {
	sorted := slices.Sorted(slices.Values(names))
	for _, name := range slices.Compact(sorted) {
		if n := s.byName[name]; n != nil && n.Node != nil {
			nodes = append(nodes, n)
		}
	}
	return nodes
}
