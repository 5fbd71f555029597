package daemonset

import (
	"maps"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// roll is the next step from old templates to the present one, within what the
// strategy allows. It relies on keep: whoever is removed here is replaced
// there, and failed pods are replaced there.
func (v *view) roll() (d decision) {
	if v.ds.Spec.UpdateStrategy.Type != appsv1.RollingUpdateDaemonSetStrategyType {
		return d
	}
	size := 0
	for _, n := range v.nodes {
		if v.wants[n.Name].run {
			size++
		}
	}
	surge, unavailable, err := v.bounds(size)
	if err != nil {
		return d // validation refuses what is neither a number nor a percentage
	}
	if size > 0 && surge == 0 && unavailable == 0 {
		unavailable = 1
	}
	if surge > 0 {
		return v.rollBySurge(surge, size)
	}
	return v.rollByRemoval(unavailable)
}

// rolling are the nodes that take part in a roll-out: those that should have a
// pod, and those that have one.
func (v *view) rolling() []string {
	names := map[string]bool{}
	for _, n := range v.nodes {
		if v.wants[n.Name].run {
			names[n.Name] = true
		}
	}
	for name := range v.pods {
		names[name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// rollByRemoval removes old pods, as long as few enough nodes are without an
// available one. An old pod that serves nobody anyhow is removed at once.
func (v *view) rollByRemoval(most int) (d decision) {
	missing := 0
	var serving []*corev1.Pod
	for _, node := range v.rolling() {
		fresh, old, ok := v.split(node)
		switch {
		case !ok, (fresh == nil) == (old == nil):
			missing++ // keep has to settle it
		case fresh != nil:
			if !v.available(fresh) {
				missing++
			}
		case !v.available(old):
			missing++
			d.remove = append(d.remove, old)
		default:
			serving = append(serving, old)
		}
	}
	d.remove = append(d.remove, serving[:min(max(most-missing, 0), len(serving))]...)
	return d
}

// rollBySurge gives nodes a new pod beside the old one, and removes the old
// one when the new one is available. size is on how many nodes there should be
// one.
func (v *view) rollBySurge(most, size int) (d decision) {
	surging, available := 0, 0
	var candidates []string
	var misplaced []*corev1.Pod
	for _, node := range v.rolling() {
		fresh, old, ok := v.split(node)
		if !ok {
			surging++ // keep has to settle it
			continue
		}
		if p := old; p != nil && v.available(p) || p == nil && fresh != nil && v.available(fresh) {
			available++
		}
		run := v.wants[node].run
		switch {
		case old == nil:
		case fresh != nil && v.available(fresh):
			d.remove = append(d.remove, old)
		case fresh != nil:
			surging++
		case !v.available(old) && !run:
			d.remove = append(d.remove, old)
		case !v.available(old):
			d.create = append(d.create, node)
		case !run:
			misplaced = append(misplaced, old)
		default:
			candidates = append(candidates, node)
		}
	}
	// Where the present template does not want a pod, the old one stays until
	// enough others serve.
	d.remove = append(d.remove, misplaced[:min(max(available-size, 0), len(misplaced))]...)
	d.create = append(d.create, candidates[:min(max(most-surging, 0), len(candidates))]...)
	return d
}

// split are the pods of a node that nobody has deleted, by template; ok is
// false if there are several of one.
func (v *view) split(node string) (fresh, old *corev1.Pod, ok bool) {
	for _, p := range staying(v.pods[node]) {
		which := &old
		if updated(v.ds, p, v.hash) {
			which = &fresh
		}
		if *which != nil {
			return nil, nil, false
		}
		*which = p
	}
	return fresh, old, true
}
