package scheduler

// Plugin is one rule of placing. A plugin is a file beside this one, and a
// line in Plugins. Its functions are pure.
type Plugin struct {
	Name string // upstream's

	// Filter says why n can't take pod; empty: it can.
	Filter func(pod *Pod, n *Node) (reasons []string)

	// Score says how well n suits pod, 0 to 100 after Normalize, which may be
	// nil.
	Score     func(pod *Pod, n *Node) int64
	Normalize func(scores []int64)
	Weight    int64

	// Wakes are the changes after which a pod that Filter refused is worth
	// another try.
	Wakes Change
}

// Change is a set of things that may happen to the cluster.
type Change uint8

const (
	NodeAdded  Change = 1 << iota
	NodeRoom          // its allocatable resources changed
	NodeLabels        // its labels changed
	NodeTaints        // its taints or spec.unschedulable changed
	PodGone           // a pod on a node ended or was deleted, or asks for less
	nothing    Change = 0
)

// Plugins is the table of rules, in the order in which filters are asked:
// cheap ones and those that refuse most come first.
func Plugins() []Plugin {
	return []Plugin{
		nodeUnschedulable(),
		nodeName(),
		taintToleration(),
		nodeAffinity(),
		nodePorts(),
		nodeResourcesFit(),
		nodeResourcesBalanced(),
	}
}

const most = 100 // the highest score

// normalize scales scores so that the highest becomes 100; reverse turns them
// round afterwards.
func normalize(reverse bool) func(scores []int64) {
	return func(scores []int64) {
		var top int64
		for _, s := range scores {
			top = max(top, s)
		}
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
}
