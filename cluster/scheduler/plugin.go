package scheduler

import "slices"

// Plugin is one rule of placing. A plugin is a file beside this one, and a
// line in Plugins.
type Plugin struct {
	Name   string // upstream's
	Weight int64  // of its score

	// Wakes are the changes after which a pod that the plugin refused is worth
	// another try.
	Wakes Change

	// For is what the plugin has to say about pod, as things are in s. It is
	// asked once for each attempt; the zero Rule says nothing. It is pure, but
	// that s counts what it is asked to count.
	For func(pod *Pod, s *Snapshot) Rule
}

// Rule is what a plugin says about one pod. It counts until the snapshot
// changes.
type Rule struct {
	// Filter says why n can't take the pod; nil: it can. Nil for a plugin that
	// would take any node.
	Filter func(n *Node) *Refusal

	// Score says how well each of fit suits the pod, 0 to 100. Nil for a
	// plugin that likes all alike.
	Score func(fit []*Node, scores []int64)
}

// Refusal is why a node does not take a pod. Lasting is true if that stays so
// whichever pods leave the node.
type Refusal struct {
	Reasons []string
	Lasting bool
}

func refusal(reason string) *Refusal { return &Refusal{Reasons: []string{reason}} }

func lasting(reason string) *Refusal { return &Refusal{Reasons: []string{reason}, Lasting: true} }

// Change is a set of things that may happen to the cluster.
type Change uint16

const (
	NodeAdded      Change = 1 << iota
	NodeGone              // with it, a domain of pods may be gone
	NodeRoom              // its allocatable resources changed
	NodeLabels            // its labels changed
	NodeTaints            // its taints or spec.unschedulable changed
	PodGone               // a pod on a node ended or was deleted, or asks for less
	PodPlaced             // a pod is on a node now, or its labels changed
	SpaceLabels           // the labels of a namespace changed
	VolumesChanged        // claims or volumes came, changed or went
	nothing        Change = 0
)

// Plugins is the table of rules, in the order in which filters are asked:
// cheap ones and those that refuse most come first. Weights are upstream's.
func Plugins() []Plugin {
	return []Plugin{
		nodeUnschedulable(),
		nodeName(),
		taintToleration(),
		nodeAffinity(),
		nodePorts(),
		nodeResourcesFit(),
		volumeRestrictions(),
		volumeBinding(),
		volumeZone(),
		podTopologySpread(),
		interPodAffinity(),
		nodeResourcesBalanced(),
		imageLocality(),
	}
}

const most = 100 // the highest score

// each is a Score of single nodes.
func each(score func(n *Node) int64) func(fit []*Node, scores []int64) {
	return func(fit []*Node, scores []int64) {
		for i, n := range fit {
			scores[i] = score(n)
		}
	}
}

// normalize scales scores so that the highest becomes 100; reverse turns them
// round afterwards.
func normalize(scores []int64, reverse bool) {
	top := max(0, slices.Max(scores))
	for i, s := range scores {
		if top > 0 {
			s = s * most / top
		}
		if reverse {
			s = most - s
		}
		scores[i] = s
	}
}
