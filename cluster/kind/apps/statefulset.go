package apps

import (
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"sampan/cluster/kind"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/podspec"
	"sampan/cluster/kind/volumespec"
)

// StatefulSet keeps pods with names and storage of their own.
func StatefulSet() *kind.Kind {
	return kind.Declare(kind.Of[appsv1.StatefulSet]{
		GVK:          appsv1.SchemeGroupVersion.WithKind("StatefulSet"),
		Plural:       "statefulsets",
		Short:        []string{"sts"},
		Categories:   []string{"all"},
		Default:      defaultStatefulSet,
		Prepare:      func(s, _ *appsv1.StatefulSet) { podspec.SyncServiceAccount(&s.Spec.Template.Spec) },
		Validate:     validateStatefulSet,
		ValidateName: validation.NameIsDNSLabel, // pods are named after it
		Ignored: slices.Concat(kind.Paths("spec.template.spec.", podspec.Gaps),
			kind.Paths("spec.volumeClaimTemplates[*].", core.ClaimGaps), kind.Paths("", StatefulSetGaps)),
		Warn: statefulSetWarnings,
		Spec: func(s *appsv1.StatefulSet) any { return &s.Spec },
		Parts: map[string]kind.Part[appsv1.StatefulSet]{
			"status": {
				Take:         func(dst, src *appsv1.StatefulSet) { dst.Status = src.Status },
				WithMetadata: true,
				Validate:     validateStatefulSetStatus,
			},
		},
		Scale: &kind.Scale[appsv1.StatefulSet]{
			Get: func(s *appsv1.StatefulSet) (autoscalingv1.ScaleSpec, autoscalingv1.ScaleStatus) {
				return autoscalingv1.ScaleSpec{Replicas: ptr.Deref(s.Spec.Replicas, 1)},
					autoscalingv1.ScaleStatus{Replicas: s.Status.Replicas, Selector: selectorString(s.Spec.Selector)}
			},
			Set: func(s *appsv1.StatefulSet, n int32) { s.Spec.Replicas = &n },
		},
		Columns: []kind.Column[appsv1.StatefulSet]{
			{Name: "Ready", Description: "Number of the pod with ready state",
				Cell: func(s *appsv1.StatefulSet, _ time.Time) any {
					return fmt.Sprintf("%d/%d", s.Status.ReadyReplicas, ptr.Deref(s.Spec.Replicas, 1))
				}},
			kind.Age[appsv1.StatefulSet](),
			{Name: "Containers", Priority: 1, Description: "Names of each container in the template.",
				Cell: func(s *appsv1.StatefulSet, _ time.Time) any { n, _ := containerCells(&s.Spec.Template); return n }},
			{Name: "Images", Priority: 1, Description: "Images referenced by each container in the template.",
				Cell: func(s *appsv1.StatefulSet, _ time.Time) any { _, i := containerCells(&s.Spec.Template); return i }},
		},
	})
}

// StatefulSetGaps are the fields of a StatefulSet that nothing acts on.
var StatefulSetGaps = []kind.Gap{
	{Path: "spec.volumeClaimTemplates[*].status.allocatedResourceStatuses", Why: claimless},
	{Path: "spec.volumeClaimTemplates[*].status.allocatedResources", Why: claimless},
	{Path: "spec.volumeClaimTemplates[*].status.conditions", Why: claimless},
	{Path: "spec.volumeClaimTemplates[*].status.currentVolumeAttributesClassName", Why: claimless},
	{Path: "spec.volumeClaimTemplates[*].status.healthStatus", Why: claimless},
	{Path: "spec.volumeClaimTemplates[*].status.modifyVolumeStatus", Why: claimless},
}

const claimless = "a claim that is yet to be made has no status"

func defaultStatefulSet(s *appsv1.StatefulSet) {
	spec := &s.Spec
	if spec.PodManagementPolicy == "" {
		spec.PodManagementPolicy = appsv1.OrderedReadyPodManagement
	}
	if u := &spec.UpdateStrategy; u.Type == "" {
		u.Type = appsv1.RollingUpdateStatefulSetStrategyType
		if u.RollingUpdate == nil {
			u.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{}
		}
	}
	if r := spec.UpdateStrategy.RollingUpdate; r != nil && spec.UpdateStrategy.Type == appsv1.RollingUpdateStatefulSetStrategyType {
		if r.Partition == nil {
			r.Partition = new(int32(0))
		}
		if r.MaxUnavailable == nil {
			r.MaxUnavailable = new(intstr.FromInt32(1))
		}
	}
	if spec.PersistentVolumeClaimRetentionPolicy == nil {
		spec.PersistentVolumeClaimRetentionPolicy = &appsv1.StatefulSetPersistentVolumeClaimRetentionPolicy{}
	}
	if p := spec.PersistentVolumeClaimRetentionPolicy; p.WhenDeleted == "" {
		p.WhenDeleted = appsv1.RetainPersistentVolumeClaimRetentionPolicyType
	}
	if p := spec.PersistentVolumeClaimRetentionPolicy; p.WhenScaled == "" {
		p.WhenScaled = appsv1.RetainPersistentVolumeClaimRetentionPolicyType
	}
	if spec.Replicas == nil {
		spec.Replicas = new(int32(1))
	}
	if spec.RevisionHistoryLimit == nil {
		spec.RevisionHistoryLimit = new(int32(10))
	}
	podspec.DefaultTemplate(&spec.Template)
	for i := range spec.VolumeClaimTemplates {
		c := &spec.VolumeClaimTemplates[i]
		c.APIVersion, c.Kind = "v1", "PersistentVolumeClaim" // upstream shows them, and revisions hold them
		if c.Status.Phase == "" {
			c.Status.Phase = corev1.ClaimPending
		}
		volumespec.DefaultClaim(&c.Spec)
	}
}

func statefulSetWarnings(s, old *appsv1.StatefulSet) (texts []string) {
	path := field.NewPath("spec")
	if old == nil || !equality.Semantic.DeepEqual(s.Spec.Template, old.Spec.Template) {
		texts = podspec.TemplateWarnings(&s.Spec.Template, path.Child("template"))
	}
	for i := range s.Spec.VolumeClaimTemplates {
		texts = append(texts, volumespec.ClaimWarnings(&s.Spec.VolumeClaimTemplates[i].Spec, path.Child("volumeClaimTemplates").Index(i))...)
	}
	if n := s.Spec.RevisionHistoryLimit; n != nil && *n < 0 {
		texts = append(texts, "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended")
	}
	return texts
}

func validateStatefulSet(s, old *appsv1.StatefulSet) (errs field.ErrorList) {
	path, spec := field.NewPath("spec"), &s.Spec
	if p := spec.PodManagementPolicy; p != appsv1.OrderedReadyPodManagement && p != appsv1.ParallelPodManagement {
		errs = append(errs, field.Invalid(path.Child("podManagementPolicy"), p, "must be 'OrderedReady' or 'Parallel'"))
	}
	errs = append(errs, statefulStrategy(&spec.UpdateStrategy, path.Child("updateStrategy"))...)
	if p := spec.PersistentVolumeClaimRetentionPolicy; p != nil {
		at := path.Child("persistentVolumeClaimRetentionPolicy")
		errs = append(errs, retention(p.WhenDeleted, at.Child("whenDeleted"))...)
		errs = append(errs, retention(p.WhenScaled, at.Child("whenScaled"))...)
	}
	errs = append(errs, kind.NotNegative(int64(ptr.Deref(spec.Replicas, 0)), path.Child("replicas"))...)
	errs = append(errs, kind.NotNegative(int64(spec.MinReadySeconds), path.Child("minReadySeconds"))...)
	if o := spec.Ordinals; o != nil {
		errs = append(errs, kind.NotNegative(int64(o.Start), path.Child("ordinals.start"))...)
	}
	errs = append(errs, statefulTemplate(spec, old, path)...)
	claims := path.Child("volumeClaimTemplates")
	if old == nil {
		for i := range spec.VolumeClaimTemplates {
			errs = append(errs, volumespec.ValidateClaim(&spec.VolumeClaimTemplates[i].Spec, nil, claims.Index(i).Child("spec"))...)
		}
		if spec.ServiceName != "" {
			errs = append(errs, kind.DNSLabel(spec.ServiceName, path.Child("serviceName"))...)
		}
		return errs
	}
	errs = append(errs, kind.Immutable(spec.Selector, old.Spec.Selector, path.Child("selector"))...)
	errs = append(errs, kind.Immutable(spec.VolumeClaimTemplates, old.Spec.VolumeClaimTemplates, claims)...)
	errs = append(errs, kind.Immutable(spec.ServiceName, old.Spec.ServiceName, path.Child("serviceName"))...)
	return append(errs, kind.Immutable(spec.PodManagementPolicy, old.Spec.PodManagementPolicy, path.Child("podManagementPolicy"))...)
}

func statefulTemplate(spec *appsv1.StatefulSetSpec, old *appsv1.StatefulSet, path *field.Path) (errs field.ErrorList) {
	at, template := path.Child("selector"), path.Child("template")
	if spec.Selector == nil {
		errs = append(errs, field.Required(at, ""))
	} else {
		errs = append(errs, metav1validation.ValidateLabelSelector(spec.Selector, metav1validation.LabelSelectorValidationOptions{}, at)...)
		if len(spec.Selector.MatchLabels)+len(spec.Selector.MatchExpressions) == 0 {
			errs = append(errs, field.Invalid(at, spec.Selector, "empty selector is invalid for statefulset"))
		}
	}
	if selector, err := metav1.LabelSelectorAsSelector(spec.Selector); err != nil {
		errs = append(errs, field.Invalid(at, spec.Selector, ""))
	} else {
		if !selector.Empty() && !selector.Matches(labels.Set(spec.Template.Labels)) {
			errs = append(errs, field.Invalid(template.Child("metadata", "labels"), spec.Template.Labels, "`selector` does not match template `labels`"))
		}
		var before *corev1.PodTemplateSpec
		if old != nil {
			before = withIdentity(&old.Spec)
		}
		errs = append(errs, podspec.ValidateTemplate(withIdentity(spec), before, template)...)
	}
	return append(errs, runsForEver(&spec.Template, "StatefulSet", template)...)
}

// withIdentity is the template without what the controller writes over it, and
// with a volume for each claim, which containers may mount.
func withIdentity(spec *appsv1.StatefulSetSpec) *corev1.PodTemplateSpec {
	t := spec.Template
	t.Spec.Hostname, t.Spec.Subdomain = "", ""
	if len(spec.VolumeClaimTemplates) == 0 {
		return &t
	}
	own := map[string]bool{}
	var volumes []corev1.Volume
	for i := range spec.VolumeClaimTemplates {
		name := spec.VolumeClaimTemplates[i].Name
		if own[name] {
			continue
		}
		own[name] = true
		volumes = append(volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
			PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name}}})
	}
	for _, v := range t.Spec.Volumes {
		if !own[v.Name] {
			volumes = append(volumes, v)
		}
	}
	t.Spec.Volumes = volumes
	return &t
}

func statefulStrategy(s *appsv1.StatefulSetUpdateStrategy, path *field.Path) (errs field.ErrorList) {
	rolling := path.Child("rollingUpdate")
	switch s.Type {
	case appsv1.OnDeleteStatefulSetStrategyType:
		if s.RollingUpdate != nil {
			errs = append(errs, field.Invalid(rolling, s.RollingUpdate, "only allowed for updateStrategy 'RollingUpdate'"))
		}
	case appsv1.RollingUpdateStatefulSetStrategyType:
		r := s.RollingUpdate
		if r == nil {
			return nil
		}
		errs = append(errs, kind.NotNegative(int64(ptr.Deref(r.Partition, 0)), rolling.Child("partition"))...)
		if r.MaxUnavailable != nil {
			at := rolling.Child("maxUnavailable")
			errs = append(errs, countOrPercent(*r.MaxUnavailable, at)...)
			if value(*r.MaxUnavailable) == 0 {
				errs = append(errs, field.Invalid(at, *r.MaxUnavailable, "cannot be 0"))
			}
			errs = append(errs, notMoreThanAll(*r.MaxUnavailable, at)...)
		}
	default:
		errs = append(errs, field.Invalid(path, *s, "must be 'RollingUpdate' or 'OnDelete'"))
	}
	return errs
}

func retention(p appsv1.PersistentVolumeClaimRetentionPolicyType, path *field.Path) field.ErrorList {
	switch p {
	case appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType:
		return nil
	}
	return field.ErrorList{field.NotSupported(path, p, []appsv1.PersistentVolumeClaimRetentionPolicyType{
		appsv1.RetainPersistentVolumeClaimRetentionPolicyType, appsv1.DeletePersistentVolumeClaimRetentionPolicyType})}
}

func validateStatefulSetStatus(s, old *appsv1.StatefulSet) (errs field.ErrorList) {
	st, path := &s.Status, field.NewPath("status")
	errs = append(errs, kind.NotNegative(int64(st.Replicas), path.Child("replicas"))...)
	errs = append(errs, kind.NotNegative(int64(st.ReadyReplicas), path.Child("readyReplicas"))...)
	errs = append(errs, kind.NotNegative(int64(st.CurrentReplicas), path.Child("currentReplicas"))...)
	errs = append(errs, kind.NotNegative(int64(st.UpdatedReplicas), path.Child("updatedReplicas"))...)
	errs = append(errs, kind.NotNegative(int64(st.AvailableReplicas), path.Child("availableReplicas"))...)
	errs = append(errs, kind.NotNegative(st.ObservedGeneration, path.Child("observedGeneration"))...)
	most := func(n int32, name string) {
		if n > st.Replicas {
			errs = append(errs, field.Invalid(path.Child(name), n, "cannot be greater than status.replicas"))
		}
	}
	most(st.ReadyReplicas, "readyReplicas")
	most(st.CurrentReplicas, "currentReplicas")
	most(st.UpdatedReplicas, "updatedReplicas")
	most(st.AvailableReplicas, "availableReplicas")
	if st.AvailableReplicas > st.ReadyReplicas {
		errs = append(errs, field.Invalid(path.Child("availableReplicas"), st.AvailableReplicas, "cannot be greater than status.readyReplicas"))
	}
	var before *int32
	if old != nil {
		before = old.Status.CollisionCount
	}
	return append(errs, collisions(st.CollisionCount, before, path.Child("collisionCount"))...)
}
