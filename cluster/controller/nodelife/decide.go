package nodelife

import (
	"cmp"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// expire returns the conditions of a node of which nothing was heard since
// seen, for longer than grace: what only the node can know is unknown then.
// changed is false if they stay; again is when to look next, 0 for never.
func expire(node *corev1.Node, seen time.Time, grace time.Duration, now time.Time) (conditions []corev1.NodeCondition, changed bool, again time.Duration) {
	if left := seen.Add(grace).Sub(now); left > 0 {
		return node.Status.Conditions, false, left
	}
	conditions = slices.Clone(node.Status.Conditions)
	at := metav1.NewTime(now.Truncate(time.Second))
	// NetworkUnavailable is not the node's to say.
	for _, t := range []corev1.NodeConditionType{corev1.NodeReady, corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		i := slices.IndexFunc(conditions, func(c corev1.NodeCondition) bool { return c.Type == t })
		switch {
		case i < 0:
			conditions = append(conditions, corev1.NodeCondition{Type: t, Status: corev1.ConditionUnknown,
				Reason: "NodeStatusNeverUpdated", Message: "Kubelet never posted node status.",
				LastHeartbeatTime: node.CreationTimestamp, LastTransitionTime: at})
		case conditions[i].Status != corev1.ConditionUnknown:
			c := &conditions[i]
			c.Status, c.Reason, c.Message = corev1.ConditionUnknown, "NodeStatusUnknown", "Kubelet stopped posting node status."
			c.LastTransitionTime = at
		default:
			continue
		}
		changed = true
	}
	return conditions, changed, 0
}

// readiness is the status of the node's condition Ready, empty if it has none.
func readiness(conditions []corev1.NodeCondition) corev1.ConditionStatus {
	for _, c := range conditions {
		if c.Type == corev1.NodeReady {
			return c.Status
		}
	}
	return ""
}

// conditionTaint is a condition that, in a status, keeps new pods away.
type conditionTaint struct {
	condition corev1.NodeConditionType
	status    corev1.ConditionStatus
	key       string
}

var conditionTaints = []conditionTaint{
	{corev1.NodeReady, corev1.ConditionFalse, corev1.TaintNodeNotReady},
	{corev1.NodeReady, corev1.ConditionUnknown, corev1.TaintNodeUnreachable},
	{corev1.NodeMemoryPressure, corev1.ConditionTrue, corev1.TaintNodeMemoryPressure},
	{corev1.NodeDiskPressure, corev1.ConditionTrue, corev1.TaintNodeDiskPressure},
	{corev1.NodeNetworkUnavailable, corev1.ConditionTrue, corev1.TaintNodeNetworkUnavailable},
	{corev1.NodePIDPressure, corev1.ConditionTrue, corev1.TaintNodePIDPressure},
}

// taint returns the taints a node should have by its conditions, beside those
// that others gave it: NoSchedule at once, NoExecute, which drives pods away,
// as far as allowed. changed is false if it has them; drives is true if pods
// will be driven away that were not before.
func taint(node *corev1.Node, allowed eviction, now time.Time) (taints []corev1.Taint, changed, drives bool) {
	want := map[corev1.Taint]bool{} // by key and effect
	for _, c := range node.Status.Conditions {
		for _, t := range conditionTaints {
			if c.Type == t.condition && c.Status == t.status {
				want[corev1.Taint{Key: t.key, Effect: corev1.TaintEffectNoSchedule}] = true
			}
		}
	}
	if node.Spec.Unschedulable {
		want[corev1.Taint{Key: corev1.TaintNodeUnschedulable, Effect: corev1.TaintEffectNoSchedule}] = true
	}
	driven := slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool {
		return t.Effect == corev1.TaintEffectNoExecute && ours(t)
	})
	key := map[corev1.ConditionStatus]string{
		corev1.ConditionFalse: corev1.TaintNodeNotReady, corev1.ConditionUnknown: corev1.TaintNodeUnreachable,
	}[readiness(node.Status.Conditions)]
	if key != "" && (allowed == evictNow || allowed == evictNoMore && driven) {
		want[corev1.Taint{Key: key, Effect: corev1.TaintEffectNoExecute}] = true
		drives = !driven
	}
	for _, t := range node.Spec.Taints {
		k := corev1.Taint{Key: t.Key, Effect: t.Effect}
		if ours(t) && !want[k] {
			changed = true
			continue
		}
		delete(want, k)
		taints = append(taints, t)
	}
	at := metav1.NewTime(now.Truncate(time.Second))
	missing := slices.SortedFunc(maps.Keys(want), func(a, b corev1.Taint) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.Effect, b.Effect))
	})
	for _, k := range missing {
		k.TimeAdded = &at
		taints, changed = append(taints, k), true
	}
	return taints, changed, drives
}

// ours says whether a taint is one that follows from a node's state.
func ours(t corev1.Taint) bool {
	switch t.Effect {
	case corev1.TaintEffectNoSchedule:
		return t.Key == corev1.TaintNodeUnschedulable ||
			slices.ContainsFunc(conditionTaints, func(c conditionTaint) bool { return c.key == t.Key })
	case corev1.TaintEffectNoExecute:
		return t.Key == corev1.TaintNodeNotReady || t.Key == corev1.TaintNodeUnreachable
	}
	return false
}
