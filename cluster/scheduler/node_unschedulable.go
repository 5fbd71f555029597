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
	return Plugin{
		Name:  "NodeUnschedulable",
		Wakes: NodeAdded | NodeTaints,
		Filter: func(pod *Pod, n *Node) []string {
			if !n.Spec.Unschedulable ||
				corev1helpers.TolerationsTolerateTaint(klog.Logger{}, pod.Spec.Tolerations, taint, false) {
				return nil
			}
			return []string{"node(s) were unschedulable"}
		},
	}
}
