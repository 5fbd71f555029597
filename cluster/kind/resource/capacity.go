package resource

import (
	"fmt"
	"slices"

	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// capacity checks how much of a device there is, and how a claim may ask for a
// part of it (KEP-5075). shared is true for a device that several may have.
func capacity(c *resourcev1.DeviceCapacity, shared bool, path *field.Path) (errs field.ErrorList) {
	p, at := c.RequestPolicy, path.Child("requestPolicy")
	switch {
	case p == nil:
	case !shared:
		errs = append(errs, field.Forbidden(at, "allowMultipleAllocations must be true"))
	case len(p.ValidValues) > 0 && p.ValidRange != nil:
		errs = append(errs, field.Forbidden(at, `exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time`))
	case len(p.ValidValues) > 0:
		if p.Default == nil {
			return field.ErrorList{field.Required(at.Child("default"), "required when validValues is defined")}
		}
		errs = append(errs, validValues(p, c.Value, at.Child("validValues"))...)
	case p.ValidRange != nil:
		if p.Default == nil {
			return field.ErrorList{field.Required(at.Child("default"), "required when validRange is defined")}
		}
		errs = append(errs, validRange(*p.Default, c.Value, p.ValidRange, at.Child("validRange"))...)
	}
	return errs
}

const maxValues = 10 // upstream's CapacityRequestPolicyDiscreteMaxOptions

func validValues(p *resourcev1.CapacityRequestPolicy, most resource.Quantity, path *field.Path) (errs field.ErrorList) {
	for i := range len(p.ValidValues) - 1 {
		if next := p.ValidValues[i+1]; p.ValidValues[i].Cmp(next) > 0 {
			errs = append(errs, field.Invalid(path.Index(i+1), next.String(), "values must be sorted in ascending order"))
		}
	}
	errs = append(errs, set(p.ValidValues, maxValues, func(q *resource.Quantity, path *field.Path) field.ErrorList {
		if q.Cmp(most) <= 0 {
			return nil
		}
		return field.ErrorList{field.Invalid(path, q.String(), "option is larger than capacity value: "+most.String())}
	}, func(q *resource.Quantity) string { return q.AsDec().String() }, path)...)
	if !slices.ContainsFunc(p.ValidValues, func(q resource.Quantity) bool { return q.Cmp(*p.Default) == 0 }) {
		errs = append(errs, field.Invalid(path, p.Default.String(), "default value is not valid according to the requestPolicy"))
	}
	return errs
}

func validRange(value, most resource.Quantity, r *resourcev1.CapacityRequestPolicyRange, path *field.Path) (errs field.ErrorList) {
	if r.Min == nil {
		return field.ErrorList{field.Required(path.Child("min"), "required when validRange is defined")}
	}
	invalid := func(name string, q resource.Quantity, format string, args ...any) {
		errs = append(errs, field.Invalid(path.Child(name), q.String(), fmt.Sprintf(format, args...)))
	}
	if r.Min.Cmp(most) > 0 {
		invalid("min", *r.Min, "min is larger than capacity value: %s", most.String())
	}
	if value.Cmp(*r.Min) < 0 {
		invalid("default", value, "default is less than min: %s", r.Min.String())
	}
	if r.Max != nil {
		if r.Min.Cmp(*r.Max) > 0 {
			invalid("max", *r.Min, "min is larger than max: %s", r.Max.String())
		}
		if r.Max.Cmp(most) > 0 {
			invalid("max", *r.Max, "max is larger than capacity value: %s", most.String())
		}
		if value.Cmp(*r.Max) > 0 {
			invalid("default", value, "default is more than max: %s", r.Max.String())
		}
	}
	if r.Step == nil {
		return errs
	}
	if r.Step.Sign() <= 0 {
		invalid("step", *r.Step, "must be greater than zero")
		return errs
	}
	first := r.Min.DeepCopy()
	first.Add(*r.Step)
	if first.Cmp(most) > 0 {
		invalid("step", *r.Step, "one step %s is larger than capacity value: %s", first.String(), most.String())
	}
	step := func(q resource.Quantity) {
		if n := r.Step.MilliValue(); n > 0 && (q.MilliValue()-r.Min.MilliValue())%n != 0 {
			invalid("step", q, "value is not a multiple of a given step (%s) from (%s)", r.Step.String(), r.Min.String())
		}
	}
	step(value)
	if r.Max != nil {
		step(*r.Max)
	}
	return errs
}
