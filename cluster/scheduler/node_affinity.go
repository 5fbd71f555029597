package scheduler

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
