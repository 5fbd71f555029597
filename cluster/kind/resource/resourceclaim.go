package resource

import (
	"fmt"
	"strings"
	"time"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// ResourceClaim asks for devices, and says which it got.
func ResourceClaim() *kind.Kind {
	return kind.Declare(kind.Of[resourcev1.ResourceClaim]{
		GVK:       resourcev1.SchemeGroupVersion.WithKind("ResourceClaim"),
		Plural:    "resourceclaims",
		Rechecked: true,
		Default:   func(c *resourcev1.ResourceClaim) { defaultClaim(&c.Spec) },
		Validate:  validateClaim,
		Ignored:   kind.Paths("", ClaimGaps),

		ReturnDeleted: true, // as upstream
		Parts: map[string]kind.Part[resourcev1.ResourceClaim]{
			"status": {
				Take:     func(dst, src *resourcev1.ResourceClaim) { dst.Status = src.Status },
				Prepare:  dropDeallocated,
				Validate: validateClaimStatus,
			},
		},
		Columns: []kind.Column[resourcev1.ResourceClaim]{
			{Name: "State", Description: "A summary of the current state (allocated, pending, reserved, etc.).",
				Cell: func(c *resourcev1.ResourceClaim, _ time.Time) any { return stateCell(c) }},
			kind.Age[resourcev1.ResourceClaim](),
		},
	})
}

// ResourceClaimTemplate is what a claim is made from for each pod.
func ResourceClaimTemplate() *kind.Kind {
	return kind.Declare(kind.Of[resourcev1.ResourceClaimTemplate]{
		GVK:       resourcev1.SchemeGroupVersion.WithKind("ResourceClaimTemplate"),
		Plural:    "resourceclaimtemplates",
		Rechecked: true,
		Default:   func(t *resourcev1.ResourceClaimTemplate) { defaultClaim(&t.Spec.Spec) },
		Validate: func(t, old *resourcev1.ResourceClaimTemplate) field.ErrorList {
			spec := field.NewPath("spec")
			errs := append(templateMeta(&t.Spec, spec.Child("metadata")), claimSpec(&t.Spec.Spec, spec.Child("spec"))...)
			if old != nil {
				errs = append(errs, kind.Immutable(t.Spec, old.Spec, spec)...)
			}
			return errs
		},
		Ignored: kind.Paths("", TemplateGaps),

		ReturnDeleted: true, // as upstream
		Columns:       []kind.Column[resourcev1.ResourceClaimTemplate]{kind.Age[resourcev1.ResourceClaimTemplate]()},
	})
}

func stateCell(c *resourcev1.ResourceClaim) string {
	var states []string
	if c.DeletionTimestamp != nil {
		states = append(states, "deleted")
	}
	switch {
	case c.Status.Allocation != nil:
		states = append(states, "allocated")
		if len(c.Status.ReservedFor) > 0 {
			states = append(states, "reserved")
		}
	case c.DeletionTimestamp == nil:
		states = append(states, "pending")
	}
	return strings.Join(states, ",")
}

func defaultClaim(s *resourcev1.ResourceClaimSpec) {
	fill := func(mode *resourcev1.DeviceAllocationMode, count *int64) {
		if *mode == "" {
			*mode = resourcev1.DeviceAllocationModeExactCount
		}
		if *mode == resourcev1.DeviceAllocationModeExactCount && *count == 0 {
			*count = 1
		}
	}
	for i := range s.Devices.Requests {
		r := &s.Devices.Requests[i]
		if r.Exactly != nil {
			fill(&r.Exactly.AllocationMode, &r.Exactly.Count)
		}
		for j := range r.FirstAvailable {
			fill(&r.FirstAvailable[j].AllocationMode, &r.FirstAvailable[j].Count)
		}
	}
}

func validateClaim(c, old *resourcev1.ResourceClaim) field.ErrorList {
	if old != nil {
		return kind.Declared(c.Spec, old.Spec, field.NewPath("spec"))
	}
	return claimSpec(&c.Spec, field.NewPath("spec"))
}

// requests are the names of a claim's requests, each with those of its
// alternatives.
type requests map[string]map[string]bool

func requestsOf(c *resourcev1.DeviceClaim) requests {
	names := requests{}
	for _, r := range c.Requests {
		sub := map[string]bool{}
		for _, s := range r.FirstAvailable {
			sub[s.Name] = true
		}
		names[r.Name] = sub
	}
	return names
}

// ref checks a reference to a request, or to one alternative of it.
func (names requests) ref(ref *string, path *field.Path) (errs field.ErrorList) {
	const unknown = "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'"
	parts := strings.Split(*ref, "/")
	if len(parts) > 2 {
		return field.ErrorList{field.Invalid(path, *ref, unknown)}
	}
	for _, p := range parts {
		errs = append(errs, kind.DNSLabel(p, path)...)
	}
	sub, ok := names[parts[0]]
	if !ok || len(parts) == 2 && !sub[parts[1]] {
		errs = append(errs, field.Invalid(path, *ref, unknown))
	}
	return errs
}

func claimSpec(s *resourcev1.ResourceClaimSpec, path *field.Path) (errs field.ErrorList) {
	d, devices := &s.Devices, path.Child("devices")
	names := requestsOf(d)
	errs = append(errs, set(d.Requests, resourcev1.DeviceRequestsMaxSize, request, func(r *resourcev1.DeviceRequest) string { return r.Name }, devices.Child("requests"))...)
	errs = append(errs, each(d.Constraints, resourcev1.DeviceConstraintsMaxSize, func(c *resourcev1.DeviceConstraint, path *field.Path) (errs field.ErrorList) {
		errs = append(errs, set(c.Requests, resourcev1.DeviceRequestsMaxSize, names.ref, itself, path.Child("requests"))...)
		errs = append(errs, fullyQualifiedName(c.MatchAttribute, path.Child("matchAttribute"))...)
		errs = append(errs, fullyQualifiedName(c.DistinctAttribute, path.Child("distinctAttribute"))...)
		if c.MatchAttribute == nil && c.DistinctAttribute == nil { // upstream's words, although none is set
			errs = append(errs, field.Required(path, `exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set`))
		}
		return errs
	}, devices.Child("constraints"))...)
	return append(errs, each(d.Config, resourcev1.DeviceConfigMaxSize, func(c *resourcev1.DeviceClaimConfiguration, path *field.Path) field.ErrorList {
		return append(set(c.Requests, resourcev1.DeviceRequestsMaxSize, names.ref, itself, path.Child("requests")), configuration(&c.DeviceConfiguration, false, path)...)
	}, devices.Child("config"))...)
}

func request(r *resourcev1.DeviceRequest, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, kind.DNSLabel(r.Name, path.Child("name"))...)
	switch {
	case r.Exactly == nil && len(r.FirstAvailable) == 0:
		errs = append(errs, field.Required(path, "exactly one of `exactly` or `firstAvailable` is required"))
	case r.Exactly != nil && len(r.FirstAvailable) > 0:
		errs = append(errs, field.Invalid(path, nil, "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set"))
	case r.Exactly != nil:
		e := r.Exactly
		errs = append(errs, wanted(e.DeviceClassName, e.Selectors, e.AllocationMode, e.Count, e.Tolerations, path.Child("exactly"))...)
	default:
		errs = append(errs, set(r.FirstAvailable, resourcev1.FirstAvailableDeviceRequestMaxSize, func(s *resourcev1.DeviceSubRequest, path *field.Path) field.ErrorList {
			return append(kind.DNSLabel(s.Name, path.Child("name")), wanted(s.DeviceClassName, s.Selectors, s.AllocationMode, s.Count, s.Tolerations, path)...)
		}, func(s *resourcev1.DeviceSubRequest) string { return s.Name }, path.Child("firstAvailable"))...)
	}
	return errs
}

// wanted checks what a request and its alternatives have in common.
func wanted(class string, choice []resourcev1.DeviceSelector, mode resourcev1.DeviceAllocationMode, count int64, tolerations []resourcev1.DeviceToleration,
	path *field.Path) (errs field.ErrorList) {
	if at := path.Child("deviceClassName"); class == "" {
		errs = append(errs, field.Required(at, ""))
	} else {
		errs = append(errs, kind.DNSSubdomain(class, at)...)
	}
	errs = append(errs, selectors(choice, false, path.Child("selectors"))...)
	switch mode {
	case resourcev1.DeviceAllocationModeAll:
		if count != 0 {
			errs = append(errs, field.Invalid(path.Child("count"), count, fmt.Sprintf("must not be specified when allocationMode is '%s'", mode)))
		}
	case resourcev1.DeviceAllocationModeExactCount:
		if count <= 0 {
			errs = append(errs, field.Invalid(path.Child("count"), count, "must be greater than zero"))
		}
	default:
		errs = append(errs, field.NotSupported(path.Child("allocationMode"), mode,
			[]resourcev1.DeviceAllocationMode{resourcev1.DeviceAllocationModeAll, resourcev1.DeviceAllocationModeExactCount}))
	}
	return append(errs, each(tolerations, resourcev1.DeviceTolerationsMaxLength, toleration, path.Child("tolerations"))...)
}
