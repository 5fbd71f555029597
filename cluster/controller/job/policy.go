package job

import (
	"fmt"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

// verdict is what a job's failure policy says of a pod that has failed.
type verdict struct {
	action batchv1.PodFailurePolicyAction // empty: no rule is about it
	why    string                         // of FailJob: for the job's condition
}

// counts is false for a failure that nobody is to be blamed for.
func (v verdict) counts() bool { return v.action != batchv1.PodFailurePolicyActionIgnore }

// judge finds the first rule that matches (KEP-3329). The texts are upstream's.
func judge(policy *batchv1.PodFailurePolicy, p *corev1.Pod) verdict {
	if policy == nil {
		return verdict{}
	}
	for i, r := range policy.Rules {
		if r.OnExitCodes != nil {
			if c := exited(p, r.OnExitCodes); c != nil {
				return verdict{r.Action, fmt.Sprintf("Container %s for pod %s/%s failed with exit code %v matching %v rule at index %d",
					c.Name, p.Namespace, p.Name, c.State.Terminated.ExitCode, r.Action, i)}
			}
			continue
		}
		for _, c := range p.Status.Conditions {
			if slices.ContainsFunc(r.OnPodConditions, func(want batchv1.PodFailurePolicyOnPodConditionsPattern) bool {
				return want.Type == c.Type && want.Status == c.Status
			}) {
				return verdict{r.Action, fmt.Sprintf("Pod %s/%s has condition %v matching %v rule at index %d", p.Namespace, p.Name, c.Type, r.Action, i)}
			}
		}
	}
	return verdict{}
}

// exited is the first container that failed as a rule says, init containers
// last.
func exited(p *corev1.Pod, r *batchv1.PodFailurePolicyOnExitCodesRequirement) *corev1.ContainerStatus {
	for _, list := range [][]corev1.ContainerStatus{p.Status.ContainerStatuses, p.Status.InitContainerStatuses} {
		for i := range list {
			c := &list[i]
			end := c.State.Terminated
			if end == nil || end.ExitCode == 0 || r.ContainerName != nil && *r.ContainerName != c.Name {
				continue
			}
			if slices.Contains(r.Values, end.ExitCode) == (r.Operator == batchv1.PodFailurePolicyOnExitCodesOpIn) {
				return c
			}
		}
	}
	return nil
}

// enough says whether a success policy is satisfied (KEP-3998), and by which
// rule.
func enough(policy *batchv1.SuccessPolicy, completions int, succeeded indexes) (why string, ok bool) {
	if policy == nil || len(succeeded) == 0 {
		return "", false
	}
	for i, r := range policy.Rules {
		have, want := succeeded.count(), 0
		if r.SucceededIndexes != nil {
			wanted := parseIndexes(*r.SucceededIndexes, completions)
			if len(wanted) == 0 {
				continue
			}
			have, want = succeeded.shared(wanted), wanted.count()
		}
		if r.SucceededCount != nil {
			want = int(*r.SucceededCount)
		}
		if have >= want {
			return fmt.Sprintf("Matched rules at index %d", i), true
		}
	}
	return "", false
}
