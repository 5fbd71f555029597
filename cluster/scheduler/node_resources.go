package scheduler

import (
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// nodeResourcesFit keeps pods off nodes without room for what they ask for,
// and prefers the nodes with most room left (upstream's LeastAllocated).
func nodeResourcesFit() Plugin {
	return Plugin{
		Name:   "NodeResourcesFit",
		Wakes:  NodeAdded | NodeRoom | PodGone,
		Filter: lacks,
		Weight: 1,
		Score: func(pod *Pod, n *Node) int64 {
			free := func(taken, room int64) int64 {
				if room <= 0 || taken > room {
					return 0
				}
				return (room - taken) * most / room
			}
			return (free(n.Usual.CPU+pod.Usual.CPU, n.Room.CPU) + free(n.Usual.Memory+pod.Usual.Memory, n.Room.Memory)) / 2
		},
	}
}

// nodeResourcesBalanced prefers nodes whose CPU and memory would be taken in
// like parts.
func nodeResourcesBalanced() Plugin {
	return Plugin{
		Name:   "NodeResourcesBalancedAllocation",
		Weight: 1,
		Score: func(pod *Pod, n *Node) int64 {
			part := func(taken, room int64) float64 {
				if room <= 0 {
					return 1
				}
				return min(1, float64(taken)/float64(room))
			}
			cpu := part(n.Taken.CPU+pod.Request.CPU, n.Room.CPU)
			memory := part(n.Taken.Memory+pod.Request.Memory, n.Room.Memory)
			// Of two values, half the difference is the standard deviation.
			return int64((1 - math.Abs(cpu-memory)/2) * most)
		},
	}
}

// lacks names what n has not enough of for pod.
func lacks(pod *Pod, n *Node) (reasons []string) {
	if n.Taken.Pods+1 > n.Room.Pods {
		reasons = append(reasons, "Too many pods")
	}
	ask := pod.Request
	if ask.CPU > 0 && ask.CPU > n.Room.CPU-n.Taken.CPU {
		reasons = append(reasons, "Insufficient cpu")
	}
	if ask.Memory > 0 && ask.Memory > n.Room.Memory-n.Taken.Memory {
		reasons = append(reasons, "Insufficient memory")
	}
	if ask.Storage > 0 && ask.Storage > n.Room.Storage-n.Taken.Storage {
		reasons = append(reasons, "Insufficient ephemeral-storage")
	}
	if len(ask.Others) == 0 {
		return reasons
	}
	names := make([]corev1.ResourceName, 0, len(ask.Others))
	for name := range ask.Others {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if want := ask.Others[name]; want > 0 && want > n.Room.Others[name]-n.Taken.Others[name] {
			reasons = append(reasons, "Insufficient "+string(name))
		}
	}
	return reasons
}
