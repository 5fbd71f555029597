package statefulset

import (
	"cmp"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"sampan/cluster/controller/history"
	"sampan/cluster/controller/pods"
)

// view is what the cache holds about one stateful set. Decisions are pure
// functions of it.
type view struct {
	set      *appsv1.StatefulSet
	past     past
	now      time.Time
	minReady time.Duration
	all      []*corev1.Pod // owned, with those that have no number
	replicas []*corev1.Pod // by number from first on; those that are not there yet as they are to be made
	surplus  []*corev1.Pod // with other numbers, the highest first
	claims   map[string]*corev1.PersistentVolumeClaim
}

func newView(set *appsv1.StatefulSet, past past, owned []*corev1.Pod, now time.Time) (view, error) {
	v := view{set: set, past: past, now: now, minReady: time.Duration(set.Spec.MinReadySeconds) * time.Second,
		all: owned, replicas: make([]*corev1.Pod, size(set)), claims: map[string]*corev1.PersistentVolumeClaim{}}
	for _, p := range owned {
		switch n := ordinal(p); {
		case n < 0:
		case within(set, n):
			v.replicas[n-first(set)] = p
		default:
			v.surplus = append(v.surplus, p)
		}
	}
	slices.SortFunc(v.surplus, func(a, b *corev1.Pod) int { return cmp.Compare(ordinal(b), ordinal(a)) })
	for i, p := range v.replicas {
		if p != nil {
			continue
		}
		revision := past.update
		if v.stays(i) {
			revision = past.current
		}
		template, err := history.Template(revision)
		if err != nil {
			return view{}, err
		}
		v.replicas[i] = newPod(set, template, revision.Name, first(set)+i)
	}
	return v, nil
}

// stays is true for a replica that does not move to the latest template.
func (v *view) stays(index int) bool {
	s := &v.set.Spec.UpdateStrategy
	switch {
	case s.Type != appsv1.RollingUpdateStatefulSetStrategyType:
		return false
	case s.RollingUpdate == nil:
		return index < int(v.set.Status.CurrentReplicas)
	}
	return index < int(ptr.Deref(s.RollingUpdate.Partition, 0))
}

// claimNames are the claims of all pods that there are or should be.
func (v *view) claimNames() (names []string) {
	for _, p := range slices.Concat(v.replicas, v.surplus) {
		for i := range v.set.Spec.VolumeClaimTemplates {
			names = append(names, claimName(v.set, v.set.Spec.VolumeClaimTemplates[i].Name, ordinal(p)))
		}
	}
	return names
}

// claimsOf are the claims of a pod that are there.
func (v *view) claimsOf(p *corev1.Pod) (all []*corev1.PersistentVolumeClaim) {
	for i := range v.set.Spec.VolumeClaimTemplates {
		if c := v.claims[claimName(v.set, v.set.Spec.VolumeClaimTemplates[i].Name, ordinal(p))]; c != nil {
			all = append(all, c)
		}
	}
	return all
}

// decision is what happens next, in this order.
type decision struct {
	steps []step

	// together is true where no step has to wait for the one before.
	together bool
}

type step struct {
	do  verb
	pod *corev1.Pod
}

type verb int

const (
	create  verb = iota // the pod, with its claims
	provide             // make the claims that a pod misses
	mend                // give a pod its identity, volumes and claims back
	own                 // set the owners of a pod's claims right
	remove              // the pod
)

func (d *decision) add(do verb, p *corev1.Pod) { d.steps = append(d.steps, step{do, p}) }

func created(p *corev1.Pod) bool { return p.Status.Phase != "" }

func leaving(p *corev1.Pod) bool { return p.DeletionTimestamp != nil }

func (v *view) ready(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodRunning && pods.Ready(p)
}

func (v *view) available(p *corev1.Pod) bool {
	ok, _ := pods.Available(p, v.minReady, v.now)
	return ok
}

// serves is true for a pod that is available and stays.
func (v *view) serves(p *corev1.Pod) bool { return v.available(p) && !leaving(p) }

// decide is a pure function of what the cache holds.
//
// In order, one thing happens at a time: the first pod that is not there or
// not available is dealt with, and all that come after it wait; when all serve,
// surplus pods go, the highest number first; then pods move to the latest
// template. In parallel, all of that happens at once.
func decide(v *view) (d decision) {
	if v.set.DeletionTimestamp != nil {
		return d
	}
	d.together = v.set.Spec.PodManagementPolicy == appsv1.ParallelPodManagement
	for _, p := range v.replicas {
		if v.replica(&d, p) && !d.together {
			return d
		}
	}
	for _, p := range v.surplus {
		if !v.claimsOwned(p) {
			d.add(own, p)
		}
	}
	sick := v.sick()
	for _, p := range v.surplus {
		if v.condemn(&d, p, sick) && !d.together {
			return d
		}
	}
	v.update(&d)
	return d
}

// replica settles one pod that should be there. wait is true if those after it
// have to wait for it.
func (v *view) replica(d *decision, p *corev1.Pod) (wait bool) {
	switch {
	case pods.Over(p):
		// Whatever it ended with: a new one follows when this one is gone.
		if !leaving(p) {
			d.add(remove, p)
		}
		return true
	case !created(p):
		if !v.claimsStale(p) {
			d.add(create, p)
		}
		return true
	}
	if p.Status.Phase == corev1.PodPending && len(v.claimsOf(p)) < len(v.set.Spec.VolumeClaimTemplates) {
		d.add(provide, p)
	}
	if !d.together && (leaving(p) || !v.ready(p) || !v.available(p)) {
		return true
	}
	if !identified(p) || !mounted(v.set, p) || !v.claimsOwned(p) {
		d.add(mend, p)
	}
	return false
}

// sick is the first pod that does not serve, the replicas before the surplus.
// In order, it is the one pod that may be stopped without being ready.
func (v *view) sick() *corev1.Pod {
	for _, p := range v.replicas {
		if !v.serves(p) {
			return p
		}
	}
	for _, p := range slices.Backward(v.surplus) {
		if !v.serves(p) {
			return p
		}
	}
	return nil
}

// condemn settles one pod that should not be there.
func (v *view) condemn(d *decision, p, sick *corev1.Pod) (wait bool) {
	switch {
	case leaving(p):
		return true
	case !d.together && p != sick && (!v.ready(p) || !v.available(p)):
		return true
	}
	d.add(remove, p)
	return true
}

func (v *view) claimsOwned(p *corev1.Pod) bool {
	return !slices.ContainsFunc(v.claimsOf(p), func(c *corev1.PersistentVolumeClaim) bool { return !owned(c, v.set, p) })
}

// claimsStale is true for a pod that is to be made while a claim still goes
// with the pod that had its name before.
func (v *view) claimsStale(p *corev1.Pod) bool {
	policy := v.set.Spec.PersistentVolumeClaimRetentionPolicy
	return policy != nil && policy.WhenScaled == deletes &&
		slices.ContainsFunc(v.claimsOf(p), func(c *corev1.PersistentVolumeClaim) bool { return stale(c, p, podKind) })
}
