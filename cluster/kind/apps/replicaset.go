package apps

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"sampan/cluster/kind"
	"sampan/cluster/kind/podspec"
)

// ReplicaSet keeps a number of pods of one template.
func ReplicaSet() *kind.Kind {
	return kind.Declare(kind.Of[appsv1.ReplicaSet]{
		GVK:        appsv1.SchemeGroupVersion.WithKind("ReplicaSet"),
		Plural:     "replicasets",
		Short:      []string{"rs"},
		Categories: []string{"all"},
		Default:    defaultReplicaSet,
		Prepare:    func(rs, _ *appsv1.ReplicaSet) { podspec.SyncServiceAccount(&rs.Spec.Template.Spec) },
		Validate:   validateReplicaSet,
		Ignored:    kind.Paths("spec.template.spec.", podspec.Gaps),
		Warn: func(rs, old *appsv1.ReplicaSet) []string {
			texts := podspec.TemplateWarnings(&rs.Spec.Template, field.NewPath("spec", "template"))
			if old == nil {
				return append(podspec.NameWarnings(rs.Name), texts...)
			}
			return texts
		},
		Spec: func(rs *appsv1.ReplicaSet) any { return &rs.Spec },
		Parts: map[string]kind.Part[appsv1.ReplicaSet]{
			"status": {
				Take:         func(dst, src *appsv1.ReplicaSet) { dst.Status = src.Status },
				WithMetadata: true,
				Validate: func(rs, _ *appsv1.ReplicaSet) field.ErrorList {
					return replicaSetStatus(&rs.Status, field.NewPath("status"))
				},
			},
		},
		Scale: &kind.Scale[appsv1.ReplicaSet]{
			Get: func(rs *appsv1.ReplicaSet) (autoscalingv1.ScaleSpec, autoscalingv1.ScaleStatus) {
				return autoscalingv1.ScaleSpec{Replicas: ptr.Deref(rs.Spec.Replicas, 1)},
					autoscalingv1.ScaleStatus{Replicas: rs.Status.Replicas, Selector: selectorString(rs.Spec.Selector)}
			},
			Set: func(rs *appsv1.ReplicaSet, n int32) { rs.Spec.Replicas = &n },
		},
		Columns: []kind.Column[appsv1.ReplicaSet]{
			{Name: "Desired", Type: "integer", Description: appsv1.ReplicaSetSpec{}.SwaggerDoc()["replicas"],
				Cell: func(rs *appsv1.ReplicaSet, _ time.Time) any { return int64(ptr.Deref(rs.Spec.Replicas, 1)) }},
			{Name: "Current", Type: "integer", Description: appsv1.ReplicaSetStatus{}.SwaggerDoc()["replicas"],
				Cell: func(rs *appsv1.ReplicaSet, _ time.Time) any { return int64(rs.Status.Replicas) }},
			{Name: "Ready", Type: "integer", Description: appsv1.ReplicaSetStatus{}.SwaggerDoc()["readyReplicas"],
				Cell: func(rs *appsv1.ReplicaSet, _ time.Time) any { return int64(rs.Status.ReadyReplicas) }},
			kind.Age[appsv1.ReplicaSet](),
			{Name: "Containers", Priority: 1, Description: "Names of each container in the template.",
				Cell: func(rs *appsv1.ReplicaSet, _ time.Time) any { n, _ := containerCells(&rs.Spec.Template); return n }},
			{Name: "Images", Priority: 1, Description: "Images referenced by each container in the template.",
				Cell: func(rs *appsv1.ReplicaSet, _ time.Time) any { _, i := containerCells(&rs.Spec.Template); return i }},
			{Name: "Selector", Priority: 1, Description: appsv1.ReplicaSetSpec{}.SwaggerDoc()["selector"],
				Cell: func(rs *appsv1.ReplicaSet, _ time.Time) any { return selectorCell(rs.Spec.Selector) }},
		},
	})
}

func defaultReplicaSet(rs *appsv1.ReplicaSet) {
	if rs.Spec.Replicas == nil {
		one := int32(1)
		rs.Spec.Replicas = &one
	}
	podspec.DefaultTemplate(&rs.Spec.Template)
}

func validateReplicaSet(rs, old *appsv1.ReplicaSet) (errs field.ErrorList) {
	spec := field.NewPath("spec")
	errs = append(errs, kind.NotNegative(int64(ptr.Deref(rs.Spec.Replicas, 0)), spec.Child("replicas"))...)
	errs = append(errs, kind.NotNegative(int64(rs.Spec.MinReadySeconds), spec.Child("minReadySeconds"))...)
	if old == nil {
		return append(errs, selectorAndTemplate(rs.Spec.Selector, &rs.Spec.Template, nil, spec)...)
	}
	errs = append(errs, selectorAndTemplate(rs.Spec.Selector, &rs.Spec.Template, &old.Spec.Template, spec)...)
	return append(errs, kind.Immutable(rs.Spec.Selector, old.Spec.Selector, spec.Child("selector"))...)
}

func replicaSetStatus(s *appsv1.ReplicaSetStatus, path *field.Path) field.ErrorList {
	return kind.ReplicaCounts{Replicas: s.Replicas, FullyLabeled: s.FullyLabeledReplicas, Ready: s.ReadyReplicas, Available: s.AvailableReplicas,
		ObservedGeneration: s.ObservedGeneration, Terminating: s.TerminatingReplicas}.Validate(path)
}

// selectorString is the form of a selector in a Scale's status.
func selectorString(s *metav1.LabelSelector) string {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		return ""
	}
	return selector.String()
}
