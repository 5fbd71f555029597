package replicaset

import (
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"sampan/cluster/controller/pods"
)

// most is how many pods one decision creates or removes (upstream's
// BurstReplicas). The rest follows when these are there.
const most = 500

// decision is what must happen so that a ReplicaSet has the pods it asks for.
type decision struct {
	create int
	remove []*corev1.Pod
}

// decide is a pure function of what the cache holds. owned are the pods that
// the ReplicaSet controls, in any order and any phase. related are the pods
// that share the work with them, theirs included: those of all replica sets of
// the same owner. They only matter for the choice of whom to stop.
//
// A pod that is leaving or over does not count: it is replaced at once.
func decide(rs *appsv1.ReplicaSet, owned, related []*corev1.Pod, now time.Time) (d decision) {
	if rs.DeletionTimestamp != nil {
		return d // its pods are the garbage collector's
	}
	alive := active(owned)
	surplus := len(alive) - int(replicas(rs))
	switch {
	case surplus < 0:
		d.create = min(-surplus, most)
	case surplus == len(alive):
		d.remove = alive[:min(surplus, most)]
	case surplus > 0:
		rank(alive, related, now)
		d.remove = alive[:min(surplus, most)]
	}
	return d
}

// status is what a ReplicaSet with these pods says of itself. failed is what
// went wrong when the decision was carried out, or nil. again is when a pod
// that is ready becomes available, 0 for never.
func status(rs *appsv1.ReplicaSet, owned []*corev1.Pod, failed error, now time.Time) (s appsv1.ReplicaSetStatus, again time.Duration) {
	s.ObservedGeneration = rs.Generation
	s.TerminatingReplicas = new(int32)
	template := labels.SelectorFromSet(rs.Spec.Template.Labels)
	for _, p := range owned {
		if pods.Terminating(p) {
			*s.TerminatingReplicas++
		}
		if !pods.Active(p) {
			continue
		}
		s.Replicas++
		if template.Matches(labels.Set(p.Labels)) {
			s.FullyLabeledReplicas++
		}
		if pods.Ready(p) {
			s.ReadyReplicas++
		}
		ok, in := pods.Available(p, time.Duration(rs.Spec.MinReadySeconds)*time.Second, now)
		if ok {
			s.AvailableReplicas++
		}
		if in > 0 && (again == 0 || in < again) {
			again = in
		}
	}
	s.Conditions = conditions(rs, int(s.Replicas), failed, now)
	return s, again
}

// conditions keeps a ReplicaFailure as it was first seen until all goes well.
func conditions(rs *appsv1.ReplicaSet, have int, failed error, now time.Time) []appsv1.ReplicaSetCondition {
	is := func(c appsv1.ReplicaSetCondition) bool { return c.Type == appsv1.ReplicaSetReplicaFailure }
	if failed == nil {
		return slices.DeleteFunc(slices.Clone(rs.Status.Conditions), is)
	}
	if slices.ContainsFunc(rs.Status.Conditions, is) {
		return rs.Status.Conditions
	}
	c := appsv1.ReplicaSetCondition{Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue,
		LastTransitionTime: metav1.NewTime(now).Rfc3339Copy(), Message: failed.Error()}
	switch want := int(replicas(rs)); {
	case have < want:
		c.Reason = "FailedCreate"
	case have > want:
		c.Reason = "FailedDelete"
	}
	return append(slices.Clone(rs.Status.Conditions), c)
}

// Explain says what keeps a ReplicaSet from being as wanted, a sentence each;
// none if nothing does. owned are the pods that it controls.
func Explain(rs *appsv1.ReplicaSet, owned []*corev1.Pod, now time.Time) (why []string) {
	say := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	if rs.DeletionTimestamp != nil {
		say("it is being deleted and makes no pods")
		return why
	}
	d, want := decide(rs, owned, owned, now), replicas(rs)
	s, again := status(rs, owned, nil, now)
	if d.create > 0 {
		say("missing: %d of %s", want-s.Replicas, pods.Count(want))
	}
	for _, p := range d.remove {
		say("pod %s is one too many and will be deleted", p.Name)
	}
	for _, c := range rs.Status.Conditions {
		if c.Status == corev1.ConditionTrue {
			say("%s: %s: %s", c.Type, c.Reason, c.Message)
		}
	}
	if n := s.Replicas - s.ReadyReplicas; n > 0 {
		say("not ready: %d of %s", n, pods.Count(s.Replicas))
	}
	if n := s.ReadyReplicas - s.AvailableReplicas; n > 0 {
		say("ready, but not yet for minReadySeconds=%[2]d: %[1]s; the next one will be in %[3]s", pods.Count(n), rs.Spec.MinReadySeconds, again.Round(time.Second))
	}
	if n := *s.TerminatingReplicas; n > 0 {
		say("terminating, and counting no more: %s", pods.Count(n))
	}
	return why
}

func active(all []*corev1.Pod) (alive []*corev1.Pod) {
	for _, p := range all {
		if pods.Active(p) {
			alive = append(alive, p)
		}
	}
	return alive
}

func replicas(rs *appsv1.ReplicaSet) int32 {
	if rs.Spec.Replicas == nil {
		return 1
	}
	return *rs.Spec.Replicas
}
