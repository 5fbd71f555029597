package statefulset

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
)

func revisionOf(p *corev1.Pod) string { return p.Labels[appsv1.StatefulSetRevisionLabel] }

func (v *view) outdated(p *corev1.Pod) bool { return revisionOf(p) != v.past.update.Name }

// update removes pods of earlier templates, the highest number first, as long
// as no more than maxUnavailable do not serve. Who has been removed is made
// anew, of the latest template.
func (v *view) update(d *decision) {
	s := &v.set.Spec.UpdateStrategy
	if s.Type != appsv1.RollingUpdateStatefulSetStrategyType {
		return
	}
	from, most := 0, 1
	if s.RollingUpdate != nil {
		from = int(ptr.Deref(s.RollingUpdate.Partition, 0))
		most = maxUnavailable(s.RollingUpdate.MaxUnavailable, len(v.replicas))
	}
	missing := 0
	for _, p := range v.replicas {
		if !v.serves(p) {
			missing++
		}
	}
	if d.together {
		// Those that serve nobody anyhow go first, and cost nothing. One pass
		// from the top could spend all that is allowed on pods that serve.
		for i := len(v.replicas) - 1; i >= from; i-- {
			if p := v.replicas[i]; v.outdated(p) && created(p) && !v.available(p) && !leaving(p) {
				d.remove(p)
			}
		}
	}
	for i := len(v.replicas) - 1; i >= from && missing < most; i-- {
		p := v.replicas[i]
		if !v.outdated(p) || leaving(p) || d.together && !v.available(p) {
			continue
		}
		d.remove(p)
		missing++
	}
}

// remove removes a pod unless that is decided already, for it has ended.
func (d *decision) remove(p *corev1.Pod) {
	for _, s := range d.steps {
		if s.pod == p && s.do == remove {
			return
		}
	}
	d.add(remove, p)
}

// maxUnavailable is at least one, or nothing would ever move.
func maxUnavailable(n *intstr.IntOrString, replicas int) int {
	most, err := intstr.GetScaledValueFromIntOrPercent(intstr.ValueOrDefault(n, intstr.FromInt32(1)), replicas, false)
	if err != nil {
		return 1 // validation refuses what is neither a number nor a percentage
	}
	return max(most, 1)
}
