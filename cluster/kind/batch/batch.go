// Package batch declares the kinds of the API group batch, a file per kind;
// the parts of a Job's rules have files of their own. What a pod template may
// say is in podspec.
package batch

import (
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/kind"
	"sampan/cluster/kind/podspec"
)

// Kinds is the table of this group.
func Kinds() []*kind.Kind {
	return []*kind.Kind{
		CronJob(),
		Job(),
	}
}

// JobGaps are the fields of a job's spec that nothing acts on yet.
var JobGaps = []kind.Gap{
	{Path: "scheduling", Why: "pods are scheduled one by one"},
}

// containerCells are the columns that list a template's containers.
func containerCells(t *corev1.PodTemplateSpec) (names, images string) {
	var n, i []string
	for _, c := range t.Spec.Containers {
		n, i = append(n, c.Name), append(i, c.Image)
	}
	return strings.Join(n, ","), strings.Join(i, ",")
}

// defaultTemplate fills in what a template leaves out, wherever it is: in a
// Job, or in the template of one.
func defaultTemplate(s *batchv1.JobSpec) {
	podspec.DefaultTemplate(&s.Template)
	if s.PodFailurePolicy == nil {
		return
	}
	for i := range s.PodFailurePolicy.Rules {
		for j := range s.PodFailurePolicy.Rules[i].OnPodConditions {
			if c := &s.PodFailurePolicy.Rules[i].OnPodConditions[j]; c.Status == "" {
				c.Status = corev1.ConditionTrue
			}
		}
	}
}
