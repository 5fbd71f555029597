package daemonset

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"sampan/cluster/controller/pods"
)

// status is what a daemon set with these pods says of itself. Conditions and
// the count of collisions stay as they are. again is when a pod that is ready
// becomes available, 0 for never.
func (v *view) status() (s appsv1.DaemonSetStatus, again time.Duration) {
	s = appsv1.DaemonSetStatus{ObservedGeneration: v.ds.Generation,
		CollisionCount: v.ds.Status.CollisionCount, Conditions: v.ds.Status.Conditions}
	for _, n := range v.nodes {
		have := v.pods[n.Name]
		if !v.wants[n.Name].run {
			if len(have) > 0 {
				s.NumberMisscheduled++
			}
			continue
		}
		s.DesiredNumberScheduled++
		if len(have) == 0 {
			continue
		}
		s.CurrentNumberScheduled++
		p := have[0] // the others go
		if pods.Ready(p) {
			s.NumberReady++
		}
		ok, in := pods.Available(p, v.minReady, v.now)
		if ok {
			s.NumberAvailable++
		}
		again = sooner(again, in)
		if updated(v.ds, p, v.hash) {
			s.UpdatedNumberScheduled++
		}
	}
	s.NumberUnavailable = s.DesiredNumberScheduled - s.NumberAvailable
	return s, again
}
