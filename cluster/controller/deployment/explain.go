package deployment

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"sampan/cluster/controller/pods"
)

// Explain says what keeps a Deployment from being as wanted, and what is done
// next, a sentence each; none if it is as wanted. sets are the replica sets
// that it controls; running has, for Recreate, the number of pods of each that
// have not ended.
func Explain(d *appsv1.Deployment, sets []*appsv1.ReplicaSet, running map[types.UID]int, now time.Time) (why []string) {
	say := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	if d.DeletionTimestamp != nil {
		say("it is being deleted")
		return why
	}
	size := ptr.Deref(d.Spec.Replicas, 1)
	plan := decide(d, sets, running, now)
	if r := plan.rollback; r != nil {
		say("it is to go back to an earlier revision: %s", r.detail)
		return why
	}
	s := &plan.status
	if d.Spec.Paused {
		say("it is paused: changes of the template wait for `kubectl rollout resume`")
	}
	if d.Status.ObservedGeneration < d.Generation {
		say("generation %d was not looked at yet, the latest that was is %d", d.Generation, d.Status.ObservedGeneration)
	}
	if plan.create != nil {
		say("replica set %s for the present template will be made, with %s", plan.create.Name, pods.Count(*plan.create.Spec.Replicas))
	}
	for _, u := range plan.update {
		if from, to := ptr.Deref(u.from.Spec.Replicas, 1), *u.to.Spec.Replicas; from != to {
			say("replica set %s will be scaled from %d to %d", u.from.Name, from, to)
		}
	}
	if n := size - s.UpdatedReplicas; n > 0 {
		say("with the present template: %d of %s", s.UpdatedReplicas, pods.Count(size))
	}
	if n := s.Replicas - s.UpdatedReplicas; n > 0 {
		say("left of earlier templates: %s", pods.Count(n))
	}
	if s.AvailableReplicas < size {
		surge, missing := bounds(d)
		say("available: %d of %s; at least %d have to be, and at most %d may exist", s.AvailableReplicas, pods.Count(size), size-missing, size+surge)
	}
	for _, c := range s.Conditions {
		switch {
		case c.Type == appsv1.DeploymentReplicaFailure && c.Status == corev1.ConditionTrue,
			c.Type == appsv1.DeploymentProgressing && c.Status == corev1.ConditionFalse:
			say("%s: %s: %s", c.Type, c.Reason, c.Message)
		}
	}
	return why
}
