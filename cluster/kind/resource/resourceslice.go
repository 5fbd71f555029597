package resource

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
	"sampan/cluster/kind/podspec"
)

// ResourceSlice is a part of the devices that a driver offers.
func ResourceSlice() *kind.Kind {
	node := func(s *resourcev1.ResourceSlice) string {
		if s.Spec.NodeName == nil {
			return ""
		}
		return *s.Spec.NodeName
	}
	text := func(name, description string, of func(*resourcev1.ResourceSlice) string) kind.Column[resourcev1.ResourceSlice] {
		return kind.Column[resourcev1.ResourceSlice]{Name: name, Description: description,
			Cell: func(s *resourcev1.ResourceSlice, _ time.Time) any { return of(s) }}
	}
	doc := resourcev1.ResourceSliceSpec{}.SwaggerDoc()
	return kind.Declare(kind.Of[resourcev1.ResourceSlice]{
		GVK:     resourcev1.SchemeGroupVersion.WithKind("ResourceSlice"),
		Plural:  "resourceslices",
		Cluster: true,
		Prepare: func(s, old *resourcev1.ResourceSlice) {
			for i := range s.Spec.Devices {
				for j := range s.Spec.Devices[i].Taints {
					if t := &s.Spec.Devices[i].Taints[j]; t.TimeAdded == nil && !s.CreationTimestamp.IsZero() {
						created := s.CreationTimestamp
						t.TimeAdded = &created
					}
				}
			}
			// Upstream has not switched these on.
			if old == nil || old.Spec.PartitionTypeAttribute == nil {
				s.Spec.PartitionTypeAttribute = nil
			}
			if old == nil || len(old.Spec.SkipNodeOperations) == 0 {
				s.Spec.SkipNodeOperations = nil
			}
		},
		Validate: validateSlice,
		Warn: func(s, _ *resourcev1.ResourceSlice) []string {
			if d := s.Spec.Driver; d != strings.ToLower(d) {
				return []string{fmt.Sprintf("spec.driver: driver names should be lowercase; %q contains uppercase characters", d)}
			}
			return nil
		},
		Ignored: kind.Paths("", SliceGaps),
		Spec:    func(s *resourcev1.ResourceSlice) any { return &s.Spec },

		ReturnDeleted: true, // as upstream
		Columns: []kind.Column[resourcev1.ResourceSlice]{
			text("Node", doc["nodeName"], func(s *resourcev1.ResourceSlice) string {
				if name := node(s); name != "" {
					return name
				}
				return "<unset>"
			}),
			text("Driver", doc["driver"], func(s *resourcev1.ResourceSlice) string { return s.Spec.Driver }),
			text("Pool", resourcev1.ResourcePool{}.SwaggerDoc()["name"], func(s *resourcev1.ResourceSlice) string { return s.Spec.Pool.Name }),
			kind.Age[resourcev1.ResourceSlice](),
		},
		Fields: map[string]func(*resourcev1.ResourceSlice) string{
			resourcev1.ResourceSliceSelectorNodeName: node,
			resourcev1.ResourceSliceSelectorDriver:   func(s *resourcev1.ResourceSlice) string { return s.Spec.Driver },
			resourcev1.ResourceSliceSelectorPoolName: func(s *resourcev1.ResourceSlice) string { return s.Spec.Pool.Name },
		},
	})
}

func validateSlice(s, old *resourcev1.ResourceSlice) (errs field.ErrorList) {
	spec, path := &s.Spec, field.NewPath("spec")
	errs = append(errs, driverName(spec.Driver, path.Child("driver"))...)
	pool := path.Child("pool")
	errs = append(errs, poolName(spec.Pool.Name, pool.Child("name"))...)
	if spec.Pool.ResourceSliceCount <= 0 {
		errs = append(errs, field.Invalid(pool.Child("resourceSliceCount"), spec.Pool.ResourceSliceCount, "must be greater than zero"))
	}
	if spec.Pool.Generation < 0 {
		errs = append(errs, field.Invalid(pool.Child("generation"), spec.Pool.Generation, "must be greater than or equal to zero"))
	}
	if old != nil {
		errs = append(errs, kind.Immutable(spec.Pool.Name, old.Spec.Pool.Name, pool.Child("name"))...)
		errs = append(errs, kind.Immutable(spec.Driver, old.Spec.Driver, path.Child("driver"))...)
		errs = append(errs, kind.Immutable(spec.NodeName, old.Spec.NodeName, path.Child("nodeName"))...)
	}
	where := place{node: spec.NodeName, selector: spec.NodeSelector, all: spec.AllNodes, perDevice: spec.PerDeviceNodeSelection, emptyNode: "must be either unset or set to a non-empty string"}
	chosen, bad := where.check(path)
	errs = append(errs, bad...)
	if spec.NodeSelector != nil && len(spec.NodeSelector.NodeSelectorTerms) != 1 {
		errs = append(errs, field.Invalid(path.Child("nodeSelector", "nodeSelectorTerms"), spec.NodeSelector.NodeSelectorTerms, "must have exactly one node selector term"))
	}
	const one = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"
	switch len(chosen) {
	case 0:
		errs = append(errs, field.Required(path, one))
	case 1:
	default:
		errs = append(errs, field.Invalid(path, "{"+strings.Join(chosen, ", ")+"}", one+", but multiple fields are set"))
	}
	if spec.SharedCounters != nil && spec.Devices != nil {
		errs = append(errs, field.Invalid(path, "", "only one of `sharedCounters` or `devices` is allowed"))
	}
	most := resourcev1.ResourceSliceMaxDevices
	if slices.ContainsFunc(spec.Devices, advanced) {
		most = resourcev1.ResourceSliceMaxDevicesWithAdvancedFeatures
	}
	was := map[string]*resourcev1.Device{}
	if old != nil {
		for i := range old.Spec.Devices {
			was[old.Spec.Devices[i].Name] = &old.Spec.Devices[i]
		}
	}
	own := spec.PerDeviceNodeSelection != nil && *spec.PerDeviceNodeSelection
	errs = append(errs, set(spec.Devices, most, func(d *resourcev1.Device, path *field.Path) field.ErrorList {
		return offered(d, was[d.Name], own, path)
	}, func(d *resourcev1.Device) string { return d.Name }, path.Child("devices"))...)
	return append(errs, set(spec.SharedCounters, resourcev1.ResourceSliceMaxCounterSets, func(c *resourcev1.CounterSet, path *field.Path) field.ErrorList {
		return append(label(c.Name, path.Child("name")), counters(c.Counters, path.Child("counters"))...)
	}, func(c *resourcev1.CounterSet) string { return c.Name }, path.Child("sharedCounters"))...)
}

// place is where devices are: the same choice for a slice and for one device.
type place struct {
	node           *string
	selector       *corev1.NodeSelector
	all, perDevice *bool
	emptyNode      string
}

// check returns the names of the fields that are set.
func (p *place) check(path *field.Path) (chosen []string, errs field.ErrorList) {
	if p.node != nil && *p.node == "" {
		errs = append(errs, field.Invalid(path.Child("nodeName"), *p.node, p.emptyNode))
	} else if p.node != nil {
		chosen = append(chosen, "`nodeName`")
		for _, msg := range validation.NameIsDNSSubdomain(*p.node, false) {
			errs = append(errs, field.Invalid(path.Child("nodeName"), *p.node, msg))
		}
	}
	if p.selector != nil {
		chosen = append(chosen, "`nodeSelector`")
		errs = append(errs, podspec.ValidateNodeSelector(p.selector, path.Child("nodeSelector"))...)
	}
	for _, f := range []struct {
		name string
		set  *bool
	}{{"allNodes", p.all}, {"perDeviceNodeSelection", p.perDevice}} {
		switch {
		case f.set == nil:
		case *f.set:
			chosen = append(chosen, "`"+f.name+"`")
		default:
			errs = append(errs, field.Invalid(path.Child(f.name), *f.set, "must be either unset or set to true"))
		}
	}
	return chosen, errs
}

// advanced is true for a device of which a slice takes fewer.
func advanced(d resourcev1.Device) bool {
	if len(d.Taints) > 0 || len(d.ConsumesCounters) > 0 {
		return true
	}
	for _, a := range d.Attributes {
		if a.BoolValues != nil || a.IntValues != nil || a.StringValues != nil || a.VersionValues != nil {
			return true
		}
	}
	return false
}

func label(s string, path *field.Path) field.ErrorList {
	if s == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	return kind.DNSLabel(s, path)
}

func counters(all map[string]resourcev1.Counter, path *field.Path) (errs field.ErrorList) {
	if len(all) == 0 {
		return field.ErrorList{field.Required(path, "")}
	}
	if len(all) > resourcev1.ResourceSliceMaxCountersPerCounterSet {
		return field.ErrorList{field.TooMany(path, len(all), resourcev1.ResourceSliceMaxCountersPerCounterSet)}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		errs = append(errs, kind.DNSLabel(name, path)...)
	}
	return errs
}

// offered checks one device. own is true where each device says where it is.
func offered(d, old *resourcev1.Device, own bool, path *field.Path) (errs field.ErrorList) {
	errs = append(errs, kind.DNSLabel(d.Name, path.Child("name"))...)
	if n := len(d.Attributes) + len(d.Capacity); n > resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice {
		errs = append(errs, field.Invalid(path, n, fmt.Sprintf("the total number of attributes and capacities must not exceed %d", resourcev1.ResourceSliceMaxAttributesAndCapacitiesPerDevice)))
	}
	values := 0
	for _, a := range d.Attributes {
		values += max(1, len(a.BoolValues)+len(a.IntValues)+len(a.StringValues)+len(a.VersionValues))
	}
	if values > resourcev1.ResourceSliceMaxAttributeValuesPerDevice {
		errs = append(errs, field.Invalid(path, values, fmt.Sprintf("the total number of attribute values must not exceed %d", resourcev1.ResourceSliceMaxAttributeValuesPerDevice)))
	}
	for _, name := range slices.Sorted(maps.Keys(d.Attributes)) {
		at := path.Child("attributes")
		errs = append(errs, qualifiedName(string(name), at)...)
		a := d.Attributes[name]
		errs = append(errs, attribute(&a, at.Key(string(name)))...)
	}
	if old == nil || !kind.Equal(old.Capacity, d.Capacity) {
		shared := d.AllowMultipleAllocations != nil && *d.AllowMultipleAllocations
		for _, name := range slices.Sorted(maps.Keys(d.Capacity)) {
			at := path.Child("capacity")
			errs = append(errs, qualifiedName(string(name), at)...)
			c := d.Capacity[name]
			errs = append(errs, capacity(&c, shared, at.Key(string(name)))...)
		}
	}
	if old == nil || !kind.Equal(old.Taints, d.Taints) {
		errs = append(errs, each(d.Taints, resourcev1.DeviceTaintsMaxLength, func(t *resourcev1.DeviceTaint, path *field.Path) field.ErrorList {
			return taint(t, nil, path)
		}, path.Child("taints"))...)
	}
	errs = append(errs, set(d.ConsumesCounters, resourcev1.ResourceSliceMaxDeviceCounterConsumptionsPerDevice, func(c *resourcev1.DeviceCounterConsumption, path *field.Path) field.ErrorList {
		return append(label(c.CounterSet, path.Child("counterSet")), counters(c.Counters, path.Child("counters"))...)
	}, func(c *resourcev1.DeviceCounterConsumption) string { return c.CounterSet }, path.Child("consumesCounters"))...)
	switch {
	case own:
		where := place{node: d.NodeName, selector: d.NodeSelector, all: d.AllNodes, emptyNode: "must not be empty"}
		chosen, bad := where.check(path)
		errs = append(errs, bad...)
		const one = "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec"
		if len(chosen) == 0 {
			errs = append(errs, field.Required(path, one))
		} else if len(chosen) > 1 {
			errs = append(errs, field.Invalid(path, "{"+strings.Join(chosen, ", ")+"}", one))
		}
	case d.NodeName != nil || d.NodeSelector != nil || d.AllNodes != nil:
		errs = append(errs, field.Invalid(path, nil, "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec"))
	}
	return append(errs, bindingConditions(d.BindingConditions, d.BindingFailureConditions, path)...)
}

// semver is the form of semver.org 2.0.0.
var semver = func() *regexp.Regexp {
	const number, pre, build = `(0|[1-9]\d*)`, `(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)`, `[0-9a-zA-Z-]+`
	return regexp.MustCompile(`^` + number + `\.` + number + `\.` + number + `(-` + pre + `(\.` + pre + `)*)?(\+` + build + `(\.` + build + `)*)?$`)
}()

func attribute(a *resourcev1.DeviceAttribute, path *field.Path) (errs field.ErrorList) {
	short := func(s string, at *field.Path) {
		if len(s) > resourcev1.DeviceAttributeMaxValueLength {
			errs = append(errs, field.TooLong(at, "", resourcev1.DeviceAttributeMaxValueLength))
		}
	}
	version := func(s string, at *field.Path) {
		if !semver.MatchString(s) {
			errs = append(errs, field.Invalid(at, s, "must be a string compatible with semver.org spec 2.0.0"))
		}
		short(s, at)
	}
	var chosen []string
	count := func(name string, set bool) {
		if set {
			chosen = append(chosen, "`"+name+"`")
		}
	}
	list := func(name string, set bool, length int, value any) {
		count(name, set)
		if set && length == 0 {
			errs = append(errs, field.Invalid(path.Child(name), value, "must not be empty if specified"))
		}
	}
	count("int", a.IntValue != nil)
	count("bool", a.BoolValue != nil)
	count("string", a.StringValue != nil)
	count("version", a.VersionValue != nil)
	if a.StringValue != nil {
		short(*a.StringValue, path.Child("string"))
	}
	if a.VersionValue != nil {
		version(*a.VersionValue, path.Child("version"))
	}
	list("ints", a.IntValues != nil, len(a.IntValues), a.IntValues)
	list("bools", a.BoolValues != nil, len(a.BoolValues), a.BoolValues)
	list("strings", a.StringValues != nil, len(a.StringValues), a.StringValues)
	for i, s := range a.StringValues {
		short(s, path.Child("strings").Index(i))
	}
	list("versions", a.VersionValues != nil, len(a.VersionValues), a.VersionValues)
	for i, s := range a.VersionValues {
		version(s, path.Child("versions").Index(i))
	}
	const all = "`int`, `bool`, `string`, `version`, `ints`, `bools`, `strings`, `versions`"
	switch len(chosen) {
	case 0:
		errs = append(errs, field.Invalid(path, "", "must specify one of: "+all).WithOrigin("union"))
	case 1:
	default:
		errs = append(errs, field.Invalid(path, "{"+strings.Join(chosen, ", ")+"}", "must specify exactly one of: "+all).WithOrigin("union"))
	}
	return errs
}
