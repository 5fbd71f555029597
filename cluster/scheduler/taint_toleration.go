package scheduler

import (
	corev1 "k8s.io/api/core/v1"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/klog/v2"
)

// taintToleration keeps pods off nodes with a taint that they do not tolerate,
// and prefers nodes with few PreferNoSchedule taints.
func taintToleration() Plugin {
	repels := func(t *corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoSchedule || t.Effect == corev1.TaintEffectNoExecute
	}
	return Plugin{
		Name:  "TaintToleration",
		Wakes: NodeAdded | NodeTaints,
		Filter: func(pod *Pod, n *Node) []string {
			if len(n.Spec.Taints) == 0 {
				return nil
			}
			_, bad := corev1helpers.FindMatchingUntoleratedTaint(
				klog.Logger{}, n.Spec.Taints, pod.Spec.Tolerations, repels, false)
			if !bad {
				return nil
			}
			return []string{"node(s) had untolerated taint(s)"}
		},
		Weight:    3,
		Normalize: normalize(true),
		Score: func(pod *Pod, n *Node) (count int64) {
			for i := range n.Spec.Taints {
				t := &n.Spec.Taints[i]
				if t.Effect == corev1.TaintEffectPreferNoSchedule &&
					!corev1helpers.TolerationsTolerateTaint(klog.Logger{}, pod.Spec.Tolerations, t, false) {
					count++
				}
			}
			return count
		},
	}
}
