package job

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"sampan/cluster/controller/pods"
)

// How long a failed pod is waited for before it is replaced: 10 s, twice as
// long each time, and never more than 10 min. Upstream's.
const (
	firstBackoff   = 10 * time.Second
	longestBackoff = 10 * time.Minute
)

// backoff is how often pods of a job have failed since one succeeded. It is
// not in the API: a program that starts again forgets it, as upstream.
type backoff struct {
	failures int
	last     time.Time // when the latest of them failed
}

// with returns the backoff once these pods are counted as well.
func (b backoff) with(succeeded, failed []*corev1.Pod) backoff {
	var success time.Time
	for _, p := range succeeded {
		success = latest(success, finishedAt(p))
	}
	if len(succeeded) > 0 {
		b = backoff{}
	}
	for _, p := range failed {
		if at := finishedAt(p); len(succeeded) == 0 || at.After(success) {
			b.failures++
			b.last = latest(b.last, at)
		}
	}
	return b
}

// wait is how long no pod is to be made.
func (b backoff) wait(now time.Time) time.Duration {
	if b.failures == 0 {
		return 0
	}
	d := firstBackoff
	for i := 1; i < b.failures && d < longestBackoff; i++ {
		d *= 2
	}
	return max(0, min(d, longestBackoff)-now.Sub(b.last))
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// finishedAt is when a pod ended: when the last of its containers did; if that
// is not known, when it stopped to be ready, or when it was told to go.
func finishedAt(p *corev1.Pod) time.Time {
	if at := containersFinished(p); !at.IsZero() {
		return at
	}
	if c := pods.Condition(p, corev1.PodReady); c != nil && c.Status == corev1.ConditionFalse && !c.LastTransitionTime.IsZero() {
		return c.LastTransitionTime.Time
	}
	if p.DeletionTimestamp != nil {
		return p.DeletionTimestamp.Add(-time.Duration(ptr.Deref(p.DeletionGracePeriodSeconds, 0)) * time.Second)
	}
	return p.CreationTimestamp.Time
}

// containersFinished is zero unless all containers, sidecars included, have
// ended.
func containersFinished(p *corev1.Pod) (at time.Time) {
	all := slices.Clone(p.Status.ContainerStatuses)
	for _, s := range p.Status.InitContainerStatuses {
		if slices.ContainsFunc(p.Spec.InitContainers, func(c corev1.Container) bool {
			return c.Name == s.Name && ptr.Deref(c.RestartPolicy, "") == corev1.ContainerRestartPolicyAlways
		}) {
			all = append(all, s)
		}
	}
	for _, s := range all {
		if s.State.Terminated == nil || s.State.Terminated.FinishedAt.IsZero() {
			return time.Time{}
		}
		at = latest(at, s.State.Terminated.FinishedAt.Time)
	}
	return at
}
