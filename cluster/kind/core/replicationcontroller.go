package core

import (
	"maps"
	"strconv"
	"strings"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"sampan/cluster/kind"
	"sampan/cluster/kind/podspec"
)

// ReplicationController keeps a number of pods of one template: what there was
// before ReplicaSet.
func ReplicationController() *kind.Kind {
	return kind.Declare(kind.Of[corev1.ReplicationController]{
		GVK:        corev1.SchemeGroupVersion.WithKind("ReplicationController"),
		Plural:     "replicationcontrollers",
		Short:      []string{"rc"},
		Categories: []string{"all"},
		Prefix:     "controllers",
		ValidateName: func(name string, prefix bool) []string {
			if prefix { // by declared rules, which know no generateName
				return nil
			}
			return apivalidation.NameIsDNSSubdomain(name, false)
		},
		Default: defaultReplicationController,
		Prepare: func(rc, _ *corev1.ReplicationController) {
			if rc.Spec.Template != nil {
				podspec.SyncServiceAccount(&rc.Spec.Template.Spec)
			}
		},
		Validate: validateReplicationController,
		Ignored:  kind.Paths("spec.template.spec.", podspec.Gaps),
		Warn:     replicationControllerWarnings,
		Spec:     func(rc *corev1.ReplicationController) any { return &rc.Spec },
		Orphan:   true,
		Parts: map[string]kind.Part[corev1.ReplicationController]{
			"status": {
				Take:         func(dst, src *corev1.ReplicationController) { dst.Status = src.Status },
				WithMetadata: true,
				Validate: func(rc, _ *corev1.ReplicationController) field.ErrorList {
					return replicationControllerStatus(&rc.Status, field.NewPath("status"))
				},
			},
		},
		Scale: &kind.Scale[corev1.ReplicationController]{
			Get: func(rc *corev1.ReplicationController) (autoscalingv1.ScaleSpec, autoscalingv1.ScaleStatus) {
				return autoscalingv1.ScaleSpec{Replicas: ptr.Deref(rc.Spec.Replicas, 0)},
					autoscalingv1.ScaleStatus{Replicas: rc.Status.Replicas, Selector: labels.SelectorFromSet(rc.Spec.Selector).String()}
			},
			Set: func(rc *corev1.ReplicationController, n int32) { rc.Spec.Replicas = &n },
		},
		Columns: []kind.Column[corev1.ReplicationController]{
			{Name: "Desired", Type: "integer", Description: corev1.ReplicationControllerSpec{}.SwaggerDoc()["replicas"],
				Cell: func(rc *corev1.ReplicationController, _ time.Time) any { return int64(ptr.Deref(rc.Spec.Replicas, 0)) }},
			{Name: "Current", Type: "integer", Description: corev1.ReplicationControllerStatus{}.SwaggerDoc()["replicas"],
				Cell: func(rc *corev1.ReplicationController, _ time.Time) any { return int64(rc.Status.Replicas) }},
			{Name: "Ready", Type: "integer", Description: corev1.ReplicationControllerStatus{}.SwaggerDoc()["readyReplicas"],
				Cell: func(rc *corev1.ReplicationController, _ time.Time) any { return int64(rc.Status.ReadyReplicas) }},
			kind.Age[corev1.ReplicationController](),
			{Name: "Containers", Priority: 1, Description: "Names of each container in the template.",
				Cell: containersOf(func(c *corev1.Container) string { return c.Name })},
			{Name: "Images", Priority: 1, Description: "Images referenced by each container in the template.",
				Cell: containersOf(func(c *corev1.Container) string { return c.Image })},
			{Name: "Selector", Priority: 1, Description: corev1.ReplicationControllerSpec{}.SwaggerDoc()["selector"],
				Cell: func(rc *corev1.ReplicationController, _ time.Time) any { return labels.FormatLabels(rc.Spec.Selector) }},
		},
		Fields: map[string]func(*corev1.ReplicationController) string{
			"status.replicas": func(rc *corev1.ReplicationController) string { return strconv.Itoa(int(rc.Status.Replicas)) },
		},
	})
}

// containersOf is a cell with something of each container of the template.
func containersOf(of func(c *corev1.Container) string) func(*corev1.ReplicationController, time.Time) any {
	return func(rc *corev1.ReplicationController, _ time.Time) any {
		var all []string
		if t := rc.Spec.Template; t != nil {
			for i := range t.Spec.Containers {
				all = append(all, of(&t.Spec.Containers[i]))
			}
		}
		return strings.Join(all, ",")
	}
}

// defaultReplicationController takes selector and labels from the template,
// where the user gave none.
func defaultReplicationController(rc *corev1.ReplicationController) {
	if rc.Spec.Replicas == nil {
		one := int32(1)
		rc.Spec.Replicas = &one
	}
	t := rc.Spec.Template
	if t == nil {
		return
	}
	if t.Labels != nil {
		if len(rc.Spec.Selector) == 0 {
			rc.Spec.Selector = maps.Clone(t.Labels)
		}
		if len(rc.Labels) == 0 {
			rc.Labels = maps.Clone(t.Labels)
		}
	}
	podspec.DefaultTemplate(t)
}

func validateReplicationController(rc, old *corev1.ReplicationController) (errs field.ErrorList) {
	spec, s := field.NewPath("spec"), &rc.Spec
	errs = append(errs, kind.NotNegative(int64(s.MinReadySeconds), spec.Child("minReadySeconds"))...)
	if len(s.Selector) == 0 {
		errs = append(errs, field.Required(spec.Child("selector"), ""))
	}
	if s.Replicas == nil {
		errs = append(errs, field.Required(spec.Child("replicas"), ""))
	} else {
		errs = append(errs, kind.NotNegative(int64(*s.Replicas), spec.Child("replicas"))...)
	}
	path, t := spec.Child("template"), s.Template
	if t == nil {
		return append(errs, field.Required(path, ""))
	}
	var before *corev1.PodTemplateSpec
	if old != nil {
		before = old.Spec.Template
	}
	if !labels.SelectorFromSet(s.Selector).Matches(labels.Set(t.Labels)) {
		errs = append(errs, field.Invalid(path.Child("metadata", "labels"), t.Labels, "`selector` does not match template `labels`"))
	}
	errs = append(errs, podspec.ValidateTemplate(t, before, path)...)
	if t.Spec.RestartPolicy != corev1.RestartPolicyAlways {
		errs = append(errs, field.NotSupported(path.Child("spec", "restartPolicy"), t.Spec.RestartPolicy,
			[]corev1.RestartPolicy{corev1.RestartPolicyAlways}))
	}
	if t.Spec.ActiveDeadlineSeconds != nil {
		errs = append(errs, field.Forbidden(path.Child("spec", "activeDeadlineSeconds"), "activeDeadlineSeconds in ReplicationController is not Supported"))
	}
	return errs
}

func replicationControllerWarnings(rc, old *corev1.ReplicationController) (all []string) {
	if old == nil {
		all = podspec.NameWarnings(rc.Name)
	}
	if rc.Spec.Template == nil {
		return all
	}
	return append(all, podspec.TemplateWarnings(rc.Spec.Template, field.NewPath("spec", "template"))...)
}

func replicationControllerStatus(s *corev1.ReplicationControllerStatus, path *field.Path) field.ErrorList {
	return kind.ReplicaCounts{Replicas: s.Replicas, FullyLabeled: s.FullyLabeledReplicas, Ready: s.ReadyReplicas, Available: s.AvailableReplicas,
		ObservedGeneration: s.ObservedGeneration}.Validate(path)
}
