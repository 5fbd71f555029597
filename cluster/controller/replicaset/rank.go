package replicaset

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/controller/pods"
)

// rank sorts alive so that whoever is missed least comes first, in upstream's
// order (controller_utils.go, ActivePodsWithRanks): not scheduled, pending,
// not ready, cheap by its pod-deletion-cost, on a node with more related pods,
// ready for less long, more restarts, younger.
//
// Times are compared by magnitude only (KEP-2185), so that the choice among
// pods of about the same age spreads over nodes. Upstream settles a tie of
// ready times by the UID; here the criteria that follow come first and the UID
// last, which makes the order one that can be sorted by.
func rank(alive, related []*corev1.Pod, now time.Time) {
	crowd := map[string]int{} // related pods by node
	for _, p := range related {
		if pods.Active(p) {
			crowd[p.Spec.NodeName]++
		}
	}
	slices.SortFunc(alive, func(a, b *corev1.Pod) int {
		return cmp.Or(
			first(a.Spec.NodeName == "", b.Spec.NodeName == ""),
			cmp.Compare(phase(a), phase(b)),
			first(!pods.Ready(a), !pods.Ready(b)),
			cmp.Compare(cost(a), cost(b)),
			cmp.Compare(crowd[b.Spec.NodeName], crowd[a.Spec.NodeName]),
			younger(pods.ReadySince(a), pods.ReadySince(b), now),
			restarts(a, b),
			younger(a.CreationTimestamp.Time, b.CreationTimestamp.Time, now),
			cmp.Compare(a.UID, b.UID),
			cmp.Compare(a.Name, b.Name),
		)
	})
}

// first orders true before false.
func first(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

func phase(p *corev1.Pod) int {
	switch p.Status.Phase {
	case corev1.PodUnknown:
		return 1
	case corev1.PodRunning:
		return 2
	}
	return 0
}

// cost is what the annotation says; one that is no number is no cost.
func cost(p *corev1.Pod) int32 {
	n, err := strconv.ParseInt(p.Annotations[corev1.PodDeletionCost], 10, 32)
	if err != nil {
		return 0
	}
	return int32(n)
}

// younger orders by the magnitude of the time passed since; one without a time
// comes first.
func younger(a, b time.Time, now time.Time) int {
	return cmp.Compare(magnitude(a, now), magnitude(b, now))
}

func magnitude(t, now time.Time) int {
	if t.IsZero() {
		return -2
	}
	passed := now.Sub(t)
	if passed <= 0 {
		return -1
	}
	return int(math.Log2(float64(passed)))
}

// restarts orders the pod with more of them first: by the container with most,
// then by the sidecar with most.
func restarts(a, b *corev1.Pod) int {
	ra, sa := mostRestarts(a)
	rb, sb := mostRestarts(b)
	return cmp.Or(cmp.Compare(rb, ra), cmp.Compare(sb, sa))
}

func mostRestarts(p *corev1.Pod) (regular, sidecar int32) {
	for _, c := range p.Status.ContainerStatuses {
		regular = max(regular, c.RestartCount)
	}
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			continue
		}
		for _, s := range p.Status.InitContainerStatuses {
			if s.Name == c.Name {
				sidecar = max(sidecar, s.RestartCount)
			}
		}
	}
	return regular, sidecar
}
