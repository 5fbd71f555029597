package storage

import (
	"strings"
	"time"

	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// CSIDriver says what a storage driver wants from the cluster.
func CSIDriver() *kind.Kind {
	doc := storagev1.CSIDriverSpec{}.SwaggerDoc()
	flag := func(name, what string, of func(*storagev1.CSIDriverSpec) *bool, unset bool) kind.Column[storagev1.CSIDriver] {
		return kind.Column[storagev1.CSIDriver]{Name: name, Type: "boolean", Description: doc[what],
			Cell: func(d *storagev1.CSIDriver, _ time.Time) any {
				if p := of(&d.Spec); p != nil {
					return *p
				}
				return unset
			}}
	}
	return kind.Declare(kind.Of[storagev1.CSIDriver]{
		GVK:         storagev1.SchemeGroupVersion.WithKind("CSIDriver"),
		Plural:      "csidrivers",
		Cluster:     true,
		Conditional: true,
		Default:     defaultDriver,
		Validate:    validateDriver,
		Warn:        driverWarnings,
		Ignored:     kind.Paths("", CSIDriverGaps),
		Prepare: func(d, old *storagev1.CSIDriver) {
			// Upstream counts from nothing.
			if old != nil && !kind.Equal(d.Spec, old.Spec) {
				d.Generation = old.Generation + 1
			}
		},

		ReturnDeleted: true, // as upstream
		Columns: []kind.Column[storagev1.CSIDriver]{
			flag("AttachRequired", "attachRequired", func(s *storagev1.CSIDriverSpec) *bool { return s.AttachRequired }, true),
			flag("PodInfoOnMount", "podInfoOnMount", func(s *storagev1.CSIDriverSpec) *bool { return s.PodInfoOnMount }, false),
			flag("StorageCapacity", "storageCapacity", func(s *storagev1.CSIDriverSpec) *bool { return s.StorageCapacity }, false),
			{Name: "TokenRequests", Description: doc["tokenRequests"],
				Cell: func(d *storagev1.CSIDriver, _ time.Time) any {
					if d.Spec.TokenRequests == nil {
						return "<unset>"
					}
					var audiences []string
					for _, t := range d.Spec.TokenRequests {
						audiences = append(audiences, t.Audience)
					}
					return strings.Join(audiences, ",")
				}},
			flag("RequiresRepublish", "requiresRepublish", func(s *storagev1.CSIDriverSpec) *bool { return s.RequiresRepublish }, false),
			{Name: "Modes", Description: doc["volumeLifecycleModes"],
				Cell: func(d *storagev1.CSIDriver, _ time.Time) any {
					var modes []string
					for _, m := range d.Spec.VolumeLifecycleModes {
						modes = append(modes, string(m))
					}
					if len(modes) == 0 {
						return "<none>"
					}
					return strings.Join(modes, ",")
				}},
			kind.Age[storagev1.CSIDriver](),
		},
	})
}

func defaultDriver(d *storagev1.CSIDriver) {
	s := &d.Spec
	for _, f := range []struct {
		to    **bool
		value bool
	}{{&s.AttachRequired, true}, {&s.PodInfoOnMount, false}, {&s.StorageCapacity, false}, {&s.RequiresRepublish, false},
		{&s.SELinuxMount, false}, {&s.PreventPodSchedulingIfMissing, false}} {
		if *f.to == nil {
			*f.to = &f.value
		}
	}
	if s.FSGroupPolicy == nil {
		policy := storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy
		s.FSGroupPolicy = &policy
	}
	if len(s.VolumeLifecycleModes) == 0 {
		s.VolumeLifecycleModes = []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent}
	}
}

func validateDriver(d, old *storagev1.CSIDriver) (errs field.ErrorList) {
	s, spec := &d.Spec, field.NewPath("spec")
	for _, f := range []struct {
		name string
		set  bool
	}{{"attachedRequired", s.AttachRequired != nil}, {"podInfoOnMount", s.PodInfoOnMount != nil}, {"storageCapacity", s.StorageCapacity != nil}} {
		if !f.set {
			errs = append(errs, field.Required(spec.Child(f.name), ""))
		}
	}
	if p := s.FSGroupPolicy; p != nil {
		switch *p {
		case storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy, storagev1.FileFSGroupPolicy, storagev1.NoneFSGroupPolicy:
		default:
			errs = append(errs, field.NotSupported(spec.Child("fsGroupPolicy"), *p, []storagev1.FSGroupPolicy{
				storagev1.FileFSGroupPolicy, storagev1.NoneFSGroupPolicy, storagev1.ReadWriteOnceWithFSTypeFSGroupPolicy}))
		}
	}
	errs = append(errs, tokenRequests(s.TokenRequests, spec.Child("tokenRequests"))...)
	for _, m := range s.VolumeLifecycleModes {
		if m != storagev1.VolumeLifecyclePersistent && m != storagev1.VolumeLifecycleEphemeral {
			errs = append(errs, field.NotSupported(spec.Child("volumeLifecycleModes"), m,
				[]storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent, storagev1.VolumeLifecycleEphemeral}))
		}
	}
	if s.SELinuxMount == nil {
		errs = append(errs, field.Required(spec.Child("seLinuxMount"), ""))
	}
	if p := s.NodeAllocatableUpdatePeriodSeconds; p != nil && *p < 10 {
		errs = append(errs, field.Invalid(spec.Child("nodeAllocatableUpdatePeriodSeconds"), *p, "must be greater than or equal to 10 seconds"))
	}
	if s.ServiceAccountTokenInSecrets != nil && len(s.TokenRequests) == 0 {
		errs = append(errs, field.Invalid(spec.Child("serviceAccountTokenInSecrets"), s.ServiceAccountTokenInSecrets,
			"serviceAccountTokenInSecrets is set but no tokenRequests are specified"))
	}
	if s.PreventPodSchedulingIfMissing == nil {
		errs = append(errs, field.Required(spec.Child("preventPodSchedulingIfMissing"), ""))
	}
	if old != nil {
		errs = append(errs, kind.Immutable(s.AttachRequired, old.Spec.AttachRequired, spec.Child("attachedRequired"))...)
		errs = append(errs, kind.Immutable(s.VolumeLifecycleModes, old.Spec.VolumeLifecycleModes, spec.Child("volumeLifecycleModes"))...)
	}
	return errs
}

func tokenRequests(all []storagev1.TokenRequest, path *field.Path) (errs field.ErrorList) {
	seen := map[string]bool{}
	for i, t := range all {
		at := path.Index(i)
		if seen[t.Audience] {
			errs = append(errs, field.Duplicate(at.Child("audience"), t.Audience))
			continue
		}
		seen[t.Audience] = true
		if n := t.ExpirationSeconds; n != nil && *n < 10*60 {
			errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *n, "may not specify a duration less than 10 minutes"))
		} else if n != nil && *n > 1<<32 {
			errs = append(errs, field.Invalid(at.Child("expirationSeconds"), *n, "may not specify a duration larger than 2^32 seconds"))
		}
	}
	return errs
}

func driverWarnings(d, old *storagev1.CSIDriver) []string {
	if len(d.Spec.TokenRequests) == 0 || d.Spec.ServiceAccountTokenInSecrets != nil || old != nil && kind.Equal(old.Spec.TokenRequests, d.Spec.TokenRequests) {
		return nil
	}
	return []string{"spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes"}
}
