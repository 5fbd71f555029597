package scheduler

import corev1 "k8s.io/api/core/v1"

// nodePorts keeps two pods that want the same host port, protocol and address
// off one node.
func nodePorts() Plugin {
	return Plugin{
		Name:  "NodePorts",
		Wakes: NodeAdded | PodGone,
		Filter: func(pod *Pod, n *Node) []string {
			if len(pod.Ports) == 0 {
				return nil
			}
			for _, other := range n.pods {
				for _, theirs := range other.Ports {
					for _, ours := range pod.Ports {
						if clash(ours, theirs) {
							return []string{"node(s) didn't have free ports for the requested pod ports"}
						}
					}
				}
			}
			return nil
		},
	}
}

func clash(a, b corev1.ContainerPort) bool {
	any := func(ip string) bool { return ip == "" || ip == "0.0.0.0" || ip == "::" }
	protocol := func(p corev1.Protocol) corev1.Protocol {
		if p == "" {
			return corev1.ProtocolTCP
		}
		return p
	}
	return a.HostPort == b.HostPort && protocol(a.Protocol) == protocol(b.Protocol) &&
		(any(a.HostIP) || any(b.HostIP) || a.HostIP == b.HostIP)
}
