package core

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
	"sampan/cluster/kind/podspec"
)

// ResourceQuota bounds what all objects of a namespace may have together.
func ResourceQuota() *kind.Kind {
	return kind.Declare(kind.Of[corev1.ResourceQuota]{
		GVK:    corev1.SchemeGroupVersion.WithKind("ResourceQuota"),
		Plural: "resourcequotas",
		Short:  []string{"quota"},
		Default: func(q *corev1.ResourceQuota) {
			for _, list := range []corev1.ResourceList{q.Spec.Hard, q.Status.Hard, q.Status.Used} {
				podspec.RoundQuantities(list)
			}
		},
		Validate: validateQuota,
		Warn:     quotaWarnings,

		ReturnDeleted: true,
		Parts: map[string]kind.Part[corev1.ResourceQuota]{
			"status": {
				Take:         func(dst, src *corev1.ResourceQuota) { dst.Status = src.Status },
				WithMetadata: true,
				Validate:     func(q, _ *corev1.ResourceQuota) field.ErrorList { return quotaStatus(&q.Status) },
			},
		},
		Columns: []kind.Column[corev1.ResourceQuota]{
			{Name: "Request", Description: "Request represents a minimum amount of cpu/memory that a container may consume.",
				Cell: func(q *corev1.ResourceQuota, _ time.Time) any { return quotaCell(q, false) }},
			{Name: "Limit", Description: "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.",
				Cell: func(q *corev1.ResourceQuota, _ time.Time) any { return quotaCell(q, true) }},
			kind.Age[corev1.ResourceQuota](),
		},
	})
}

// quotaCell lists what is used of what is there, of limits or of the rest.
func quotaCell(q *corev1.ResourceQuota, limits bool) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(q.Status.Hard)) {
		if strings.HasPrefix(string(name), "limits.") != limits {
			continue
		}
		used, hard := q.Status.Used[name], q.Status.Hard[name]
		parts = append(parts, fmt.Sprintf("%s: %s/%s", name, used.String(), hard.String()))
	}
	return strings.Join(parts, ", ")
}

func validateQuota(q, old *corev1.ResourceQuota) field.ErrorList {
	spec := field.NewPath("spec")
	errs := quotaAmounts(q.Spec.Hard, spec.Child("hard"))
	errs = append(errs, quotaScopes(&q.Spec, spec.Child("scopes"))...)
	if q.Spec.ScopeSelector != nil {
		errs = append(errs, quotaSelector(&q.Spec, spec.Child("scopeSelector", "matchExpressions"))...)
	}
	if old == nil {
		return append(errs, quotaStatus(&q.Status)...)
	}
	if !maps.Equal(setOf(q.Spec.Scopes), setOf(old.Spec.Scopes)) {
		errs = append(errs, field.Invalid(spec.Child("scopes"), q.Spec.Scopes, "field is immutable"))
	}
	return errs
}

func setOf(all []corev1.ResourceQuotaScope) map[corev1.ResourceQuotaScope]bool {
	set := map[corev1.ResourceQuotaScope]bool{}
	for _, s := range all {
		set[s] = true
	}
	return set
}

func quotaStatus(s *corev1.ResourceQuotaStatus) field.ErrorList {
	return append(quotaAmounts(s.Hard, field.NewPath("status", "hard")), quotaAmounts(s.Used, field.NewPath("status", "used"))...)
}

func quotaAmounts(list corev1.ResourceList, path *field.Path) (errs field.ErrorList) {
	for _, name := range slices.Sorted(maps.Keys(list)) {
		at := path.Key(string(name))
		errs = append(errs, podspec.ValidateResource(name, at)...)
		if !strings.Contains(string(name), "/") && !podspec.StandardQuota(name) {
			errs = append(errs, field.Invalid(at, name, "must be a standard resource for quota"))
		}
		errs = append(errs, quotaAmount(name, list[name], at)...)
	}
	return errs
}

func quotaAmount(name corev1.ResourceName, q resource.Quantity, path *field.Path) (errs field.ErrorList) {
	if q.Sign() < 0 {
		errs = append(errs, field.Invalid(path, q.String(), "must be greater than or equal to 0").WithOrigin("minimum"))
	}
	whole := podspec.Extended(name)
	switch name {
	case corev1.ResourcePods, corev1.ResourceQuotas, corev1.ResourceServices, corev1.ResourceReplicationControllers, corev1.ResourceSecrets,
		corev1.ResourceConfigMaps, corev1.ResourcePersistentVolumeClaims, corev1.ResourceServicesNodePorts, corev1.ResourceServicesLoadBalancers:
		whole = true
	}
	if whole && q.MilliValue()%1000 != 0 {
		errs = append(errs, field.Invalid(path, q, "must be an integer"))
	}
	return errs
}

// scopeFits says whether a scope can select what a resource is about.
func scopeFits(scope corev1.ResourceQuotaScope, name corev1.ResourceName) bool {
	switch scope {
	case corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeNotBestEffort,
		corev1.ResourceQuotaScopePriorityClass, corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		switch name {
		case corev1.ResourcePods, corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceLimitsCPU, corev1.ResourceLimitsMemory,
			corev1.ResourceRequestsCPU, corev1.ResourceRequestsMemory:
			return true
		}
		return false
	case corev1.ResourceQuotaScopeBestEffort:
		return name == corev1.ResourcePods
	case corev1.ResourceQuotaScopeVolumeAttributesClass:
		return name == corev1.ResourcePersistentVolumeClaims || name == corev1.ResourceRequestsStorage
	}
	return true
}

func knownScope(s corev1.ResourceQuotaScope) bool {
	switch s {
	case corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeBestEffort,
		corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopePriorityClass, corev1.ResourceQuotaScopeVolumeAttributesClass,
		corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return true
	}
	return false
}

func unfitting(s *corev1.ResourceQuotaSpec, scope corev1.ResourceQuotaScope, value any, path *field.Path) (errs field.ErrorList) {
	for _, name := range slices.Sorted(maps.Keys(s.Hard)) {
		if podspec.StandardQuota(name) && !scopeFits(scope, name) {
			errs = append(errs, field.Invalid(path, value, "unsupported scope applied to resource"))
		}
	}
	return errs
}

// conflicting reports scopes of which no object can have both.
func conflicting(scopes map[corev1.ResourceQuotaScope]bool, s *corev1.ResourceQuotaSpec, path *field.Path) (errs field.ErrorList) {
	for _, pair := range [][2]corev1.ResourceQuotaScope{
		{corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort},
		{corev1.ResourceQuotaScopeTerminating, corev1.ResourceQuotaScopeNotTerminating},
	} {
		if scopes[pair[0]] && scopes[pair[1]] {
			errs = append(errs, field.Invalid(path, s.Scopes, "conflicting scopes"))
		}
	}
	return errs
}

func quotaScopes(s *corev1.ResourceQuotaSpec, path *field.Path) (errs field.ErrorList) {
	for _, scope := range s.Scopes {
		if !knownScope(scope) {
			errs = append(errs, field.Invalid(path, s.Scopes, "unsupported scope"))
		}
		errs = append(errs, unfitting(s, scope, s.Scopes, path)...)
	}
	return append(errs, conflicting(setOf(s.Scopes), s, path)...)
}

func quotaSelector(s *corev1.ResourceQuotaSpec, path *field.Path) (errs field.ErrorList) {
	scopes := map[corev1.ResourceQuotaScope]bool{}
	for _, r := range s.ScopeSelector.MatchExpressions {
		if !knownScope(r.ScopeName) {
			errs = append(errs, field.Invalid(path.Child("scopeName"), r.ScopeName, "unsupported scope"))
		}
		errs = append(errs, unfitting(s, r.ScopeName, s.ScopeSelector, path)...)
		switch r.ScopeName {
		case corev1.ResourceQuotaScopeBestEffort, corev1.ResourceQuotaScopeNotBestEffort, corev1.ResourceQuotaScopeTerminating,
			corev1.ResourceQuotaScopeNotTerminating, corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
			if r.Operator != corev1.ScopeSelectorOpExists {
				errs = append(errs, field.Invalid(path.Child("operator"), r.Operator, "must be 'Exists' when scope is any of "+
					"ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, "+
					"ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"))
			}
		}
		switch r.Operator {
		case corev1.ScopeSelectorOpIn, corev1.ScopeSelectorOpNotIn:
			if len(r.Values) == 0 {
				errs = append(errs, field.Required(path.Child("values"),
					"must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"))
			}
		case corev1.ScopeSelectorOpExists, corev1.ScopeSelectorOpDoesNotExist:
			if len(r.Values) != 0 {
				errs = append(errs, field.Invalid(path.Child("values"), r.Values,
					"must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"))
			}
		default:
			errs = append(errs, field.Invalid(path.Child("operator"), r.Operator, "not a valid selector operator"))
		}
		scopes[r.ScopeName] = true
	}
	return append(errs, conflicting(scopes, s, path)...)
}

// quotaWarnings names requests that are bounded less tightly than limits.
func quotaWarnings(q, old *corev1.ResourceQuota) (warnings []string) {
	if old != nil {
		return nil
	}
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceStorage, corev1.ResourceEphemeralStorage} {
		asked := "requests." + name
		request, ok := q.Spec.Hard[asked]
		if !ok && (name == corev1.ResourceCPU || name == corev1.ResourceMemory) {
			asked = name
			request, ok = q.Spec.Hard[name]
		}
		limit, limited := q.Spec.Hard["limits."+name]
		if ok && limited && request.Cmp(limit) > 0 {
			warnings = append(warnings, fmt.Sprintf("ResourceQuota %s (%s) should be less than %s (%s)", asked, request.String(), "limits."+name, limit.String()))
		}
	}
	return warnings
}
