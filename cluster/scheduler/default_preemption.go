package scheduler

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Preemption is the node on which room is made for a pod, and the pods that
// have to leave it, the most important first.
type Preemption struct {
	Node    string
	Victims []*Pod

	violations int // victims that a disruption budget would keep
}

const noVictims = "No preemption victims found for incoming pod"

// Preempt finds the node on which room is made best for a pod that found none
// (upstream's DefaultPreemption). remark says what came of it; with an empty
// Node nothing is to be done. The snapshot is as before when it returns.
//
// begin is where to start among the nodes: of many only a share is tried.
func Preempt(pod *Pod, found Placement, s *Snapshot, plugins []Plugin, budgets []*policyv1.PodDisruptionBudget, begin int, now time.Time) (best Preemption, remark string) {
	if p := pod.Spec.PreemptionPolicy; p != nil && *p == corev1.PreemptNever {
		return best, "not eligible due to preemptionPolicy=Never."
	}
	if s.making(pod, found) {
		return best, "not eligible due to a terminating pod on the nominated node."
	}
	var nodes []string
	for _, r := range found.Rejected {
		if !r.Lasting {
			nodes = append(nodes, r.Node)
		}
	}
	hopeless := found.Total - len(nodes)
	enough := min(len(nodes), max(100, len(nodes)/10)) // upstream's shares
	reasons := map[string]int{}
	if !s.hasLesser(pod) { // there is no need to look at each node
		if len(nodes) > 0 {
			reasons[noVictims] = len(nodes)
		}
		nodes, begin = nil, 0
	}
	var candidates []Preemption
	harmless := false
	for i := range nodes {
		n := s.byName[nodes[(begin+i)%len(nodes)]]
		c, why := s.victims(pod, n, plugins, budgets, now)
		for _, reason := range why {
			reasons[reason]++
		}
		if len(c.Victims) == 0 {
			continue
		}
		candidates = append(candidates, c)
		harmless = harmless || c.violations == 0
		if harmless && len(candidates) >= enough {
			break
		}
	}
	if len(candidates) == 0 {
		if hopeless > 0 {
			reasons["Preemption is not helpful for scheduling"] += hopeless
		}
		return best, fmt.Sprintf("0/%d nodes are available: %s.", found.Total, histogram(reasons))
	}
	best = slices.MinFunc(candidates, func(a, b Preemption) int { return a.compare(&b, now) })
	return best, fmt.Sprintf("found a potential placement for pod on node %v, preempting %d victims", best.Node, len(best.Victims))
}

// making is true while pods leave the node on which room is made for pod.
func (s *Snapshot) making(pod *Pod, found Placement) bool {
	n := s.byName[s.Booked(pod.UID)]
	if n == nil || n.Node == nil || slices.ContainsFunc(found.Rejected, func(r Rejection) bool { return r.Node == n.Name && r.Lasting }) {
		return false
	}
	for _, p := range n.pods {
		if p.priority() < pod.priority() && leavesForAnother(p.Pod) {
			return true
		}
	}
	return false
}

// hasLesser says whether any pod on a node is less important than pod.
func (s *Snapshot) hasLesser(pod *Pod) bool {
	for rank := range s.ranks {
		if rank < pod.priority() {
			return true
		}
	}
	return false
}

func leavesForAnother(p *corev1.Pod) bool {
	return p.DeletionTimestamp != nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue && c.Reason == corev1.PodReasonPreemptionByScheduler
	})
}

// victims finds the fewest and least important pods of n without which it
// takes pod; why says why there are none.
func (s *Snapshot) victims(pod *Pod, n *Node, plugins []Plugin, budgets []*policyv1.PodDisruptionBudget, now time.Time) (c Preemption, why []string) {
	var lesser []*Pod
	for _, p := range n.pods {
		if p.priority() < pod.priority() {
			lesser = append(lesser, p)
		}
	}
	if len(lesser) == 0 {
		return c, []string{noVictims}
	}
	byImportance := func(a, b *Pod) int {
		return cmp.Or(cmp.Compare(b.priority(), a.priority()), a.begun(now).Compare(b.begun(now)), cmp.Compare(a.UID, b.UID))
	}
	slices.SortFunc(lesser, byImportance)
	for _, p := range lesser {
		s.DropPod(p.UID)
	}
	defer func() {
		for _, p := range lesser {
			s.SetPod(p, n.Name)
		}
	}()
	fits := func() *Rejection { return s.refuse(pod, n, plugins, rulesFor(pod, s, plugins)) }
	if r := fits(); r != nil {
		return c, r.Reasons
	}
	// The most important are let back first, and before them those that a
	// budget keeps.
	c.Node = n.Name
	kept, others := protected(lesser, budgets)
	for i, list := range [][]*Pod{kept, others} {
		for _, p := range list {
			s.SetPod(p, n.Name)
			if fits() == nil {
				continue
			}
			s.DropPod(p.UID)
			c.Victims = append(c.Victims, p)
			if i == 0 {
				c.violations++
			}
		}
	}
	slices.SortFunc(c.Victims, byImportance)
	return c, nil
}

// protected are those of pods, important first, whose end would break a
// budget, and the others.
func protected(pods []*Pod, budgets []*policyv1.PodDisruptionBudget) (kept, others []*Pod) {
	allowed := make([]int32, len(budgets))
	selectors := make([]labels.Selector, len(budgets))
	for i, b := range budgets {
		allowed[i] = b.Status.DisruptionsAllowed
		selectors[i] = labels.Nothing()
		if s, err := metav1.LabelSelectorAsSelector(b.Spec.Selector); err == nil {
			selectors[i] = s
		}
	}
	for _, p := range pods {
		breaks := false
		for i, b := range budgets {
			if b.Namespace != p.Namespace || len(p.Labels) == 0 || selectors[i].Empty() || !selectors[i].Matches(labels.Set(p.Labels)) {
				continue
			}
			if _, going := b.Status.DisruptedPods[p.Name]; going {
				continue // it is counted already
			}
			allowed[i]--
			breaks = breaks || allowed[i] < 0
		}
		if breaks {
			kept = append(kept, p)
		} else {
			others = append(others, p)
		}
	}
	return kept, others
}

// compare orders candidates, the best first: few broken budgets, a highest
// victim of low priority, a low sum of priorities, few victims, and those that
// have run for the shortest time.
func (c *Preemption) compare(b *Preemption, now time.Time) int {
	sum := func(c *Preemption) (sum int64) {
		for _, p := range c.Victims {
			sum += int64(p.priority()) + math.MaxInt32 + 1 // no pod makes it less
		}
		return sum
	}
	return cmp.Or(
		cmp.Compare(c.violations, b.violations),
		cmp.Compare(c.Victims[0].priority(), b.Victims[0].priority()),
		cmp.Compare(sum(c), sum(b)),
		cmp.Compare(len(c.Victims), len(b.Victims)),
		b.earliest(now).Compare(c.earliest(now)),
	)
}

// earliest is when the first of the most important victims began.
func (c *Preemption) earliest(now time.Time) time.Time {
	first := c.Victims[0].begun(now)
	for _, p := range c.Victims {
		if p.priority() == c.Victims[0].priority() && p.begun(now).Before(first) {
			first = p.begun(now)
		}
	}
	return first
}
