// Package volumespec holds the rules of persistent volumes and of claims to
// them, a file per idea: claims (claim.go), volumes (volume.go), what a volume
// is made of (source.go). The kinds themselves are in core; a StatefulSet has
// templates of claims, and a VolumeAttachment a volume's spec inline.
//
// It knows no binding: which volume a claim gets is the volume binder's.
package volumespec

import (
	"strings"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// ClassName checks the name of a storage class or a class of volume
// attributes.
func ClassName(name string, path *field.Path) (errs field.ErrorList) {
	for _, msg := range validation.NameIsDNSSubdomain(name, false) {
		errs = append(errs, field.Invalid(path, name, msg))
	}
	return errs
}

// DriverName checks the name of a storage driver. Upper case is let through,
// and not spoken of.
func DriverName(name string, path *field.Path) field.ErrorList {
	errs := driverName(name, validation.NameIsDNSSubdomain(strings.ToLower(name), false), path)
	if len(name) > maxDriverName {
		errs = append(field.ErrorList{field.TooLong(path, "", maxDriverName).WithOrigin("maxLength")}, errs...)
	}
	return errs
}

// maxDriverName is how long a name of a driver may be.
const maxDriverName = 63

// DriverNameAnyCase is DriverName for fields whose rules upstream's types
// declare: the words are others, and characters are counted.
func DriverNameAnyCase(name string, path *field.Path) field.ErrorList {
	errs := driverName(name, content.IsDNS1123SubdomainCaseless(name), path)
	if utf8.RuneCountInString(name) > maxDriverName {
		errs = append(errs, field.TooLongCharacters(path, "", maxDriverName).WithOrigin("maxLength"))
	}
	return errs
}

func driverName(name string, wrong []string, path *field.Path) (errs field.ErrorList) {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	for _, msg := range wrong {
		errs = append(errs, field.Invalid(path, name, msg).WithOrigin("format=k8s-long-name-caseless"))
	}
	return errs
}

// accessModes checks how a volume may be used. That there is one is the
// caller's to say: claims and volumes have words of their own for it.
func accessModes(modes []corev1.PersistentVolumeAccessMode, path *field.Path) (errs field.ErrorList) {
	alone, others := false, false
	for _, m := range modes {
		switch m {
		case corev1.ReadWriteOncePod:
			alone = true
		case corev1.ReadWriteOnce, corev1.ReadOnlyMany, corev1.ReadWriteMany:
			others = true
		default:
			errs = append(errs, field.NotSupported(path, m, []corev1.PersistentVolumeAccessMode{
				corev1.ReadOnlyMany, corev1.ReadWriteMany, corev1.ReadWriteOnce, corev1.ReadWriteOncePod}))
		}
	}
	if alone && others {
		errs = append(errs, field.Forbidden(path, "may not use ReadWriteOncePod with other access modes"))
	}
	return errs
}

func volumeMode(m corev1.PersistentVolumeMode, path *field.Path) field.ErrorList {
	if m == corev1.PersistentVolumeBlock || m == corev1.PersistentVolumeFilesystem {
		return nil
	}
	return field.ErrorList{field.NotSupported(path, m, []corev1.PersistentVolumeMode{corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem})}
}

func positive(q resource.Quantity, path *field.Path) field.ErrorList {
	if q.Sign() > 0 {
		return nil
	}
	return field.ErrorList{field.Invalid(path, q.String(), "must be greater than zero")}
}

func notNegative(q resource.Quantity, path *field.Path) field.ErrorList {
	if q.Sign() >= 0 {
		return nil
	}
	return field.ErrorList{field.Invalid(path, q.String(), "must be greater than or equal to 0").WithOrigin("minimum")}
}

// AccessModesCell is access modes as kubectl shows them: "RWO,ROX".
func AccessModesCell(modes []corev1.PersistentVolumeAccessMode) string {
	short := []struct {
		mode corev1.PersistentVolumeAccessMode
		text string
	}{
		{corev1.ReadWriteOnce, "RWO"}, {corev1.ReadOnlyMany, "ROX"}, {corev1.ReadWriteMany, "RWX"}, {corev1.ReadWriteOncePod, "RWOP"},
	}
	var cells []string
	for _, s := range short {
		for _, m := range modes {
			if m == s.mode {
				cells = append(cells, s.text)
				break
			}
		}
	}
	return strings.Join(cells, ",")
}

// VolumeClass is the storage class of a volume. The annotation is the field's
// predecessor and counts before it.
func VolumeClass(pv *corev1.PersistentVolume) string {
	if class, ok := pv.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return class
	}
	return pv.Spec.StorageClassName
}

// ClaimClass is the storage class that a claim asks for, by annotation or by
// field; "" if it asks for none.
func ClaimClass(pvc *corev1.PersistentVolumeClaim) string {
	if class, ok := pvc.Annotations[corev1.BetaStorageClassAnnotation]; ok {
		return class
	}
	if pvc.Spec.StorageClassName != nil {
		return *pvc.Spec.StorageClassName
	}
	return ""
}

// immutable is kind.Immutable under the name that a reader of rules expects.
func immutable(now, old any, path *field.Path) field.ErrorList { return kind.Immutable(now, old, path) }
