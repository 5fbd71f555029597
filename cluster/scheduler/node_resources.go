package scheduler

import (
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// nodeResourcesFit keeps pods off nodes without room for what they ask for,
// and prefers the nodes with most room left (upstream's LeastAllocated).
func nodeResourcesFit() Plugin {
	free := func(taken, room int64) int64 {
		if room <= 0 || taken > room {
			return 0
		}
		return (room - taken) * most / room
	}
	return Plugin{
		Name:   "NodeResourcesFit",
		Weight: 1,
		Wakes:  NodeAdded | NodeRoom | PodGone,
		For: func(pod *Pod, _ *Snapshot) Rule {
			return Rule{
				Filter: func(n *Node) *Refusal { return lacks(pod, n) },
				Score: each(func(n *Node) int64 {
					return (free(n.Usual.CPU+pod.Usual.CPU, n.Room.CPU) + free(n.Usual.Memory+pod.Usual.Memory, n.Room.Memory)) / 2
				}),
			}
		},
	}
}

// nodeResourcesBalanced prefers nodes whose CPU and memory would be taken in
// like parts. A pod that asks for neither changes nothing.
func nodeResourcesBalanced() Plugin {
	part := func(taken, room int64) float64 {
		if room <= 0 {
			return 1
		}
		return min(1, float64(taken)/float64(room))
	}
	return Plugin{
		Name:   "NodeResourcesBalancedAllocation",
		Weight: 1,
		For: func(pod *Pod, _ *Snapshot) (r Rule) {
			if pod.Request.CPU == 0 && pod.Request.Memory == 0 {
				return r
			}
			r.Score = each(func(n *Node) int64 {
				cpu := part(n.Taken.CPU+pod.Request.CPU, n.Room.CPU)
				memory := part(n.Taken.Memory+pod.Request.Memory, n.Room.Memory)
				// Of two values, half the difference is the standard deviation.
				return int64((1 - math.Abs(cpu-memory)/2) * most)
			})
			return r
		},
	}
}

// lacks names what n has not enough of for pod. What is more than the whole
// node has, no pod can make room for.
func lacks(pod *Pod, n *Node) *Refusal {
	ask := &pod.Request
	if n.Taken.Pods < n.Room.Pods && ask.CPU <= n.Room.CPU-n.Taken.CPU && ask.Memory <= n.Room.Memory-n.Taken.Memory &&
		ask.Storage <= n.Room.Storage-n.Taken.Storage && len(ask.Others) == 0 {
		return nil
	}
	var reasons []string
	never := false
	check := func(reason string, want, taken, room int64) {
		if want > 0 && want > room-taken {
			reasons = append(reasons, reason)
			never = never || want > room
		}
	}
	check("Too many pods", 1, n.Taken.Pods, n.Room.Pods)
	check("Insufficient cpu", ask.CPU, n.Taken.CPU, n.Room.CPU)
	check("Insufficient memory", ask.Memory, n.Taken.Memory, n.Room.Memory)
	check("Insufficient ephemeral-storage", ask.Storage, n.Taken.Storage, n.Room.Storage)
	if len(ask.Others) > 0 {
		names := make([]corev1.ResourceName, 0, len(ask.Others))
		for name := range ask.Others {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			check("Insufficient "+string(name), ask.Others[name], n.Taken.Others[name], n.Room.Others[name])
		}
	}
	if len(reasons) == 0 {
		return nil
	}
	return &Refusal{Reasons: reasons, Lasting: never}
}
