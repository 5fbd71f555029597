package core

import (
	"cmp"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/kind"
)

func podColumns() []kind.Column[corev1.Pod] {
	return []kind.Column[corev1.Pod]{
		{Name: "Ready", Description: "The aggregate readiness state of this pod for accepting traffic.",
			Cell: func(p *corev1.Pod, now time.Time) any { return podRow(p, now).ready }},
		{Name: "Status", Description: "The aggregate status of the containers in this pod.",
			Cell: func(p *corev1.Pod, now time.Time) any { return podRow(p, now).status }},
		{Name: "Restarts", Description: "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
			Cell: func(p *corev1.Pod, now time.Time) any { return podRow(p, now).restarts }},
		kind.Age[corev1.Pod](),
		{Name: "IP", Priority: 1, Description: corev1.PodStatus{}.SwaggerDoc()["podIP"],
			Cell: func(p *corev1.Pod, _ time.Time) any { return cmp.Or(podIP(p), "<none>") }},
		{Name: "Node", Priority: 1, Description: corev1.PodSpec{}.SwaggerDoc()["nodeName"],
			Cell: func(p *corev1.Pod, _ time.Time) any { return cmp.Or(p.Spec.NodeName, "<none>") }},
		{Name: "Nominated Node", Priority: 1, Description: corev1.PodStatus{}.SwaggerDoc()["nominatedNodeName"],
			Cell: func(p *corev1.Pod, _ time.Time) any { return cmp.Or(p.Status.NominatedNodeName, "<none>") }},
		{Name: "Readiness Gates", Priority: 1, Description: corev1.PodSpec{}.SwaggerDoc()["readinessGates"],
			Cell: func(p *corev1.Pod, _ time.Time) any { return gatesCell(p) }},
	}
}

// row is what the first columns say of a pod.
type row struct{ ready, status, restarts string }

// tally adds up containers on the way to a row.
type tally struct {
	ready, total int
	restarts     int
	last         metav1.Time // the latest end of a container that was restarted
}

func (t *tally) count(s *corev1.ContainerStatus) {
	t.restarts += int(s.RestartCount)
	if e := s.LastTerminationState.Terminated; e != nil && t.last.Before(&e.FinishedAt) {
		t.last = e.FinishedAt
	}
}

// podRow sums a pod up in the words that people know from kubectl: what the
// first init container that has not finished does, else what the containers
// do, else the phase.
func podRow(p *corev1.Pod, now time.Time) row {
	status := cmp.Or(p.Status.Reason, string(p.Status.Phase))
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Reason == corev1.PodReasonSchedulingGated {
			status = corev1.PodReasonSchedulingGated
		}
	}
	sidecar := map[string]bool{}
	all := tally{total: len(p.Spec.Containers)}
	for _, c := range p.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			sidecar[c.Name] = true
			all.total++
		}
	}
	sidecars := tally{}
	initializing := false
	for i := range p.Status.InitContainerStatuses {
		s := &p.Status.InitContainerStatuses[i]
		all.count(s)
		if sidecar[s.Name] {
			sidecars.count(s)
		}
		done := s.State.Terminated != nil && s.State.Terminated.ExitCode == 0
		if sidecar[s.Name] && s.Started != nil && *s.Started {
			done = true
			if s.Ready {
				all.ready++
			}
		}
		if done {
			continue
		}
		initializing = true
		status = initWord(p, s, i)
		break
	}
	if !initializing || initialized(p) {
		all.restarts, all.last = sidecars.restarts, sidecars.last
		running := false
		// From the last container to the first: the first one's word counts.
		for i := len(p.Status.ContainerStatuses) - 1; i >= 0; i-- {
			s := &p.Status.ContainerStatuses[i]
			all.count(s)
			if word := containerWord(s); word != "" {
				status = word
			} else if s.Ready && s.State.Running != nil {
				running = true
				all.ready++
			}
		}
		// One that has completed must not hide that others still run.
		if status == "Completed" && running {
			status = "NotReady"
			if podReady(p) {
				status = "Running"
			}
		}
	}
	if p.DeletionTimestamp != nil {
		switch {
		case p.Status.Reason == "NodeLost":
			status = "Unknown"
		case p.Status.Phase != corev1.PodFailed && p.Status.Phase != corev1.PodSucceeded:
			status = "Terminating"
		}
	}
	restarts := fmt.Sprint(all.restarts)
	if all.restarts != 0 && !all.last.IsZero() {
		restarts = fmt.Sprintf("%d (%s ago)", all.restarts, kind.Since(all.last, now))
	}
	return row{ready: fmt.Sprintf("%d/%d", all.ready, all.total), status: status, restarts: restarts}
}

// initWord says what the i-th init container, not done, is doing.
func initWord(p *corev1.Pod, s *corev1.ContainerStatus, i int) string {
	if t := s.State.Terminated; t != nil {
		switch {
		case t.Reason != "":
			return "Init:" + t.Reason
		case t.Signal != 0:
			return fmt.Sprintf("Init:Signal:%d", t.Signal)
		}
		return fmt.Sprintf("Init:ExitCode:%d", t.ExitCode)
	}
	if w := s.State.Waiting; w != nil && w.Reason != "" && w.Reason != "PodInitializing" {
		return "Init:" + w.Reason
	}
	return fmt.Sprintf("Init:%d/%d", i, len(p.Spec.InitContainers))
}

// containerWord says why a container is not running, "" if nothing is known.
func containerWord(s *corev1.ContainerStatus) string {
	if w := s.State.Waiting; w != nil && w.Reason != "" {
		return w.Reason
	}
	if t := s.State.Terminated; t != nil {
		switch {
		case t.Reason != "":
			return t.Reason
		case t.Signal != 0:
			return fmt.Sprintf("Signal:%d", t.Signal)
		}
		return fmt.Sprintf("ExitCode:%d", t.ExitCode)
	}
	return ""
}

func initialized(p *corev1.Pod) bool { return condition(p, corev1.PodInitialized) }

func podReady(p *corev1.Pod) bool { return condition(p, corev1.PodReady) }

func condition(p *corev1.Pod, t corev1.PodConditionType) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == t {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func gatesCell(p *corev1.Pod) string {
	if len(p.Spec.ReadinessGates) == 0 {
		return "<none>"
	}
	passed := 0
	for _, g := range p.Spec.ReadinessGates {
		if condition(p, g.ConditionType) {
			passed++
		}
	}
	return fmt.Sprintf("%d/%d", passed, len(p.Spec.ReadinessGates))
}
