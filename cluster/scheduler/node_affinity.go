package scheduler

// nodeAffinity keeps pods on nodes that their nodeSelector and required node
// affinity ask for, and prefers those that the preferred terms ask for.
func nodeAffinity() Plugin {
	return Plugin{
		Name:  "NodeAffinity",
		Wakes: NodeAdded | NodeLabels,
		Filter: func(pod *Pod, n *Node) []string {
			// A term that does not parse matches nothing; validation refuses it.
			if ok, err := pod.affinity.Match(n.Node); ok && err == nil {
				return nil
			}
			return []string{"node(s) didn't match Pod's node affinity/selector"}
		},
		Weight:    2,
		Normalize: normalize(false),
		Score: func(pod *Pod, n *Node) int64 {
			if pod.prefers == nil {
				return 0
			}
			return pod.prefers.Score(n.Node)
		},
	}
}
