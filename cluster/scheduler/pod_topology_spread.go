package scheduler

import (
	"math"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// constraint is one of a pod's topologySpreadConstraints (KEP-895, KEP-3022,
// KEP-3094, KEP-3243).
type constraint struct {
	key        string
	selector   labels.Selector
	skew       int64
	leastOf    int // minDomains
	hard       bool
	anyNode    bool // nodes count that the pod's node affinity does not ask for
	noTaints   bool // nodes do not count whose taints the pod does not tolerate
	namespaces []string
}

func constraintsOf(p *corev1.Pod) (all []constraint) {
	for i := range p.Spec.TopologySpreadConstraints {
		c := &p.Spec.TopologySpreadConstraints[i]
		made := constraint{key: c.TopologyKey, skew: int64(c.MaxSkew), leastOf: 1, namespaces: []string{p.Namespace},
			selector: narrowed(c.LabelSelector, p.Labels, c.MatchLabelKeys, nil),
			hard:     c.WhenUnsatisfiable == corev1.DoNotSchedule,
			anyNode:  c.NodeAffinityPolicy != nil && *c.NodeAffinityPolicy == corev1.NodeInclusionPolicyIgnore,
			noTaints: c.NodeTaintsPolicy != nil && *c.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor}
		if c.MinDomains != nil {
			made.leastOf = int(*c.MinDomains)
		}
		all = append(all, made)
	}
	return all
}

// standardSpread is how pods of a service or a controller are spread that do
// not say so themselves: upstream's system default.
func standardSpread(p *Pod) []constraint {
	ns := []string{p.Namespace}
	return []constraint{
		{key: corev1.LabelHostname, selector: p.Kin, skew: 3, namespaces: ns},
		{key: corev1.LabelTopologyZone, selector: p.Kin, skew: 5, namespaces: ns},
	}
}

// podTopologySpread keeps the numbers of like pods in the domains of a label
// of nodes within some distance of each other.
func podTopologySpread() Plugin {
	unlike := refusal("node(s) didn't match pod topology spread constraints")
	outside := lasting("node(s) didn't match pod topology spread constraints (missing required label)")
	return Plugin{
		Name:   "PodTopologySpread",
		Weight: 2,
		Wakes:  NodeAdded | NodeGone | NodeLabels | NodeTaints | PodGone | PodPlaced,
		For: func(pod *Pod, s *Snapshot) (r Rule) {
			var hard, soft []constraint
			for _, c := range pod.spread {
				if c.hard {
					hard = append(hard, c)
				} else {
					soft = append(soft, c)
				}
			}
			all := true // nodes without one of the labels are left out
			if len(pod.spread) == 0 && pod.Kin != nil {
				soft, all = standardSpread(pod), false
			}
			if len(hard) > 0 {
				r.Filter = keepWithin(pod, s, hard, unlike, outside)
			}
			if len(soft) > 0 {
				r.Score = func(fit []*Node, scores []int64) { scoreSpread(pod, s, soft, all, fit, scores) }
			}
			return r
		},
	}
}

// spreadOver is how many like pods are in each domain of one constraint.
type spreadOver struct {
	constraint
	group   *group
	counts  map[string]int64
	domains int
	least   int64 // in any domain
	self    int64 // 1 if the pod is one of them itself
}

func keepWithin(pod *Pod, s *Snapshot, hard []constraint, unlike, outside *Refusal) func(n *Node) *Refusal {
	over := make([]spreadOver, len(hard))
	for i, c := range hard {
		o := &over[i]
		o.constraint = c
		o.group = s.group(true, term{selector: c.selector, namespaces: c.namespaces})
		if c.selector.Matches(labels.Set(pod.Labels)) {
			o.self = 1
		}
		o.count(pod, s, hard)
	}
	return func(n *Node) *Refusal {
		for i := range over {
			o := &over[i]
			value, ok := n.Labels[o.key]
			if !ok {
				return outside
			}
			if o.counts[value]+o.self-o.least > o.skew {
				return unlike
			}
		}
		return nil
	}
}

// count sums up by domain. Where all nodes with the label count, the group's
// own sums are it.
func (o *spreadOver) count(pod *Pod, s *Snapshot, beside []constraint) {
	domains := s.domains(o.key)
	if len(beside) == 1 && (!pod.choosy || o.anyNode) && !o.noTaints {
		o.counts, o.domains = o.group.by(o.key, s.Nodes), len(domains)
		o.least = math.MaxInt64
		if len(o.counts) < len(domains) {
			o.least = 0
		} else {
			for _, count := range o.counts {
				o.least = min(o.least, count)
			}
		}
	} else {
		o.counts = map[string]int64{}
		for _, n := range s.Nodes {
			if hasAll(n, beside) && o.includes(pod, n) {
				o.counts[n.Labels[o.key]] += o.group.at(n)
			}
		}
		o.domains, o.least = len(o.counts), math.MaxInt64
		for _, count := range o.counts {
			o.least = min(o.least, count)
		}
	}
	if o.domains < o.leastOf {
		o.least = 0
	}
}

// includes says whether the pods on n count for c.
func (c *constraint) includes(pod *Pod, n *Node) bool {
	return (c.anyNode || pod.wants(n)) && (!c.noTaints || pod.tolerates(n))
}

func hasAll(n *Node, all []constraint) bool {
	for i := range all {
		if _, ok := n.Labels[all[i].key]; !ok {
			return false
		}
	}
	return true
}

// scoreSpread likes nodes in domains with few like pods. A domain weighs more
// the more domains there are; upstream's formula.
func scoreSpread(pod *Pod, s *Snapshot, soft []constraint, all bool, fit []*Node, scores []int64) {
	const left = math.MinInt64 // the score of a node that is left out
	sums := make([]float64, len(fit))
	for i := range soft {
		c := &soft[i]
		g := s.group(true, term{selector: c.selector, namespaces: c.namespaces})
		in, domains := domainCounts(pod, s, c, g, soft, all, fit)
		weight := math.Log(float64(domains + 2))
		for i, n := range fit {
			if value, ok := n.Labels[c.key]; ok && (!all || hasAll(n, soft)) {
				count := g.at(n)
				if c.key != corev1.LabelHostname {
					count = in[value]
				}
				sums[i] += float64(count)*weight + float64(c.skew-1)
			}
		}
	}
	lowest, highest := int64(math.MaxInt64), int64(0)
	for i, n := range fit {
		scores[i] = left
		if !all || hasAll(n, soft) {
			scores[i] = int64(math.Round(sums[i]))
			lowest, highest = min(lowest, scores[i]), max(highest, scores[i])
		}
	}
	for i, score := range scores {
		switch {
		case score == left:
			scores[i] = 0
		case highest == 0:
			scores[i] = most
		default:
			scores[i] = most * (highest + lowest - score) / highest
		}
	}
}

// domainCounts is how many pods of g are in each domain of c that has a node
// in fit, and how many such domains there are.
func domainCounts(pod *Pod, s *Snapshot, c *constraint, g *group, soft []constraint, all bool, fit []*Node) (map[string]int64, int) {
	if c.key == corev1.LabelHostname { // each node is one, and counts for itself
		domains := len(fit)
		if all {
			for _, n := range fit {
				if !hasAll(n, soft) {
					domains--
				}
			}
		}
		return nil, domains
	}
	seen := map[string]bool{}
	for _, n := range fit {
		if !all || hasAll(n, soft) {
			seen[n.Labels[c.key]] = true
		}
	}
	if (!all || len(soft) == 1) && (!pod.choosy || c.anyNode) && !c.noTaints {
		return g.by(c.key, s.Nodes), len(seen)
	}
	counts := map[string]int64{}
	for _, n := range s.Nodes {
		if value, ok := n.Labels[c.key]; ok && seen[value] && g.at(n) != 0 && (!all || hasAll(n, soft)) && c.includes(pod, n) {
			counts[value] += g.at(n)
		}
	}
	return counts, len(seen)
}
