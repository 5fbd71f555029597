package pod

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// Explain says in words why a pod is not running as wanted and what its node
// does about it: what Decide says, beside the states it looks at.
func Explain(in Input) []string {
	plan := Decide(in)
	lines := []string{fmt.Sprintf("phase %s, sandbox %s", plan.Status.Phase, sandboxWord(in.Seen.Sandbox()))}
	if plan.Status.Reason != "" {
		lines = append(lines, plan.Status.Reason+": "+plan.Status.Message)
	}
	for _, list := range [][]corev1.ContainerStatus{plan.Status.InitContainerStatuses, plan.Status.ContainerStatuses} {
		for _, c := range list {
			switch s := c.State; {
			case s.Waiting != nil:
				lines = append(lines, fmt.Sprintf("container %s waits: %s %s", c.Name, s.Waiting.Reason, s.Waiting.Message))
			case s.Terminated != nil && s.Terminated.ExitCode != 0:
				lines = append(lines, fmt.Sprintf("container %s ended with exit code %d (%s) %s", c.Name, s.Terminated.ExitCode, s.Terminated.Reason, s.Terminated.Message))
			case s.Running != nil && !c.Ready:
				lines = append(lines, fmt.Sprintf("container %s runs but is not ready", c.Name))
			}
		}
	}
	for _, c := range plan.Status.Conditions {
		if c.Status != corev1.ConditionTrue && c.Message != "" {
			lines = append(lines, fmt.Sprintf("condition %s is %s: %s: %s", c.Type, c.Status, c.Reason, c.Message))
		}
	}
	for _, why := range plan.Why {
		lines = append(lines, "next: "+why)
	}
	return lines
}
