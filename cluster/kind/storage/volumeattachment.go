package storage

import (
	"math"
	"time"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilvalidation "k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
	"sampan/cluster/kind/volumespec"
)

// VolumeAttachment asks a driver to make a volume reachable from a node.
func VolumeAttachment() *kind.Kind {
	doc := storagev1.VolumeAttachmentSpec{}.SwaggerDoc()
	return kind.Declare(kind.Of[storagev1.VolumeAttachment]{
		GVK:         storagev1.SchemeGroupVersion.WithKind("VolumeAttachment"),
		Plural:      "volumeattachments",
		Rechecked:   true,
		Cluster:     true,
		Conditional: true,
		Default: func(a *storagev1.VolumeAttachment) {
			if s := a.Spec.Source.InlineVolumeSpec; s != nil {
				volumespec.DefaultSource(s)
			}
		},
		Validate: validateAttachment,
		Ignored:  kind.Paths("", AttachmentGaps),

		ReturnDeleted: true, // as upstream
		Parts: map[string]kind.Part[storagev1.VolumeAttachment]{
			"status": {
				Take: func(dst, src *storagev1.VolumeAttachment) { dst.Status = src.Status },
				Validate: func(a, _ *storagev1.VolumeAttachment) field.ErrorList {
					return attachmentStatus(&a.Status, field.NewPath("status"))
				},
			},
		},
		Columns: []kind.Column[storagev1.VolumeAttachment]{
			{Name: "Name", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"],
				Cell: func(a *storagev1.VolumeAttachment, _ time.Time) any { return a.Name }},
			{Name: "Attacher", Format: "name", Description: doc["attacher"],
				Cell: func(a *storagev1.VolumeAttachment, _ time.Time) any { return a.Spec.Attacher }},
			{Name: "PV", Description: storagev1.VolumeAttachmentSource{}.SwaggerDoc()["persistentVolumeName"],
				Cell: func(a *storagev1.VolumeAttachment, _ time.Time) any {
					if name := a.Spec.Source.PersistentVolumeName; name != nil {
						return *name
					}
					return ""
				}},
			{Name: "Node", Description: doc["nodeName"],
				Cell: func(a *storagev1.VolumeAttachment, _ time.Time) any { return a.Spec.NodeName }},
			{Name: "Attached", Type: "boolean", Description: storagev1.VolumeAttachmentStatus{}.SwaggerDoc()["attached"],
				Cell: func(a *storagev1.VolumeAttachment, _ time.Time) any { return a.Status.Attached }},
			kind.Age[storagev1.VolumeAttachment](),
		},
	})
}

func validateAttachment(a, old *storagev1.VolumeAttachment) (errs field.ErrorList) {
	spec := field.NewPath("spec")
	if old == nil {
		errs = append(errs, volumespec.DriverNameAnyCase(a.Spec.Attacher, spec.Child("attacher"))...)
	} else {
		errs = append(errs, volumespec.DriverName(a.Spec.Attacher, spec.Child("attacher"))...)
	}
	source, s := spec.Child("source"), &a.Spec.Source
	const one = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
	switch {
	case s.InlineVolumeSpec == nil && s.PersistentVolumeName == nil:
		errs = append(errs, field.Required(source, one))
	case s.InlineVolumeSpec != nil && s.PersistentVolumeName != nil:
		errs = append(errs, field.Forbidden(source, one))
	case s.PersistentVolumeName != nil && *s.PersistentVolumeName == "":
		errs = append(errs, field.Required(source.Child("persistentVolumeName"), "must specify non empty persistentVolumeName"))
	case s.InlineVolumeSpec != nil:
		errs = append(errs, volumespec.ValidateInline(s.InlineVolumeSpec, source.Child("inlineVolumeSpec"))...)
	}
	for _, msg := range validation.NameIsDNSSubdomain(a.Spec.NodeName, false) {
		errs = append(errs, field.Invalid(spec.Child("nodeName"), a.Spec.NodeName, msg))
	}
	errs = append(errs, attachmentStatus(&a.Status, field.NewPath("status"))...)
	if name := s.PersistentVolumeName; name != nil {
		errs = append(errs, volumespec.ClassName(*name, field.NewPath("spec.source.persistentVolumeName"))...)
	}
	if old != nil {
		errs = append(errs, kind.Declared(a.Spec, old.Spec, spec)...)
	}
	return errs
}

func attachmentStatus(s *storagev1.VolumeAttachmentStatus, path *field.Path) (errs field.ErrorList) {
	if bytesOf(s.AttachmentMetadata) > maxMetadataBytes {
		errs = append(errs, field.TooLong(path.Child("attachmentMetadata"), "", maxMetadataBytes))
	}
	errs = append(errs, volumeError(s.AttachError, path.Child("attachError"))...)
	return append(errs, volumeError(s.DetachError, path.Child("detachError"))...)
}

func volumeError(e *storagev1.VolumeError, path *field.Path) (errs field.ErrorList) {
	if e == nil {
		return nil
	}
	if len(e.Message) > maxErrorBytes {
		errs = append(errs, field.TooLong(path.Child("message"), "", maxErrorBytes))
	}
	if e.ErrorCode != nil && *e.ErrorCode < 0 {
		errs = append(errs, field.Invalid(path.Child("errorCode"), *e.ErrorCode, utilvalidation.InclusiveRangeError(0, math.MaxInt32)))
	}
	return errs
}
