package daemonset

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/controller/history"
	"sampan/cluster/controller/pods"
)

// Explain says what keeps a DaemonSet from being as wanted, and what is done
// next, a sentence each; none if it is as wanted. owned are the pods,
// revisions the revisions that it controls.
func Explain(ds *appsv1.DaemonSet, nodes []*corev1.Node, owned []*corev1.Pod, revisions []*appsv1.ControllerRevision, now time.Time) (why []string) {
	say := func(format string, args ...any) { why = append(why, fmt.Sprintf(format, args...)) }
	if ds.DeletionTimestamp != nil {
		say("it is being deleted and makes no pods")
		return why
	}
	patch, err := history.Patch(&ds.Spec.Template)
	if err != nil {
		say("%v", err)
		return why
	}
	p := sort(revisions, patch)
	if p.current == nil || ds.Status.ObservedGeneration < ds.Generation {
		say("generation %d was not looked at yet, the latest that was is %d", ds.Generation, ds.Status.ObservedGeneration)
		return why
	}
	v := newView(ds, nodes, owned, p.hash(), now, func(string) time.Duration { return 0 })
	for _, d := range []decision{v.keep(), v.roll()} {
		for _, node := range d.create {
			say("node %s gets a pod", node)
		}
		for _, p := range d.remove {
			say("pod %s will be deleted", p.Name)
		}
	}
	s, again := v.status()
	if s.DesiredNumberScheduled == 0 {
		say("no node is selected by the template, or all have taints that it does not tolerate")
	}
	if s.NumberUnavailable > 0 {
		say("available: %d of %s", s.NumberAvailable, pods.Count(s.DesiredNumberScheduled))
	}
	if again > 0 {
		say("ready, but not yet for minReadySeconds=%d; the next one will be in %s", ds.Spec.MinReadySeconds, again.Round(time.Second))
	}
	if n := s.CurrentNumberScheduled - s.UpdatedNumberScheduled; n > 0 {
		say("left of earlier templates: %s", pods.Count(n))
	}
	if s.NumberMisscheduled > 0 {
		say("on nodes where none should be: %s", pods.Count(s.NumberMisscheduled))
	}
	return why
}
