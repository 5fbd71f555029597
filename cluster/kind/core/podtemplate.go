package core

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
	"sampan/cluster/kind/podspec"
)

// PodTemplate keeps a pod's template for others to use; nothing acts on it.
func PodTemplate() *kind.Kind {
	list := func(of func(c *corev1.Container) string) func(*corev1.PodTemplate, time.Time) any {
		return func(p *corev1.PodTemplate, _ time.Time) any {
			var all []string
			for i := range p.Template.Spec.Containers {
				all = append(all, of(&p.Template.Spec.Containers[i]))
			}
			return strings.Join(all, ",")
		}
	}
	return kind.Declare(kind.Of[corev1.PodTemplate]{
		GVK:      corev1.SchemeGroupVersion.WithKind("PodTemplate"),
		Plural:   "podtemplates",
		Default:  func(p *corev1.PodTemplate) { podspec.DefaultTemplate(&p.Template) },
		Prepare:  func(p, _ *corev1.PodTemplate) { podspec.SyncServiceAccount(&p.Template.Spec) },
		Validate: validatePodTemplate,

		ReturnDeleted: true, // as upstream
		Ignored:       kind.Paths("template.spec.", podspec.Gaps),
		Warn: func(p, _ *corev1.PodTemplate) []string {
			return podspec.TemplateWarnings(&p.Template, field.NewPath("template"))
		},
		Spec: func(p *corev1.PodTemplate) any { return &p.Template },
		Columns: []kind.Column[corev1.PodTemplate]{
			{Name: "Containers", Description: "Names of each container in the template.", Cell: list(func(c *corev1.Container) string { return c.Name })},
			{Name: "Images", Description: "Images referenced by each container in the template.", Cell: list(func(c *corev1.Container) string { return c.Image })},
			{Name: "Pod Labels", Description: "The labels for the pod template.",
				Cell: func(p *corev1.PodTemplate, _ time.Time) any { return labels.FormatLabels(p.Template.Labels) }},
		},
	})
}

func validatePodTemplate(p, old *corev1.PodTemplate) field.ErrorList {
	var before *corev1.PodTemplateSpec
	if old != nil {
		before = &old.Template
	}
	return podspec.ValidateTemplate(&p.Template, before, field.NewPath("template"))
}
