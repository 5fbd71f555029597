package volumespec

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/diff"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// DefaultClaim fills what a claim's spec leaves out.
func DefaultClaim(s *corev1.PersistentVolumeClaimSpec) {
	if s.VolumeMode == nil {
		fs := corev1.PersistentVolumeFilesystem
		s.VolumeMode = &fs
	}
	roundUp(s.Resources.Requests)
	roundUp(s.Resources.Limits)
}

// PrepareClaim settles the two fields that say what a volume is filled from
// (KEP-1495): what the older one can't name is dropped, and each is filled
// from the other. old is nil on create.
func PrepareClaim(s, old *corev1.PersistentVolumeClaimSpec) {
	if r := s.DataSourceRef; r != nil && r.Namespace != nil && *r.Namespace != "" && (old == nil || old.DataSourceRef == nil) {
		s.DataSourceRef = nil // sources of other namespaces are an alpha feature of upstream
	}
	had := old != nil && (old.DataSource != nil || old.DataSourceRef != nil)
	if !had && s.DataSourceRef == nil && s.DataSource != nil && !knownSource(s.DataSource) {
		s.DataSource = nil
	}
	normalizeSources(s)
}

func knownSource(d *corev1.TypedLocalObjectReference) bool {
	group := ""
	if d.APIGroup != nil {
		group = *d.APIGroup
	}
	return d.Kind == "PersistentVolumeClaim" && group == "" || d.Kind == "VolumeSnapshot" && group == "snapshot.storage.k8s.io"
}

func normalizeSources(s *corev1.PersistentVolumeClaimSpec) {
	switch d, r := s.DataSource, s.DataSourceRef; {
	case d != nil && r == nil:
		s.DataSourceRef = &corev1.TypedObjectReference{APIGroup: d.APIGroup, Kind: d.Kind, Name: d.Name}
	case r != nil && d == nil && (r.Namespace == nil || *r.Namespace == ""):
		s.DataSource = &corev1.TypedLocalObjectReference{APIGroup: r.APIGroup, Kind: r.Kind, Name: r.Name}
	}
}

// ValidateClaim checks a claim's spec. old is what it was, or nil; what was
// wrong then and is not changed may stay.
func ValidateClaim(s, old *corev1.PersistentVolumeClaimSpec, path *field.Path) (errs field.ErrorList) {
	if len(s.AccessModes) == 0 {
		errs = append(errs, field.Required(path.Child("accessModes"), "at least 1 access mode is required"))
	}
	if s.Selector != nil {
		o := metav1validation.LabelSelectorValidationOptions{
			AllowInvalidLabelValueInSelector: old != nil && len(metav1validation.ValidateLabelSelector(old.Selector, metav1validation.LabelSelectorValidationOptions{}, nil)) > 0}
		errs = append(errs, metav1validation.ValidateLabelSelector(s.Selector, o, path.Child("selector"))...)
	}
	errs = append(errs, accessModes(s.AccessModes, path.Child("accessModes"))...)
	size := path.Child("resources").Key(string(corev1.ResourceStorage))
	if q, ok := s.Resources.Requests[corev1.ResourceStorage]; !ok {
		errs = append(errs, field.Required(size, ""))
	} else {
		errs = append(errs, positive(q, size)...)
	}
	if s.StorageClassName != nil && *s.StorageClassName != "" {
		errs = append(errs, ClassName(*s.StorageClassName, path.Child("storageClassName"))...)
	}
	if s.VolumeMode != nil {
		errs = append(errs, volumeMode(*s.VolumeMode, path.Child("volumeMode"))...)
	}
	errs = append(errs, dataSources(s, old, path)...)
	if s.VolumeAttributesClassName != nil && *s.VolumeAttributesClassName != "" {
		errs = append(errs, ClassName(*s.VolumeAttributesClassName, path.Child("volumeAttributesClassName"))...)
	}
	return errs
}

func dataSources(s, old *corev1.PersistentVolumeClaimSpec, path *field.Path) (errs field.ErrorList) {
	anyGroup := old != nil && (old.DataSource != nil && old.DataSource.APIGroup != nil || old.DataSourceRef != nil && old.DataSourceRef.APIGroup != nil)
	if d := s.DataSource; d != nil {
		errs = append(errs, dataSource(d.APIGroup, d.Kind, d.Name, anyGroup, path.Child("dataSource"))...)
	}
	r := s.DataSourceRef
	if r != nil {
		at := path.Child("dataSourceRef")
		errs = append(errs, dataSource(r.APIGroup, r.Kind, r.Name, anyGroup, at)...)
		if r.Namespace != nil && *r.Namespace != "" {
			for _, msg := range validation.ValidateNamespaceName(*r.Namespace, false) {
				errs = append(errs, field.Invalid(at.Child("namespace"), *r.Namespace, msg))
			}
		}
	}
	if s.DataSource == nil || r == nil {
		return errs
	}
	// Upstream gives the path as the value here.
	if r.Namespace != nil && *r.Namespace != "" {
		return append(errs, field.Invalid(path, path.Child("dataSource"), "may not be specified when dataSourceRef.namespace is specified"))
	}
	if d := s.DataSource; d.Kind != r.Kind || d.Name != r.Name || !kind.Equal(d.APIGroup, r.APIGroup) {
		errs = append(errs, field.Invalid(path, path.Child("dataSource"), "must match dataSourceRef"))
	}
	return errs
}

func dataSource(apiGroup *string, kindName, name string, anyGroup bool, path *field.Path) (errs field.ErrorList) {
	if name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	}
	if kindName == "" {
		errs = append(errs, field.Required(path.Child("kind"), ""))
	}
	switch {
	case apiGroup == nil || *apiGroup == "":
		if kindName != "PersistentVolumeClaim" {
			errs = append(errs, field.Invalid(path, kindName, "must be 'PersistentVolumeClaim' when referencing the default apiGroup"))
		}
	case !anyGroup:
		errs = append(errs, kind.DNSSubdomain(*apiGroup, path.Child("apiGroup"))...)
	}
	return errs
}

// ValidateClaimUpdate checks what of a claim may change: little but its size
// and its class of attributes once it is bound.
func ValidateClaimUpdate(pvc, old *corev1.PersistentVolumeClaim) (errs field.ErrorList) {
	spec := field.NewPath("spec")
	now, was := pvc.Spec.DeepCopy(), old.Spec.DeepCopy()
	normalizeSources(was)
	if was.VolumeName == "" {
		was.VolumeName = now.VolumeName // by the volume binder, once
	}
	const beta = corev1.BetaStorageClassAnnotation
	class, annotated := old.Annotations[beta]
	newClass, newAnnotated := pvc.Annotations[beta]
	if annotated && was.StorageClassName == nil && now.StorageClassName != nil && *now.StorageClassName == class && (!newAnnotated || newClass == class) {
		now.StorageClassName = nil // the annotation has become the field
	} else {
		if class != newClass {
			errs = append(errs, field.Invalid(field.NewPath("metadata", "annotations", beta), newClass, "field is immutable"))
		}
		// A claim without a class may get one: the default.
		if was.StorageClassName == nil && now.StorageClassName != nil && (!annotated || *now.StorageClassName == class) {
			now.StorageClassName = was.StorageClassName
		}
	}
	before, wanted := was.Resources.Requests[corev1.ResourceStorage], pvc.Spec.Resources.Requests[corev1.ResourceStorage]
	if pvc.Status.Phase == corev1.ClaimBound {
		if now.Resources.Requests != nil {
			now.Resources.Requests[corev1.ResourceStorage] = before
		}
		now.VolumeAttributesClassName = was.VolumeAttributesClassName
	}
	if !kind.Equal(now, was) {
		errs = append(errs, field.Forbidden(spec,
			"spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n"+diff.Diff(was, now)))
	}
	// A size that proved too large may be taken back, not below what is there.
	if has := old.Status.Capacity[corev1.ResourceStorage]; wanted.Cmp(before) < 0 && wanted.Cmp(has) <= 0 {
		errs = append(errs, field.Forbidden(spec.Child("resources", "requests", "storage"), "field can not be less than status.capacity"))
	}
	errs = append(errs, immutable(pvc.Spec.VolumeMode, old.Spec.VolumeMode, field.NewPath("volumeMode"))...)
	at, attributes := spec.Child("volumeAttributesClassName"), pvc.Spec.VolumeAttributesClassName
	if old.Status.CurrentVolumeAttributesClassName != nil && !kind.Equal(attributes, old.Spec.VolumeAttributesClassName) {
		switch {
		case attributes == nil:
			errs = append(errs, field.Forbidden(at, "update to nil is forbidden when status.currentVolumeAttributesClassName is not nil"))
		case *attributes == "":
			errs = append(errs, field.Forbidden(at, "update to empty string is forbidden when status.currentVolumeAttributesClassName is not nil"))
		}
	}
	return errs
}

var resizeStates = []corev1.ClaimResourceStatus{
	corev1.PersistentVolumeClaimControllerResizeInProgress, corev1.PersistentVolumeClaimControllerResizeInfeasible,
	corev1.PersistentVolumeClaimNodeResizePending, corev1.PersistentVolumeClaimNodeResizeInProgress,
	corev1.PersistentVolumeClaimNodeResizeInfeasible,
}

// ValidateClaimStatus checks a claim's status.
func ValidateClaimStatus(pvc *corev1.PersistentVolumeClaim) (errs field.ErrorList) {
	if len(pvc.Spec.AccessModes) == 0 {
		errs = append(errs, field.Required(field.NewPath("Spec", "accessModes"), ""))
	}
	status := field.NewPath("status")
	for _, name := range slices.Sorted(maps.Keys(pvc.Status.Capacity)) {
		if q := pvc.Status.Capacity[name]; q.Value() < 0 {
			errs = append(errs, field.Invalid(status.Child("capacity").Key(string(name)), q.Value(), "must be a valid resource quantity"))
		}
	}
	if h := pvc.Status.HealthStatus; h != nil {
		for i, c := range h.HealthConditions {
			if c.Reason == "" {
				continue
			}
			for _, msg := range metav1validation.IsValidConditionReason(c.Reason) {
				errs = append(errs, field.Invalid(status.Child("healthStatus", "healthConditions").Index(i).Child("reason"), c.Reason, msg))
			}
		}
	}
	states := status.Child("allocatedResourceStatuses")
	for _, name := range slices.Sorted(maps.Keys(pvc.Status.AllocatedResourceStatuses)) {
		errs = append(errs, claimResource(name, states)...)
		if !slices.Contains(resizeStates, pvc.Status.AllocatedResourceStatuses[name]) {
			errs = append(errs, field.NotSupported(states, name, slices.Sorted(slices.Values(resizeStates))))
		}
	}
	allocated := status.Child("allocatedResources")
	for _, name := range slices.Sorted(maps.Keys(pvc.Status.AllocatedResources)) {
		if bad := claimResource(name, allocated); len(bad) > 0 {
			errs = append(errs, bad...)
			continue
		}
		errs = append(errs, notNegative(pvc.Status.AllocatedResources[name], allocated.Key(string(name)))...)
	}
	return errs
}

// claimResource checks a resource of a claim: of Kubernetes' own only
// "storage" is one.
func claimResource(name corev1.ResourceName, path *field.Path) (errs field.ErrorList) {
	for _, msg := range utilvalidation.IsQualifiedName(string(name)) {
		errs = append(errs, field.Invalid(path, string(name), msg))
	}
	own := !strings.Contains(string(name), "/") || strings.Contains(string(name), corev1.ResourceDefaultNamespacePrefix)
	if len(errs) == 0 && own && name != corev1.ResourceStorage {
		errs = append(errs, field.NotSupported(path, string(name), []corev1.ResourceName{corev1.ResourceStorage}))
	}
	return errs
}

// ClaimWarnings are texts about odd input in a claim's spec.
func ClaimWarnings(s *corev1.PersistentVolumeClaimSpec, path *field.Path) (texts []string) {
	for _, l := range []struct {
		name string
		list corev1.ResourceList
	}{{"requests", s.Resources.Requests}, {"limits", s.Resources.Limits}} {
		if q := l.list[corev1.ResourceStorage]; q.MilliValue()%1000 != 0 {
			texts = append(texts, fmt.Sprintf("%s: fractional byte value %q is invalid, must be an integer",
				path.Child("resources").Child(l.name).Key(string(corev1.ResourceStorage)), q.String()))
		}
	}
	return texts
}
