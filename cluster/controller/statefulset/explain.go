package statefulset

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"sampan/cluster/controller/history"
	"sampan/cluster/controller/pods"
)

// Explain says what keeps a StatefulSet from being as wanted, and what is done
// next, a sentence each; none if it is as wanted. owned are the pods,
// revisions the revisions that it controls. Claims are not looked at.
func Explain(set *appsv1.StatefulSet, owned []*corev1.Pod, revisions []*appsv1.ControllerRevision, now time.Time) (why []string) {
	say := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	if set.DeletionTimestamp != nil {
		say("it is being deleted and makes no pods")
		return why
	}
	p := past{all: history.Sort(revisions), collisions: ptr.Deref(set.Status.CollisionCount, 0)}
	for _, r := range p.all {
		if r.Name == set.Status.UpdateRevision {
			p.update = r
		}
		if r.Name == set.Status.CurrentRevision {
			p.current = r
		}
	}
	if p.current == nil || p.update == nil || set.Status.ObservedGeneration < set.Generation {
		say("generation %d was not looked at yet, the latest that was is %d", set.Generation, set.Status.ObservedGeneration)
		return why
	}
	v, err := newView(set, p, owned, now)
	if err != nil {
		say("%v", err)
		return why
	}
	d := decide(&v)
	for _, s := range d.steps {
		switch s.do {
		case create:
			say("pod %s is missing and will be made", s.pod.Name)
		case remove:
			say("pod %s will be deleted", s.pod.Name)
		case mend, own, provide:
			say("pod %s or its claims will be mended", s.pod.Name)
		}
	}
	if sick := v.sick(); sick != nil && created(sick) && !d.together {
		say("pod %s is not available; those that come after it wait for it", sick.Name)
	}
	s, again := v.status()
	if n := int32(size(set)) - s.AvailableReplicas; n > 0 {
		say("available: %d of %s", s.AvailableReplicas, pods.Count(int32(size(set))))
	}
	if again > 0 {
		say("ready, but not yet for minReadySeconds=%d; the next one will be in %s", set.Spec.MinReadySeconds, again.Round(time.Second))
	}
	if n := s.Replicas - s.UpdatedReplicas; n > 0 {
		say("left of earlier templates: %s", pods.Count(n))
	}
	return why
}
