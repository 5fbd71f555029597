package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"
)

// nodeUnschedulable keeps pods off nodes that are cordoned, but for those that
// tolerate the taint of the same name.
func nodeUnschedulable() Plugin {
	taint := &corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}
	cordoned := lasting("node(s) were unschedulable")
	return Plugin{
		Name:  "NodeUnschedulable",
		Wakes: NodeAdded | NodeTaints,
		For: func(pod *Pod, _ *Snapshot) Rule {
			return Rule{Filter: func(n *Node) *Refusal {
				if !n.Spec.Unschedulable ||
					corev1helpers.TolerationsTolerateTaint(klog.Logger{}, pod.Spec.Tolerations, taint, false) {
					return nil
				}
				return cordoned
			}}
		},
	}
}
