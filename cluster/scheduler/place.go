package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Placement is what Place found: a node, or for every node why not.
type Placement struct {
	Node     string
	Rejected []Rejection // in the order of the snapshot; empty where Node is set by a sample
	Total    int         // nodes in the snapshot
}

// Rejection says why one node does not take the pod. Plugin is the first that
// refused.
type Rejection struct {
	Node    string
	Plugin  string
	Reasons []string
}

// Place finds the best node for pod. It is a pure function of its arguments,
// but for which of several equally good nodes it takes: r decides.
//
// from is where to start among the nodes: of many nodes only a share is
// looked at, and the next call should go on behind it (see Sample).
func Place(pod *Pod, s *Snapshot, plugins []Plugin, from int, r *rand.Rand) (Placement, int) {
	result := Placement{Total: len(s.Nodes)}
	want := Sample(len(s.Nodes))
	var fit []*Node
	looked := 0
	for ; looked < len(s.Nodes) && len(fit) < want; looked++ {
		n := s.Nodes[(from+looked)%len(s.Nodes)]
		if why := refuse(pod, n, plugins); why != nil {
			result.Rejected = append(result.Rejected, *why)
			continue
		}
		fit = append(fit, n)
	}
	if len(fit) > 0 {
		result.Node = best(pod, fit, plugins, r).Name
	}
	return result, from + looked
}

// Sample is how many fitting nodes are enough: all of up to 100, then a share
// that falls from 50 to 5 percent, as upstream's percentageOfNodesToScore.
func Sample(nodes int) int {
	const enough = 100
	if nodes <= enough {
		return nodes
	}
	return max(enough, nodes*max(5, 50-nodes/125)/100)
}

// refuse asks every filter until one refuses, and returns nil if none does.
func refuse(pod *Pod, n *Node, plugins []Plugin) *Rejection {
	for _, p := range plugins {
		if p.Filter == nil {
			continue
		}
		if reasons := p.Filter(pod, n); len(reasons) > 0 {
			return &Rejection{Node: n.Name, Plugin: p.Name, Reasons: reasons}
		}
	}
	return nil
}

func best(pod *Pod, fit []*Node, plugins []Plugin, r *rand.Rand) *Node {
	if len(fit) == 1 {
		return fit[0]
	}
	total := make([]int64, len(fit))
	scores := make([]int64, len(fit))
	for _, p := range plugins {
		if p.Score == nil {
			continue
		}
		for i, n := range fit {
			scores[i] = p.Score(pod, n)
		}
		if p.Normalize != nil {
			p.Normalize(scores)
		}
		for i := range scores {
			total[i] += p.Weight * scores[i]
		}
	}
	top := slices.Max(total)
	var winners []*Node
	for i, n := range fit {
		if total[i] == top {
			winners = append(winners, n)
		}
	}
	return winners[r.IntN(len(winners))]
}

// Message is upstream's text for a pod that fits nowhere.
func (p Placement) Message() string {
	if p.Total == 0 {
		return "no nodes available to schedule pods"
	}
	count := map[string]int{}
	for _, r := range p.Rejected {
		for _, why := range r.Reasons {
			count[why]++
		}
	}
	texts := make([]string, 0, len(count))
	for why, n := range count {
		texts = append(texts, fmt.Sprintf("%d %s", n, why))
	}
	slices.Sort(texts)
	return fmt.Sprintf("0/%d nodes are available: %s.", p.Total, strings.Join(texts, ", "))
}

// Explain says for every node whether it would take pod, and if not, why:
// the same filters on the same state as the scheduler's own.
func Explain(pod *corev1.Pod, nodes []*corev1.Node, pods []*corev1.Pod) []string {
	s := NewSnapshot(nodes, pods)
	if len(s.Nodes) == 0 {
		return []string{"there are no nodes"}
	}
	p := NewPod(pod)
	var lines []string
	for _, n := range s.Nodes {
		if why := refuse(p, n, Plugins()); why != nil {
			lines = append(lines, fmt.Sprintf("node %s: no: %s (%s)", n.Name, strings.Join(why.Reasons, ", "), why.Plugin))
			continue
		}
		lines = append(lines, fmt.Sprintf("node %s: would take it", n.Name))
	}
	return lines
}
