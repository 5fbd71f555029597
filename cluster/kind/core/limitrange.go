package core

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
	"sampan/cluster/kind/podspec"
)

// LimitRange says how much each pod, container or claim of a namespace may
// ask for, and what it asks for if it does not say.
func LimitRange() *kind.Kind {
	return kind.Declare(kind.Of[corev1.LimitRange]{
		GVK:            corev1.SchemeGroupVersion.WithKind("LimitRange"),
		Plural:         "limitranges",
		Rechecked:      true,
		Short:          []string{"limits"},
		CreateOnUpdate: true,
		Default: func(l *corev1.LimitRange) {
			for i := range l.Spec.Limits {
				defaultLimit(&l.Spec.Limits[i])
				for _, list := range []corev1.ResourceList{l.Spec.Limits[i].Max, l.Spec.Limits[i].Min, l.Spec.Limits[i].Default,
					l.Spec.Limits[i].DefaultRequest, l.Spec.Limits[i].MaxLimitRequestRatio} {
					podspec.RoundQuantities(list)
				}
			}
		},
		Prepare: func(l, old *corev1.LimitRange) {
			if old == nil && l.Name == "" { // one without a name gets one, as upstream's alone of all kinds
				l.Name = string(uuid.NewUUID())
			}
		},
		Validate: func(l, _ *corev1.LimitRange) field.ErrorList { return validateLimits(l.Spec.Limits) },
		Columns: []kind.Column[corev1.LimitRange]{
			{Name: "Created At", Type: "date", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"],
				Cell: func(l *corev1.LimitRange, _ time.Time) any { return l.CreationTimestamp.UTC().Format(time.RFC3339) }},
		},
	})
}

// defaultLimit fills what follows from the rest: a container's default limit
// is the most it may have, its default request that limit, or the least.
func defaultLimit(l *corev1.LimitRangeItem) {
	if l.Type != corev1.LimitTypeContainer {
		return
	}
	fill := func(list, from corev1.ResourceList) {
		for name, q := range from {
			if _, ok := list[name]; !ok {
				list[name] = q.DeepCopy()
			}
		}
	}
	if l.Default == nil {
		l.Default = corev1.ResourceList{}
	}
	if l.DefaultRequest == nil {
		l.DefaultRequest = corev1.ResourceList{}
	}
	fill(l.Default, l.Max)
	fill(l.DefaultRequest, l.Default)
	fill(l.DefaultRequest, l.Min)
}

func validateLimits(limits []corev1.LimitRangeItem) (errs field.ErrorList) {
	seen := map[corev1.LimitType]bool{}
	for i := range limits {
		l, at := &limits[i], field.NewPath("spec", "limits").Index(i)
		errs = append(errs, limitType(l.Type, at.Child("type"))...)
		if seen[l.Type] {
			errs = append(errs, field.Duplicate(at.Child("type"), l.Type))
		}
		seen[l.Type] = true
		errs = append(errs, limitNames(l, at)...)
		for _, name := range limited(l) {
			errs = append(errs, limitOrder(l, name, at)...)
		}
	}
	return errs
}

func limitType(t corev1.LimitType, path *field.Path) field.ErrorList {
	if errs := kind.QualifiedName(string(t), path); len(errs) > 0 {
		return errs
	}
	switch t {
	case corev1.LimitTypePod, corev1.LimitTypeContainer, corev1.LimitTypePersistentVolumeClaim:
		return nil
	}
	if strings.Contains(string(t), "/") {
		return nil
	}
	return field.ErrorList{field.Invalid(path, t, "must be a standard limit type or fully qualified")}
}

// limitNames checks the names of what l limits.
func limitNames(l *corev1.LimitRangeItem, at *field.Path) (errs field.ErrorList) {
	check := podspec.ValidateResource
	if l.Type == corev1.LimitTypePod || l.Type == corev1.LimitTypeContainer {
		check = podspec.ValidateContainerResource
	}
	names := func(list corev1.ResourceList, child string) {
		for _, name := range slices.Sorted(maps.Keys(list)) {
			errs = append(errs, check(name, at.Child(child).Key(string(name)))...)
		}
	}
	names(l.Max, "max")
	names(l.Min, "min")
	if l.Type == corev1.LimitTypePod {
		if len(l.Default) > 0 {
			errs = append(errs, field.Forbidden(at.Child("default"), "may not be specified when `type` is 'Pod'"))
		}
		if len(l.DefaultRequest) > 0 {
			errs = append(errs, field.Forbidden(at.Child("defaultRequest"), "may not be specified when `type` is 'Pod'"))
		}
	} else {
		names(l.Default, "default")
		names(l.DefaultRequest, "defaultRequest")
	}
	if l.Type == corev1.LimitTypePersistentVolumeClaim {
		_, least := l.Min[corev1.ResourceStorage]
		_, most := l.Max[corev1.ResourceStorage]
		if !least && !most {
			errs = append(errs, field.Required(at.Child("limits"), "either minimum or maximum storage value is required, but neither was provided"))
		}
	}
	names(l.MaxLimitRequestRatio, "maxLimitRequestRatio")
	return errs
}

// limited are the names in any list of l, sorted.
func limited(l *corev1.LimitRangeItem) []corev1.ResourceName {
	all := map[corev1.ResourceName]bool{}
	lists := []corev1.ResourceList{l.Max, l.Min, l.MaxLimitRequestRatio}
	if l.Type != corev1.LimitTypePod {
		lists = append(lists, l.Default, l.DefaultRequest)
	}
	for _, list := range lists {
		for name := range list {
			all[name] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// limitOrder checks that least ≤ default request ≤ default ≤ most for one
// resource, and that the ratio can be kept.
func limitOrder(l *corev1.LimitRangeItem, name corev1.ResourceName, at *field.Path) (errs field.ErrorList) {
	least, hasLeast := l.Min[name]
	most, hasMost := l.Max[name]
	ratio, hasRatio := l.MaxLimitRequestRatio[name]
	var limit, request resource.Quantity
	var hasLimit, hasRequest bool
	if l.Type != corev1.LimitTypePod {
		limit, hasLimit = l.Default[name]
		request, hasRequest = l.DefaultRequest[name]
	}
	bad := func(child string, q resource.Quantity, format string, args ...any) {
		errs = append(errs, field.Invalid(at.Child(child).Key(string(name)), q, fmt.Sprintf(format, args...)))
	}
	if hasLeast && hasMost && least.Cmp(most) > 0 {
		bad("min", least, "min value %s is greater than max value %s", least.String(), most.String())
	}
	if hasRequest && hasLeast && least.Cmp(request) > 0 {
		bad("defaultRequest", request, "min value %s is greater than default request value %s", least.String(), request.String())
	}
	if hasRequest && hasMost && request.Cmp(most) > 0 {
		bad("defaultRequest", request, "default request value %s is greater than max value %s", request.String(), most.String())
	}
	if hasRequest && hasLimit && request.Cmp(limit) > 0 {
		bad("defaultRequest", request, "default request value %s is greater than default limit value %s", request.String(), limit.String())
	}
	if hasLimit && hasLeast && least.Cmp(limit) > 0 {
		bad("default", least, "min value %s is greater than default value %s", least.String(), limit.String())
	}
	if hasLimit && hasMost && limit.Cmp(most) > 0 {
		bad("default", most, "default value %s is greater than max value %s", limit.String(), most.String())
	}
	if hasRatio && ratio.Cmp(*resource.NewQuantity(1, resource.DecimalSI)) < 0 {
		bad("maxLimitRequestRatio", ratio, "ratio %s is less than 1", ratio.String())
	}
	if hasRatio && hasLeast && hasMost {
		if possible := quotient(most, least); ratio.AsApproximateFloat64() > possible {
			bad("maxLimitRequestRatio", ratio, "ratio %s is greater than max/min = %f", ratio.String(), possible)
		}
	}
	if !podspec.Overcommit(name) && hasLimit && hasRequest && limit.Cmp(request) != 0 {
		bad("defaultRequest", request, "default value %s must equal to defaultRequest value %s in %s", limit.String(), request.String(), name)
	}
	return errs
}

// quotient is a/b, infinite for a b of 0.
func quotient(a, b resource.Quantity) float64 {
	if b.IsZero() {
		return math.Inf(1)
	}
	return a.AsApproximateFloat64() / b.AsApproximateFloat64()
}
