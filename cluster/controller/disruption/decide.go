package disruption

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/component-helpers/apps/poddisruptionbudget"

	"sampan/cluster/controller/pods"
)

const (
	// evicted is how long a pod that was evicted may still be there before it
	// counts again: whoever deletes it has failed, or was refused.
	evicted = 2 * time.Minute

	// stale is how long a pod may be said to be a target of a disruption that
	// does not come.
	stale = 2 * time.Minute
)

// expectation is how many pods there should be, and how many of them ready.
type expectation struct{ pods, healthy int32 }

// byScale says whether a budget is about a share of what the pods' owners ask
// for, and not simply a number of pods.
func byScale(b *policyv1.PodDisruptionBudget) bool {
	return b.Spec.MaxUnavailable != nil || b.Spec.MinAvailable != nil && b.Spec.MinAvailable.Type == intstr.String
}

// expect reads a budget. scale is the sum of what the owners of its pods ask
// for, where byScale is true.
func expect(b *policyv1.PodDisruptionBudget, selected int, scale int32) (e expectation, err error) {
	switch {
	case b.Spec.MaxUnavailable != nil:
		n, err := intstr.GetScaledValueFromIntOrPercent(b.Spec.MaxUnavailable, int(scale), true)
		return expectation{scale, max(0, scale-int32(n))}, err
	case byScale(b):
		n, err := intstr.GetScaledValueFromIntOrPercent(b.Spec.MinAvailable, int(scale), true)
		return expectation{scale, int32(n)}, err
	case b.Spec.MinAvailable != nil:
		return expectation{int32(selected), b.Spec.MinAvailable.IntVal}, nil
	}
	return expectation{}, nil
}

// decision is what becomes of a budget.
type decision struct {
	status     policyv1.PodDisruptionBudgetStatus
	again      time.Duration // when an eviction is overdue; 0: never
	notDeleted []*corev1.Pod // evicted, and still there
}

// decide is a pure function of what the cache holds. selected are the pods
// that the budget selects.
func decide(b *policyv1.PodDisruptionBudget, selected []*corev1.Pod, e expectation, now time.Time) (d decision) {
	s := policyv1.PodDisruptionBudgetStatus{ObservedGeneration: b.Generation, DesiredHealthy: e.healthy, ExpectedPods: e.pods,
		DisruptedPods: map[string]metav1.Time{}, Conditions: b.Status.DeepCopy().Conditions}
	for _, p := range selected {
		if p.DeletionTimestamp != nil {
			continue
		}
		if at, was := b.Status.DisruptedPods[p.Name]; was {
			left := at.Add(evicted).Sub(now)
			if left > 0 { // it is about to go
				s.DisruptedPods[p.Name] = at
				if d.again == 0 || left < d.again {
					d.again = left
				}
				continue
			}
			d.notDeleted = append(d.notDeleted, p)
		}
		if pods.Ready(p) {
			s.CurrentHealthy++
		}
	}
	// With no pods expected nothing is allowed: the first ones may appear before
	// this is looked at again.
	if e.pods > 0 {
		s.DisruptionsAllowed = max(0, s.CurrentHealthy-e.healthy)
	}
	next := policyv1.PodDisruptionBudget{ObjectMeta: b.ObjectMeta, Status: s}
	if !poddisruptionbudget.ConditionsAreUpToDate(&next) {
		poddisruptionbudget.UpdateDisruptionAllowedCondition(&next)
	}
	d.status = next.Status
	return d
}

// failsafe is the status of a budget that could not be worked out: nothing is
// allowed.
func failsafe(b *policyv1.PodDisruptionBudget, why error) policyv1.PodDisruptionBudgetStatus {
	s := *b.Status.DeepCopy()
	s.DisruptionsAllowed = 0
	meta.SetStatusCondition(&s.Conditions, metav1.Condition{Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse,
		Reason: policyv1.SyncFailedReason, Message: why.Error(), ObservedGeneration: s.ObservedGeneration})
	return s
}

// targeted says whether a pod is marked as the target of a disruption by
// somebody who should have deleted it since, and how long to wait. What the
// node says itself stays: ending a pod may take long.
func targeted(p *corev1.Pod, now time.Time) (left time.Duration, is bool) {
	c := pods.Condition(p, corev1.DisruptionTarget)
	if p.DeletionTimestamp != nil || pods.Over(p) || c == nil || c.Status != corev1.ConditionTrue || c.Reason == corev1.PodReasonTerminationByKubelet {
		return 0, false
	}
	return max(0, c.LastTransitionTime.Add(stale).Sub(now)), true
}
