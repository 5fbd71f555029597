package scheduler

// nodeName keeps a pod that names a node off all others.
func nodeName() Plugin {
	return Plugin{
		Name:  "NodeName",
		Wakes: NodeAdded,
		Filter: func(pod *Pod, n *Node) []string {
			if pod.Spec.NodeName == "" || pod.Spec.NodeName == n.Name {
				return nil
			}
			return []string{"node(s) didn't match the requested node name"}
		},
	}
}
