package statefulset

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/controller/pods"
)

// status is what a stateful set with these pods says of itself. Conditions
// stay as they are. again is when a pod that is ready becomes available, 0 for
// never.
func (v *view) status() (s appsv1.StatefulSetStatus, again time.Duration) {
	s = appsv1.StatefulSetStatus{ObservedGeneration: v.set.Generation, Conditions: v.set.Status.Conditions,
		CurrentRevision: v.past.current.Name, UpdateRevision: v.past.update.Name, CollisionCount: new(v.past.collisions)}
	for _, p := range v.all {
		v.count(&s, p)
		if ok, in := pods.Available(p, v.minReady, v.now); !ok && in > 0 && (again == 0 || in < again) {
			again = in
		}
	}
	// All have moved: what was the update is what the set has now.
	if n := int32(size(v.set)); s.UpdatedReplicas == n && s.ReadyReplicas == n && s.Replicas == n {
		s.CurrentReplicas, s.CurrentRevision = s.UpdatedReplicas, s.UpdateRevision
	}
	return s, again
}

func (v *view) count(s *appsv1.StatefulSetStatus, p *corev1.Pod) {
	if !created(p) {
		return
	}
	s.Replicas++
	if v.ready(p) {
		s.ReadyReplicas++
		if v.available(p) {
			s.AvailableReplicas++
		}
	}
	if leaving(p) {
		return
	}
	if revisionOf(p) == v.past.current.Name {
		s.CurrentReplicas++
	}
	if revisionOf(p) == v.past.update.Name {
		s.UpdatedReplicas++
	}
}
