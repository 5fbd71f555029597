// Package resource declares the kinds of resource.k8s.io, a file per kind:
// devices that drivers offer on nodes, and claims to them (KEP-4381).
package resource

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/operation"
	"k8s.io/apimachinery/pkg/api/validate"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	resourcev1 "k8s.io/api/resource/v1"

	"sampan/cluster/kind"
	"sampan/cluster/kind/volumespec"
)

// Kinds is the table of this group.
func Kinds() []*kind.Kind {
	return []*kind.Kind{
		DeviceClass(),
		DeviceTaintRule(),
		ResourceClaim(),
		ResourceClaimTemplate(),
		ResourceSlice(),
	}
}

// Names of drivers are like those of storage drivers.
func driverName(name string, path *field.Path) field.ErrorList {
	return volumespec.DriverName(name, path)
}

const maxPoolName = 253

func poolName(name string, path *field.Path) (errs field.ErrorList) {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	if len(name) > maxPoolName {
		errs = append(errs, field.TooLong(path, "", maxPoolName).WithOrigin("format=k8s-resource-pool-name"))
	}
	for _, part := range strings.Split(name, "/") {
		errs = append(errs, kind.DNSSubdomain(part, path)...)
	}
	return errs
}

// qualifiedName checks a name of an attribute or a capacity: an identifier,
// with the domain of who defines it in front unless that is the driver.
func qualifiedName(name string, path *field.Path) (errs field.ErrorList) {
	domain, id, qualified := strings.Cut(name, "/")
	if !qualified {
		return identifier(name, path)
	}
	if domain == "" {
		errs = append(errs, field.Invalid(path, "", "the domain must not be empty"))
	} else {
		errs = append(errs, driverName(domain, path)...)
	}
	if id == "" {
		return append(errs, field.Invalid(path, "", "the name must not be empty"))
	}
	return append(errs, identifier(id, path)...)
}

func fullyQualifiedName(name *resourcev1.FullyQualifiedName, path *field.Path) field.ErrorList {
	return validate.ResourceFullyQualifiedName(context.Background(), operation.Operation{}, path, name, nil)
}

func identifier(id string, path *field.Path) (errs field.ErrorList) {
	if len(id) > resourcev1.DeviceMaxIDLength {
		errs = append(errs, field.TooLong(path, "", resourcev1.DeviceMaxIDLength))
	}
	for _, msg := range content.IsCIdentifier(id) {
		errs = append(errs, field.Invalid(path, id, msg))
	}
	return errs
}

// each checks a list: how long it is, and every item.
func each[T any](all []T, most int, check func(*T, *field.Path) field.ErrorList, path *field.Path) (errs field.ErrorList) {
	if len(all) > most {
		return field.ErrorList{field.TooMany(path, len(all), most).WithOrigin("maxItems")}
	}
	for i := range all {
		errs = append(errs, check(&all[i], path.Index(i))...)
	}
	return errs
}

// set is each for a list in which no key is twice.
func set[T any, K comparable](all []T, most int, check func(*T, *field.Path) field.ErrorList, key func(*T) K, path *field.Path) (errs field.ErrorList) {
	errs = each(all, most, check, path)
	if len(all) > most {
		return errs
	}
	seen := map[K]bool{}
	for i := range all {
		k := key(&all[i])
		if seen[k] {
			errs = append(errs, field.Duplicate(path.Index(i), k))
		}
		seen[k] = true
	}
	return errs
}

func itself(s *string) string { return *s }

// rawObject checks a JSON object that is for a driver. stored is true for one
// that is in the store already: it may be larger.
func rawObject(raw runtime.RawExtension, stored bool, most int, path *field.Path) field.ErrorList {
	var v any
	switch {
	case len(raw.Raw) == 0:
		return field.ErrorList{field.Required(path, "")}
	case !stored && len(raw.Raw) > most:
		return field.ErrorList{field.TooLong(path, "", most)}
	}
	if err := json.Unmarshal(raw.Raw, &v); err != nil {
		return field.ErrorList{field.Invalid(path, "<value omitted>", fmt.Sprintf("error parsing data as JSON: %v", err.Error()))}
	}
	if v == nil {
		return field.ErrorList{field.Required(path, "")}
	}
	if _, ok := v.(map[string]any); !ok {
		return field.ErrorList{field.Invalid(path, "<value omitted>", "must be a valid JSON object")}
	}
	return nil
}

// selectors checks the expressions that choose devices. One that is stored was
// right when it came.
func selectors(all []resourcev1.DeviceSelector, stored bool, path *field.Path) field.ErrorList {
	return each(all, resourcev1.DeviceSelectorsMaxSize, func(s *resourcev1.DeviceSelector, path *field.Path) field.ErrorList {
		at := path.Child("cel", "expression")
		switch {
		case s.CEL == nil:
			return field.ErrorList{field.Required(path.Child("cel"), "")}
		case stored:
			return nil
		case len(s.CEL.Expression) > resourcev1.CELSelectorExpressionMaxLength:
			return field.ErrorList{field.TooLong(at, "", resourcev1.CELSelectorExpressionMaxLength)}
		}
		return expression(s.CEL.Expression, at)
	}, path)
}

func configuration(c *resourcev1.DeviceConfiguration, stored bool, path *field.Path) (errs field.ErrorList) {
	opaque := path.Child("opaque")
	if c.Opaque == nil {
		return field.ErrorList{field.Required(opaque, "")}
	}
	errs = append(errs, volumespec.DriverNameAnyCase(c.Opaque.Driver, opaque.Child("driver"))...)
	return append(errs, rawObject(c.Opaque.Parameters, stored, resourcev1.OpaqueParametersMaxLength, opaque.Child("parameters"))...)
}

var effects = []resourcev1.DeviceTaintEffect{resourcev1.DeviceTaintEffectNoExecute, resourcev1.DeviceTaintEffectNoSchedule, resourcev1.DeviceTaintEffectNone}

// taint checks a device's taint. old is what it was, or nil: an effect of a
// later version may stay.
func taint(t, old *resourcev1.DeviceTaint, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, metav1validation.ValidateLabelName(t.Key, path.Child("key"))...)
	if t.Value != "" {
		errs = append(errs, kind.LabelValue(t.Value, path.Child("value"))...)
	}
	if old == nil || old.Effect != t.Effect {
		errs = append(errs, kind.OneOf(t.Effect, path.Child("effect"), effects...)...)
	}
	return errs
}

func toleration(t *resourcev1.DeviceToleration, path *field.Path) (errs field.ErrorList) {
	if t.Key != "" {
		errs = append(errs, metav1validation.ValidateLabelName(t.Key, path.Child("key"))...)
	}
	switch t.Operator {
	case resourcev1.DeviceTolerationOpExists:
		if t.Value != "" {
			errs = append(errs, field.Invalid(path.Child("value"), t.Value, "must be empty for operator `Exists`"))
		}
	case resourcev1.DeviceTolerationOpEqual:
		errs = append(errs, kind.LabelValue(t.Value, path.Child("value"))...)
	default:
		errs = append(errs, kind.OneOf(t.Operator, path.Child("operator"), resourcev1.DeviceTolerationOpEqual, resourcev1.DeviceTolerationOpExists)...)
	}
	return append(errs, kind.OneOfIfSet(t.Effect, path.Child("effect"), effects...)...)
}

// bindingConditions checks what a device waits for before a pod is bound, and
// what ends the wait (KEP-5007).
func bindingConditions(ok, failed []string, path *field.Path) (errs field.ErrorList) {
	label := func(s *string, path *field.Path) field.ErrorList { return metav1validation.ValidateLabelName(*s, path) }
	good, bad := path.Child("bindingConditions"), path.Child("bindingFailureConditions")
	errs = append(errs, set(ok, resourcev1.BindingConditionsMaxSize, label, itself, good)...)
	errs = append(errs, set(failed, resourcev1.BindingFailureConditionsMaxSize, label, itself, bad)...)
	for i, f := range failed {
		for _, o := range ok {
			if f == o {
				errs = append(errs, field.Invalid(bad.Index(i), f, "bindingFailureConditions must not overlap with bindingConditions"))
				break
			}
		}
	}
	switch {
	case len(ok) == 0 && len(failed) > 0:
		errs = append(errs, field.Invalid(good, ok, "bindingConditions are required to use bindingFailureConditions"))
	case len(failed) == 0 && len(ok) > 0:
		errs = append(errs, field.Invalid(bad, failed, "bindingFailureConditions are required to use bindingConditions"))
	}
	return errs
}
