package deployment

import (
	"fmt"
	"math"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Reasons that are asked for, not only written.
const (
	reasonComplete = "NewReplicaSetAvailable"
	reasonTimedOut = "ProgressDeadlineExceeded"
	reasonPaused   = "DeploymentPaused"
)

// hasDeadline is true if d wants to hear of a roll-out that is stuck.
func (p *plan) hasDeadline() bool {
	s := p.d.Spec.ProgressDeadlineSeconds
	return s != nil && *s != math.MaxInt32
}

// pause notes that d was paused or resumed. A pause stops the deadline's
// clock.
func (p *plan) pause() {
	c := condition(p.out.status.Conditions, appsv1.DeploymentProgressing)
	if !p.hasDeadline() || c != nil && c.Reason == reasonTimedOut {
		return
	}
	was := c != nil && c.Reason == reasonPaused
	switch {
	case p.d.Spec.Paused && !was:
		p.say(appsv1.DeploymentProgressing, corev1.ConditionUnknown, reasonPaused, "Deployment is paused")
	case !p.d.Spec.Paused && was:
		p.say(appsv1.DeploymentProgressing, corev1.ConditionUnknown, "DeploymentResumed", "Deployment is resumed")
	}
}

// settle counts what is there, and says whether it is enough.
func (p *plan) settle() {
	s := &p.out.status
	s.ObservedGeneration = p.d.Generation
	s.CollisionCount = p.d.Status.CollisionCount
	terminating, known := int32(0), true
	for _, set := range p.all() {
		if set.fresh {
			continue // it has no pods yet
		}
		have := &set.live.Status
		s.Replicas += have.Replicas
		s.ReadyReplicas += have.ReadyReplicas
		s.AvailableReplicas += have.AvailableReplicas
		if set == p.newest {
			s.UpdatedReplicas = have.Replicas
		}
		if have.TerminatingReplicas == nil {
			known = false
		} else {
			terminating += *have.TerminatingReplicas
		}
	}
	if known {
		s.TerminatingReplicas = &terminating
	}
	s.UnavailableReplicas = max(0, s.Replicas-s.AvailableReplicas)
	if s.AvailableReplicas >= p.size-p.missing {
		p.say(appsv1.DeploymentAvailable, corev1.ConditionTrue, "MinimumReplicasAvailable", "Deployment has minimum availability.")
	} else {
		p.say(appsv1.DeploymentAvailable, corev1.ConditionFalse, "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
	}
}

// progress settles, and says how the roll-out goes.
func (p *plan) progress() {
	p.settle()
	s := &p.out.status
	c := condition(s.Conditions, appsv1.DeploymentProgressing)
	done := s.Replicas == s.UpdatedReplicas && c != nil && c.Reason == reasonComplete
	switch {
	case !p.hasDeadline():
		p.unsay(appsv1.DeploymentProgressing)
	case done: // nothing to report until something else is wanted
	case p.complete():
		p.say(appsv1.DeploymentProgressing, corev1.ConditionTrue, reasonComplete, p.subject()+" has successfully progressed.")
	case p.moved():
		since := metav1.NewTime(p.now).Rfc3339Copy()
		if c != nil && c.Status == corev1.ConditionTrue {
			since = c.LastTransitionTime
		}
		p.unsay(appsv1.DeploymentProgressing) // each step sets the deadline's clock back
		p.say(appsv1.DeploymentProgressing, corev1.ConditionTrue, "ReplicaSetUpdated", p.subject()+" is progressing.")
		condition(s.Conditions, appsv1.DeploymentProgressing).LastTransitionTime = since
	case p.timedOut():
		p.say(appsv1.DeploymentProgressing, corev1.ConditionFalse, reasonTimedOut, p.subject()+" has timed out progressing.")
	}
	p.failures()
	if p.complete() {
		p.trim()
	}
	p.out.again = p.deadline()
}

func (p *plan) complete() bool {
	s := &p.out.status
	return s.UpdatedReplicas == p.size && s.Replicas == p.size && s.AvailableReplicas == p.size
}

// moved is true if something got better since the status was written.
func (p *plan) moved() bool {
	s, was := &p.out.status, &p.d.Status
	return s.UpdatedReplicas > was.UpdatedReplicas ||
		s.Replicas-s.UpdatedReplicas < was.Replicas-was.UpdatedReplicas ||
		s.ReadyReplicas > was.ReadyReplicas ||
		s.AvailableReplicas > was.AvailableReplicas
}

func (p *plan) timedOut() bool {
	c := condition(p.out.status.Conditions, appsv1.DeploymentProgressing)
	if c == nil || c.Reason == reasonComplete {
		return false
	}
	return c.Reason == reasonTimedOut || p.now.After(p.over(c))
}

// over is when the deadline that c started ends.
func (p *plan) over(c *appsv1.DeploymentCondition) time.Time {
	return c.LastUpdateTime.Add(time.Duration(*p.d.Spec.ProgressDeadlineSeconds) * time.Second)
}

// deadline is how long there is until timedOut may become true.
func (p *plan) deadline() time.Duration {
	c := condition(p.out.status.Conditions, appsv1.DeploymentProgressing)
	if !p.hasDeadline() || c == nil || p.complete() || c.Reason == reasonComplete || c.Reason == reasonTimedOut {
		return 0
	}
	return max(p.over(c).Sub(p.now), 0) + time.Second // the times are whole seconds
}

// failures shows what a set could not do: the newest one's fault first.
func (p *plan) failures() {
	for _, s := range p.all() {
		if s.fresh {
			continue
		}
		for _, c := range s.live.Status.Conditions {
			if c.Type == appsv1.ReplicaSetReplicaFailure {
				p.put(appsv1.DeploymentCondition{Type: appsv1.DeploymentReplicaFailure, Status: c.Status, Reason: c.Reason,
					Message: c.Message, LastUpdateTime: c.LastTransitionTime, LastTransitionTime: c.LastTransitionTime})
				return
			}
		}
	}
	p.unsay(appsv1.DeploymentReplicaFailure)
}

func (p *plan) subject() string {
	if p.newest != nil {
		return fmt.Sprintf("ReplicaSet %q", p.newest.live.Name)
	}
	return fmt.Sprintf("Deployment %q", p.d.Name)
}

func (p *plan) say(t appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string) {
	p.out.status.Conditions = say(p.out.status.Conditions, t, status, reason, message, p.now)
}

func (p *plan) put(c appsv1.DeploymentCondition) {
	p.out.status.Conditions = put(p.out.status.Conditions, c)
}

func (p *plan) unsay(t appsv1.DeploymentConditionType) {
	p.out.status.Conditions = slices.DeleteFunc(p.out.status.Conditions, func(c appsv1.DeploymentCondition) bool { return c.Type == t })
}

func say(all []appsv1.DeploymentCondition, t appsv1.DeploymentConditionType, status corev1.ConditionStatus, reason, message string, now time.Time) []appsv1.DeploymentCondition {
	at := metav1.NewTime(now).Rfc3339Copy()
	return put(all, appsv1.DeploymentCondition{
		Type: t, Status: status, Reason: reason, Message: message, LastUpdateTime: at, LastTransitionTime: at})
}

// put keeps a condition that says the same already, message and times
// included, and the time of transition of one that is as true as before.
func put(all []appsv1.DeploymentCondition, c appsv1.DeploymentCondition) []appsv1.DeploymentCondition {
	if was := condition(all, c.Type); was != nil {
		if was.Status == c.Status && was.Reason == c.Reason {
			return all
		}
		if was.Status == c.Status {
			c.LastTransitionTime = was.LastTransitionTime
		}
	}
	rest := slices.DeleteFunc(slices.Clone(all), func(have appsv1.DeploymentCondition) bool { return have.Type == c.Type })
	return append(rest, c)
}
