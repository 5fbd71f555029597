package scheduler

import corev1 "k8s.io/api/core/v1"

// nodePorts keeps two pods that want the same host port, protocol and address
// off one node.
func nodePorts() Plugin {
	taken := refusal("node(s) didn't have free ports for the requested pod ports")
	return Plugin{
		Name:  "NodePorts",
		Wakes: NodeAdded | PodGone,
		For: func(pod *Pod, _ *Snapshot) (r Rule) {
			if len(pod.Ports) == 0 {
				return r
			}
			r.Filter = func(n *Node) *Refusal {
				for _, other := range n.pods {
					for _, theirs := range other.Ports {
						for _, ours := range pod.Ports {
							if clash(ours, theirs) {
								return taken
							}
						}
					}
				}
				return nil
			}
			return r
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
