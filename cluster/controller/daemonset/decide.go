package daemonset

import (
	"cmp"
	"maps"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"sampan/cluster/controller/pods"
)

// most is how many pods one decision creates, and how many it removes
// (upstream's BurstReplicas). The rest follows when these are there.
const most = 250

// view is what the cache holds about one daemon set. Decisions are pure
// functions of it.
type view struct {
	ds       *appsv1.DaemonSet
	hash     string // of the present template's revision
	now      time.Time
	minReady time.Duration
	nodes    []*corev1.Node
	wants    map[string]verdict       // by node
	pods     map[string][]*corev1.Pod // by the node they are on or ask for, the first made first
	all      []*corev1.Pod            // with those that are over and go

	// wait says how long a failed pod of a node stays before it is replaced.
	wait func(node string) time.Duration

	again time.Duration // when to look again, 0 for never
}

func newView(ds *appsv1.DaemonSet, nodes []*corev1.Node, owned []*corev1.Pod, hash string, now time.Time, wait func(string) time.Duration) view {
	v := view{ds: ds, hash: hash, now: now, minReady: time.Duration(ds.Spec.MinReadySeconds) * time.Second, nodes: nodes,
		wants: map[string]verdict{}, pods: map[string][]*corev1.Pod{}, all: owned, wait: wait}
	f := newFitting(ds)
	for _, n := range nodes {
		v.wants[n.Name] = f.node(n)
	}
	for _, p := range owned {
		if pods.Over(p) && p.DeletionTimestamp != nil {
			continue // somebody else has to let it go
		}
		if node := target(p); node != "" {
			v.pods[node] = append(v.pods[node], p)
		}
	}
	for _, some := range v.pods {
		slices.SortFunc(some, older)
	}
	return v
}

// older orders pods that have a node first, and then by age.
func older(a, b *corev1.Pod) int {
	if (a.Spec.NodeName == "") != (b.Spec.NodeName == "") {
		if a.Spec.NodeName != "" {
			return -1
		}
		return 1
	}
	return cmp.Or(a.CreationTimestamp.Time.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

// decision is what has to happen to a daemon set's pods.
type decision struct {
	create []string // nodes that get a pod
	remove []*corev1.Pod
	over   []ended       // those of remove that have ended, of which users are told
	again  time.Duration // when to decide again, 0 for never
}

type ended struct {
	pod  *corev1.Pod
	node string
}

func (v *view) available(p *corev1.Pod) bool {
	ok, _ := pods.Available(p, v.minReady, v.now)
	return ok
}

// keep is what must happen so that each node that should has its pod, and no
// other has one. Templates do not matter, but for who stays where a node has
// two pods.
func (v *view) keep() (d decision) {
	for _, n := range v.nodes {
		want, have := v.wants[n.Name], v.pods[n.Name]
		switch {
		case want.run && len(have) == 0:
			d.create = append(d.create, n.Name)
		case want.stay:
			v.keepOn(n.Name, have, want.run, &d)
		default:
			d.remove = append(d.remove, staying(have)...)
		}
	}
	// A pod that asks for a node that is gone has nobody else to remove it.
	for _, node := range slices.Sorted(maps.Keys(v.pods)) {
		if _, known := v.wants[node]; known {
			continue
		}
		for _, p := range v.pods[node] {
			if p.Spec.NodeName == "" {
				d.remove = append(d.remove, p)
			}
		}
	}
	return d
}

// staying are the pods that nobody has deleted yet.
func staying(all []*corev1.Pod) []*corev1.Pod {
	return slices.DeleteFunc(slices.Clone(all), func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil })
}

// keepOn is keep for a node that has pods, or may not get one but keep it.
func (v *view) keepOn(node string, have []*corev1.Pod, run bool, d *decision) {
	var running []*corev1.Pod
	wait := v.wait(node)
	for _, p := range staying(have) {
		switch {
		case p.Status.Phase == corev1.PodSucceeded:
			d.remove, d.over = append(d.remove, p), append(d.over, ended{p, node})
		case p.Status.Phase == corev1.PodFailed && wait > 0:
			d.again = sooner(d.again, wait)
		case p.Status.Phase == corev1.PodFailed:
			d.remove, d.over = append(d.remove, p), append(d.over, ended{p, node})
			wait = firstWait // for the next one
		default:
			running = append(running, p)
		}
	}
	if !v.surges() {
		if len(running) > 1 {
			d.remove = append(d.remove, running[1:]...)
		}
		return
	}
	if len(running) <= 1 {
		if len(running) == 0 && run {
			d.create = append(d.create, node) // what leaves is not waited for
		}
		return
	}
	// Two may be there while the new one is not available and the old one is.
	var old, fresh *corev1.Pod
	for _, p := range running {
		switch isNew := p.Labels[appsv1.DefaultDaemonSetUniqueLabelKey] == v.hash; {
		case isNew && fresh == nil:
			fresh = p
		case !isNew && old == nil:
			old = p
		default:
			d.remove = append(d.remove, p)
		}
	}
	if fresh != nil && old != nil && (!pods.Ready(old) || v.available(fresh)) {
		d.remove = append(d.remove, old)
	}
}

// surges is true if a node may have two pods while it moves to a new template.
func (v *view) surges() bool {
	surge, _, err := v.bounds(1)
	return err == nil && surge > 0
}

// bounds are how many nodes of size may have a second pod, and how many may be
// without an available one, while pods move to a new template.
func (v *view) bounds(size int) (surge, unavailable int, err error) {
	s := &v.ds.Spec.UpdateStrategy
	if s.Type != appsv1.RollingUpdateDaemonSetStrategyType || s.RollingUpdate == nil {
		return 0, 0, nil
	}
	if r := s.RollingUpdate.MaxSurge; r != nil {
		if surge, err = intstr.GetScaledValueFromIntOrPercent(r, size, true); err != nil {
			return 0, 0, err
		}
	}
	if r := s.RollingUpdate.MaxUnavailable; r != nil {
		if unavailable, err = intstr.GetScaledValueFromIntOrPercent(r, size, true); err != nil {
			return 0, 0, err
		}
	}
	return surge, unavailable, nil
}

// sooner is the shorter of two times to wait, where 0 is for ever.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}
