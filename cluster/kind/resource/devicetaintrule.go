package resource

import (
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	resourcev1beta2 "k8s.io/api/resource/v1beta2"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// DeviceTaintRule keeps pods off devices, whoever offers these.
func DeviceTaintRule() *kind.Kind {
	doc := resourcev1.DeviceTaint{}.SwaggerDoc()
	text := func(name, what string, of func(*resourcev1.DeviceTaint) string) kind.Column[resourcev1.DeviceTaintRule] {
		return kind.Column[resourcev1.DeviceTaintRule]{Name: name, Description: doc[what],
			Cell: func(r *resourcev1.DeviceTaintRule, _ time.Time) any { return of(&r.Spec.Taint) }}
	}
	return kind.Declare(kind.Of[resourcev1.DeviceTaintRule]{
		GVK:         resourcev1.SchemeGroupVersion.WithKind("DeviceTaintRule"),
		Plural:      "devicetaintrules",
		Stored:      []kind.Version{kind.StoredLike[resourcev1beta2.DeviceTaintRule, resourcev1.DeviceTaintRule](resourcev1beta2.SchemeGroupVersion)},
		Cluster:     true,
		Conditional: true,
		Prepare: func(r, old *resourcev1.DeviceTaintRule) {
			if r.Spec.Taint.TimeAdded == nil {
				switch {
				case old != nil:
					r.Spec.Taint.TimeAdded = old.Spec.Taint.TimeAdded
				case !r.CreationTimestamp.IsZero():
					created := r.CreationTimestamp
					r.Spec.Taint.TimeAdded = &created
				}
			}
		},
		Validate: validateTaintRule,
		Ignored:  kind.Paths("", TaintRuleGaps),
		Spec:     func(r *resourcev1.DeviceTaintRule) any { return &r.Spec },
		Parts: map[string]kind.Part[resourcev1.DeviceTaintRule]{
			"status": {
				Take: func(dst, src *resourcev1.DeviceTaintRule) { dst.Status = src.Status },
				Validate: func(r, _ *resourcev1.DeviceTaintRule) (errs field.ErrorList) {
					at := field.NewPath("status", "conditions")
					errs = append(errs, metav1validation.ValidateConditions(r.Status.Conditions, at)...)
					if n := len(r.Status.Conditions); n > resourcev1.DeviceTaintRuleStatusMaxConditions {
						errs = append(errs, field.TooMany(at, n, resourcev1.DeviceTaintRuleStatusMaxConditions))
					}
					return errs
				},
			},
		},
		Columns: []kind.Column[resourcev1.DeviceTaintRule]{
			text("Key", "key", func(t *resourcev1.DeviceTaint) string { return t.Key }),
			text("Value", "value", func(t *resourcev1.DeviceTaint) string { return t.Value }),
			text("Effect", "effect", func(t *resourcev1.DeviceTaint) string { return string(t.Effect) }),
			{Name: "TimeAdded", Description: doc["timeAdded"],
				Cell: func(r *resourcev1.DeviceTaintRule, now time.Time) any {
					if r.Spec.Taint.TimeAdded == nil {
						return ""
					}
					return kind.Since(*r.Spec.Taint.TimeAdded, now)
				}},
			kind.Age[resourcev1.DeviceTaintRule](),
		},
	})
}

func validateTaintRule(r, old *resourcev1.DeviceTaintRule) (errs field.ErrorList) {
	spec := field.NewPath("spec")
	if s := r.Spec.DeviceSelector; s != nil {
		at := spec.Child("deviceSelector")
		if s.Driver != nil {
			errs = append(errs, driverName(*s.Driver, at.Child("driver"))...)
		}
		if s.Pool != nil {
			errs = append(errs, poolName(*s.Pool, at.Child("pool"))...)
		}
		if s.Device != nil {
			errs = append(errs, kind.DNSLabel(*s.Device, at.Child("device"))...)
		}
	}
	var was *resourcev1.DeviceTaint
	if old != nil {
		was = &old.Spec.Taint
	}
	return append(errs, taint(&r.Spec.Taint, was, spec.Child("taint"))...)
}
