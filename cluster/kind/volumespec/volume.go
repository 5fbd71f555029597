package volumespec

import (
	"maps"
	"path"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/diff"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// DefaultVolume fills what a volume leaves out.
func DefaultVolume(s *corev1.PersistentVolumeSpec) {
	if s.PersistentVolumeReclaimPolicy == "" {
		s.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
	}
	if s.VolumeMode == nil {
		fs := corev1.PersistentVolumeFilesystem
		s.VolumeMode = &fs
	}
	DefaultSource(s)
	roundUp(s.Capacity)
}

// roundUp takes away what is finer than a thousandth, as upstream does with
// every list of resources.
func roundUp(l corev1.ResourceList) {
	for name, q := range l {
		q = q.DeepCopy()
		q.RoundUp(resource.Milli)
		l[name] = q
	}
}

// ValidateVolume checks a volume's spec, all but its node affinity. name is
// the volume's.
func ValidateVolume(s *corev1.PersistentVolumeSpec, name string, at *field.Path) (errs field.ErrorList) {
	if len(s.AccessModes) == 0 {
		errs = append(errs, field.Required(at.Child("accessModes"), ""))
	}
	errs = append(errs, accessModes(s.AccessModes, at.Child("accessModes"))...)
	capacity := at.Child("capacity")
	if len(s.Capacity) == 0 {
		errs = append(errs, field.Required(capacity, ""))
	}
	if _, ok := s.Capacity[corev1.ResourceStorage]; !ok || len(s.Capacity) > 1 {
		errs = append(errs, field.NotSupported(capacity, s.Capacity, []corev1.ResourceName{corev1.ResourceStorage}))
	}
	for _, r := range slices.Sorted(maps.Keys(s.Capacity)) {
		if q := s.Capacity[r]; q.Value() < 0 {
			errs = append(errs, field.Invalid(capacity.Key(string(r)), q.Value(), "must be a valid resource quantity"))
		}
		errs = append(errs, positive(s.Capacity[r], capacity.Key(string(r)))...)
	}
	errs = append(errs, kind.OneOfIfSet(s.PersistentVolumeReclaimPolicy, at.Child("persistentVolumeReclaimPolicy"),
		corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRecycle, corev1.PersistentVolumeReclaimRetain)...)
	errs = append(errs, source(s, name, at)...)
	if s.HostPath != nil && path.Clean(s.HostPath.Path) == "/" && s.PersistentVolumeReclaimPolicy == corev1.PersistentVolumeReclaimRecycle {
		errs = append(errs, field.Forbidden(at.Child("persistentVolumeReclaimPolicy"), "may not be 'recycle' for a hostPath mount of '/'"))
	}
	if s.StorageClassName != "" {
		errs = append(errs, ClassName(s.StorageClassName, at.Child("storageClassName"))...)
	}
	if s.VolumeMode != nil {
		errs = append(errs, volumeMode(*s.VolumeMode, at.Child("volumeMode"))...)
	}
	return append(errs, attributesClass(s, at)...)
}

// ValidateInline checks a volume's spec that stands in another object: it has
// no claim, no class and no size of its own, and its driver is CSI.
func ValidateInline(s *corev1.PersistentVolumeSpec, at *field.Path) (errs field.ErrorList) {
	const no = "may not be specified in the context of inline volumes"
	if s.ClaimRef != nil {
		errs = append(errs, field.Forbidden(at.Child("claimRef"), no))
	}
	if len(s.Capacity) != 0 {
		errs = append(errs, field.Forbidden(at.Child("capacity"), no))
	}
	if s.CSI == nil {
		errs = append(errs, field.Required(at.Child("csi"), "has to be specified in the context of inline volumes"))
	}
	if len(s.AccessModes) == 0 {
		errs = append(errs, field.Required(at.Child("accessModes"), ""))
	}
	errs = append(errs, accessModes(s.AccessModes, at.Child("accessModes"))...)
	if p := s.PersistentVolumeReclaimPolicy; p != "" && p != corev1.PersistentVolumeReclaimRetain {
		errs = append(errs, field.Forbidden(at.Child("persistentVolumeReclaimPolicy"), "may only be Retain in the context of inline volumes"))
	}
	if s.NodeAffinity != nil {
		errs = append(errs, field.Forbidden(at.Child("nodeAffinity"), no))
	}
	errs = append(errs, source(s, "", at)...)
	if s.StorageClassName != "" {
		errs = append(errs, field.Forbidden(at.Child("storageClassName"), no))
	}
	if m := s.VolumeMode; m != nil && *m != corev1.PersistentVolumeFilesystem {
		errs = append(errs, field.Forbidden(at.Child("volumeMode"), "may not specify volumeMode other than Filesystem in the context of inline volumes"))
	}
	return append(errs, attributesClass(s, at)...)
}

func attributesClass(s *corev1.PersistentVolumeSpec, at *field.Path) (errs field.ErrorList) {
	name := s.VolumeAttributesClassName
	if name == nil {
		return nil
	}
	if *name == "" {
		errs = append(errs, field.Required(at.Child("volumeAttributesClassName"), "an empty string is disallowed"))
	} else {
		errs = append(errs, ClassName(*name, at.Child("volumeAttributesClassName"))...)
	}
	if s.CSI == nil {
		errs = append(errs, field.Required(at.Child("csi"), "has to be specified when using volumeAttributesClassName"))
	}
	return errs
}

// ValidateVolumeUpdate checks what of a volume may change.
func ValidateVolumeUpdate(s, old *corev1.PersistentVolumeSpec) (errs field.ErrorList) {
	now := s.PersistentVolumeSource
	if now.CSI != nil && old.CSI != nil && old.CSI.ControllerExpandSecretRef == nil && now.CSI.ControllerExpandSecretRef != nil {
		csi := *now.CSI // may be added
		csi.ControllerExpandSecretRef = nil
		now.CSI = &csi
	}
	if !kind.Equal(now, old.PersistentVolumeSource) {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "persistentvolumesource"),
			"spec.persistentvolumesource is immutable after creation\n"+diff.Diff(old.PersistentVolumeSource, now)))
	}
	errs = append(errs, immutable(s.VolumeMode, old.VolumeMode, field.NewPath("volumeMode"))...)
	if old.NodeAffinity != nil && !kind.Equal(s.NodeAffinity, grown(old.NodeAffinity, s.NodeAffinity)) {
		errs = append(errs, field.Invalid(field.NewPath("nodeAffinity"), s.NodeAffinity, "field is immutable, except for updating from beta label to GA"))
	}
	if old.VolumeAttributesClassName != nil && s.VolumeAttributesClassName == nil {
		errs = append(errs, field.Forbidden(field.NewPath("spec", "volumeAttributesClassName"), "update from non-nil value to nil is forbidden"))
	}
	return errs
}

// final are the labels of nodes that have got another name.
var final = map[string]string{
	corev1.LabelFailureDomainBetaZone:   corev1.LabelTopologyZone,
	corev1.LabelFailureDomainBetaRegion: corev1.LabelTopologyRegion,
	"beta.kubernetes.io/os":             corev1.LabelOSStable,
	"beta.kubernetes.io/arch":           corev1.LabelArchStable,
	corev1.LabelInstanceType:            corev1.LabelInstanceTypeStable,
}

// grown is a volume's affinity with the later names of those labels that now
// has under them.
func grown(old, now *corev1.VolumeNodeAffinity) *corev1.VolumeNodeAffinity {
	if now == nil || now.Required == nil || old.Required == nil {
		return old
	}
	old = old.DeepCopy()
	for i := range min(len(old.Required.NodeSelectorTerms), len(now.Required.NodeSelectorTerms)) {
		a, b := &old.Required.NodeSelectorTerms[i], &now.Required.NodeSelectorTerms[i]
		for _, both := range [][2][]corev1.NodeSelectorRequirement{{a.MatchExpressions, b.MatchExpressions}, {a.MatchFields, b.MatchFields}} {
			for j := range min(len(both[0]), len(both[1])) {
				if name, ok := final[both[0][j].Key]; ok && name == both[1][j].Key {
					both[0][j].Key = name
				}
			}
		}
	}
	return old
}

// types lists the sources that a volume has set, by their JSON names.
func types(s *corev1.PersistentVolumeSource) (names []string) {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Pointer && !f.IsNil() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			names = append(names, name)
		}
	}
	// Upstream looks at it first.
	if i := slices.Index(names, "hostPath"); i > 0 {
		names = slices.Insert(slices.Delete(names, i, i+1), 0, "hostPath")
	}
	return names
}
