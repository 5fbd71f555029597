package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"
)

// taintToleration keeps pods off nodes with a taint that they do not tolerate,
// and prefers nodes with few PreferNoSchedule taints.
func taintToleration() Plugin {
	tainted := lasting("node(s) had untolerated taint(s)")
	return Plugin{
		Name:   "TaintToleration",
		Weight: 3,
		Wakes:  NodeAdded | NodeTaints,
		For: func(pod *Pod, _ *Snapshot) Rule {
			return Rule{
				Filter: func(n *Node) *Refusal {
					if pod.tolerates(n) {
						return nil
					}
					return tainted
				},
				Score: func(fit []*Node, scores []int64) {
					for i, n := range fit {
						scores[i] = 0
						for t := range n.Spec.Taints {
							taint := &n.Spec.Taints[t]
							if taint.Effect == corev1.TaintEffectPreferNoSchedule &&
								!corev1helpers.TolerationsTolerateTaint(klog.Logger{}, pod.Spec.Tolerations, taint, false) {
								scores[i]++
							}
						}
					}
					normalize(scores, true)
				},
			}
		},
	}
}

// repels is true for taints that keep pods off a node.
func repels(t *corev1.Taint) bool {
	return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
}

// tolerates says whether the pod stands all taints that keep pods off n.
func (p *Pod) tolerates(n *Node) bool {
	if len(n.Spec.Taints) == 0 {
		return true
	}
	_, bad := corev1helpers.FindMatchingUntoleratedTaint(klog.Logger{}, n.Spec.Taints, p.Spec.Tolerations, repels, false)
	return !bad
}
