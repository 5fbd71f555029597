package scheduler

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Placement is what Place found: a node, or for every node why not.
type Placement struct {
	Node     string
	Rejected []Rejection // in the order of the snapshot; empty where Node is set by a sample
	Absent   int         // nodes that the pod does not name, where it names some; not in Rejected
	Total    int         // nodes in the snapshot
	Missing  string      // what the pod needs that is on no node; "" for nothing
	Remark   string      // what making room came to
}

// Rejection says why one node does not take the pod. Plugin is the first that
// refused.
type Rejection struct {
	Node   string
	Plugin string
	*Refusal
}

// rule is what one plugin says about one pod.
type rule struct {
	*Plugin
	Rule
}

// rulesFor asks every plugin what it has to say about pod.
func rulesFor(pod *Pod, s *Snapshot, plugins []Plugin) []rule {
	rules := make([]rule, 0, len(plugins))
	for i := range plugins {
		if r := plugins[i].For(pod, s); r.Filter != nil || r.Score != nil {
			rules = append(rules, rule{&plugins[i], r})
		}
	}
	return rules
}

// Place finds the best node for pod. It is a pure function of its arguments,
// but for which of several equally good nodes it takes: r decides.
//
// from is where to start among the nodes: of many nodes only a share is
// looked at, and the next call should go on behind it (see Sample).
func Place(pod *Pod, s *Snapshot, plugins []Plugin, from int, r *rand.Rand) (Placement, int) {
	result := Placement{Total: len(s.Nodes)}
	if pod.Volumes != nil && pod.Volumes.Missing != "" {
		result.Missing, result.Absent = pod.Volumes.Missing, len(s.Nodes)
		return result, from
	}
	rules := rulesFor(pod, s, plugins)
	if name := s.Booked(pod.UID); name != "" {
		// Room was made for it there.
		if n := s.byName[name]; n.Node != nil && s.refuse(pod, n, plugins, rules) == nil {
			result.Node = name
			return result, from
		}
	}
	nodes := s.Nodes
	if pod.names != nil {
		nodes = s.named(pod.names)
		result.Absent = len(s.Nodes) - len(nodes)
	}
	want := Sample(len(nodes))
	fit := make([]*Node, 0, want)
	looked := 0
	for ; looked < len(nodes) && len(fit) < want; looked++ {
		n := nodes[(from+looked)%len(nodes)]
		if why := s.refuse(pod, n, plugins, rules); why != nil {
			result.Rejected = append(result.Rejected, *why)
			continue
		}
		fit = append(fit, n)
	}
	if len(fit) > 0 {
		result.Node = best(fit, rules, r).Name
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

// refuse says why n does not take pod, nil if it does. A pod has to find room
// beside the more important pods for which room is kept on n, and, since these
// may never come, without them.
func (s *Snapshot) refuse(pod *Pod, n *Node, plugins []Plugin, rules []rule) *Rejection {
	if len(n.booked) == 0 {
		return refuse(n, rules)
	}
	var beside []*Pod
	for uid, other := range n.booked {
		if uid != pod.UID && other.priority() >= pod.priority() && s.where[uid] == "" {
			beside = append(beside, other)
		}
	}
	if len(beside) == 0 {
		return refuse(n, rules)
	}
	for _, other := range beside {
		s.SetPod(other, n.Name)
	}
	why := refuse(n, rulesFor(pod, s, plugins))
	for _, other := range beside {
		s.DropPod(other.UID)
	}
	if why != nil {
		return why
	}
	return refuse(n, rules) // which are right again: the snapshot is as it was
}

// refuse asks every filter until one refuses, and returns nil if none does.
func refuse(n *Node, rules []rule) *Rejection {
	for i := range rules {
		if rules[i].Filter == nil {
			continue
		}
		if why := rules[i].Filter(n); why != nil {
			return &Rejection{Node: n.Name, Plugin: rules[i].Name, Refusal: why}
		}
	}
	return nil
}

func best(fit []*Node, rules []rule, r *rand.Rand) *Node {
	if len(fit) == 1 {
		return fit[0]
	}
	total := make([]int64, len(fit))
	scores := make([]int64, len(fit))
	for i := range rules {
		if rules[i].Score == nil {
			continue
		}
		rules[i].Score(fit, scores)
		for n := range scores {
			total[n] += rules[i].Weight * scores[n]
		}
	}
	top := slices.Max(total)
	winners := 0
	var chosen *Node
	for i, n := range fit {
		if total[i] == top {
			if winners++; r.IntN(winners) == 0 {
				chosen = n
			}
		}
	}
	return chosen
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
	switch {
	case p.Missing != "":
	case p.Absent > 0:
		count["node(s) didn't satisfy plugin(s) [NodeAffinity]"] = p.Absent
	}
	why := histogram(count)
	if p.Missing != "" {
		why = p.Missing
	}
	message := fmt.Sprintf("0/%d nodes are available: %s.", p.Total, why)
	if p.Remark != "" {
		message += " preemption: " + p.Remark
	}
	return message
}

// histogram is how often each text is there, sorted.
func histogram(count map[string]int) string {
	var texts []string
	for _, why := range slices.Sorted(maps.Keys(count)) {
		texts = append(texts, fmt.Sprintf("%d %s", count[why], why))
	}
	slices.Sort(texts)
	return strings.Join(texts, ", ")
}

// Explain says for every node whether it would take p, and if not, why:
// the same filters on the same state as the scheduler's own.
func Explain(p *Pod, nodes []*corev1.Node, pods []*corev1.Pod, spaces []*corev1.Namespace) []string {
	s := NewSnapshot(nodes, pods)
	if len(s.Nodes) == 0 {
		return []string{"there are no nodes"}
	}
	if p.Volumes != nil && p.Volumes.Missing != "" {
		return []string{p.Volumes.Missing}
	}
	for _, ns := range spaces {
		s.SetSpace(ns.Name, ns.Labels)
	}
	plugins := Plugins()
	rules := rulesFor(p, s, plugins)
	var lines []string
	for _, n := range s.Nodes {
		if why := refuse(n, rules); why != nil {
			lines = append(lines, fmt.Sprintf("node %s: no: %s (%s)", n.Name, strings.Join(why.Reasons, ", "), why.Plugin))
			continue
		}
		lines = append(lines, fmt.Sprintf("node %s: would take it", n.Name))
	}
	return lines
}
