package scheduler

// nodeName keeps a pod that names a node off all others.
func nodeName() Plugin {
	other := lasting("node(s) didn't match the requested node name")
	return Plugin{
		Name:  "NodeName",
		Wakes: NodeAdded,
		For: func(pod *Pod, _ *Snapshot) (r Rule) {
			if pod.Spec.NodeName == "" {
				return r
			}
			r.Filter = func(n *Node) *Refusal {
				if pod.Spec.NodeName == n.Name {
					return nil
				}
				return other
			}
			return r
		},
	}
}
