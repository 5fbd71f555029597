package resource_test

import (
	"slices"
	"testing"

	resourcev1 "k8s.io/api/resource/v1"

	"sampan/cluster/kind/kindtest"
	"sampan/cluster/kind/resource"
)

func TestClaimRules(t *testing.T) {
	k := resource.ResourceClaim()
	kindtest.Check(t, k, []kindtest.Rule{
		{Rule: "one device of a class", New: `{spec: {devices: {requests: [{name: r, exactly: {deviceClassName: c}}]}}}`},
		{Rule: "of some class", New: `{spec: {devices: {requests: [{name: r, exactly: {}}]}}}`, Want: []string{"spec.devices.requests[0].exactly.deviceClassName: Required value"}},
		{Rule: "this or that", New: `{spec: {devices: {requests: [{name: r}]}}}`, Want: []string{"spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required"}},
		{Rule: "a name once", New: `{spec: {devices: {requests: [{name: r, exactly: {deviceClassName: c}}, {name: r, exactly: {deviceClassName: c}}]}}}`, Want: []string{
			`spec.devices.requests[1]: Duplicate value: "r"`}},
		{Rule: "all are not counted", New: `{spec: {devices: {requests: [{name: r, exactly: {deviceClassName: c, allocationMode: All, count: 2}}]}}}`, Want: []string{
			"spec.devices.requests[0].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'"}},
		{Rule: "a constraint is about something", New: `{spec: {devices: {requests: [{name: r, exactly: {deviceClassName: c}}], constraints: [{requests: [x], matchAttribute: a}]}}}`, Want: []string{
			`spec.devices.constraints[0].requests[0]: Invalid value: "x": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'`,
			`spec.devices.constraints[0].matchAttribute: Invalid value: "a": a fully qualified name must be a domain and a name separated by a slash`}},
		{Rule: "names of drivers are short", New: `{spec: {devices: {config: [{opaque: {driver: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, parameters: {}}}]}}}`, Want: []string{
			`spec.devices.config[0].opaque.driver: Too long: may not be more than 63 characters`}},
		{Rule: "drivers get objects", New: `{spec: {devices: {config: [{opaque: {driver: d, parameters: [1]}}]}}}`, Want: []string{
			`spec.devices.config[0].opaque.parameters: Invalid value: "<value omitted>": must be a valid JSON object`}},
		{Rule: "what is asked stays", Old: `{spec: {}}`, New: `{spec: {devices: {requests: [{name: r, exactly: {deviceClassName: c}}]}}}`, Want: []string{
			`spec: Invalid value: null: field is immutable`}},
	})
}

func TestClaimStatusRules(t *testing.T) {
	k := resource.ResourceClaim()
	status := k.Parts["status"]
	read := func(s string) *resourcev1.ResourceClaim {
		return kindtest.Read(t, k, `{metadata: {name: c}, spec: {devices: {requests: [{name: r}]}}, status: `+s+`}`).(*resourcev1.ResourceClaim)
	}
	none := read(`{}`)
	kindtest.Compare(t, status.Validate(read(`{allocation: {}}`), none)) // of nothing
	kindtest.Compare(t, status.Validate(read(`{reservedFor: [{resource: pods, name: p, uid: u}]}`), none),
		"status.reservedFor: Forbidden: may not be specified when `allocated` is not set")
	got := read(`{allocation: {devices: {results: [{request: r, driver: d, pool: p, device: a}]}}, devices: [{driver: d, pool: p, device: a}]}`)
	kindtest.Compare(t, status.Validate(got, none))
	kindtest.Compare(t, status.Validate(read(`{allocation: {devices: {results: [{request: x, driver: d, pool: p, device: a}]}}}`), none),
		`status.allocation.devices.results[0].request: Invalid value: "x": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'`)
	kindtest.Compare(t, status.Validate(read(`{devices: [{driver: d, pool: p, device: a}]}`), none), `status.devices[0]: Invalid value: {"Driver":"d","Pool":"p","Device":"a","ShareID":""}: must be an allocated device in the claim`)
	if errs := status.Validate(read(`{allocation: {}}`), got); len(errs) != 1 || errs[0].Field != "status.allocation" {
		t.Errorf("another allocation: %v", errs)
	}
	gone := read(`{devices: [{driver: d, pool: p, device: a}]}`)
	if status.Prepare(gone, got); gone.Status.Devices != nil {
		t.Error("what was said of a device that is given back stays")
	}
	for _, tc := range []struct{ status, want string }{{`{}`, "pending"}, {`{allocation: {}}`, "allocated"}, {`{allocation: {}, reservedFor: [{uid: u}]}`, "allocated,reserved"}} {
		if got := kindtest.Row(k, read(tc.status)); got[1] != tc.want {
			t.Errorf("%s is %q, want %q", tc.status, got[1], tc.want)
		}
	}
}

func TestSliceRules(t *testing.T) {
	k := resource.ResourceSlice()
	const pool = `driver: d, pool: {name: p, resourceSliceCount: 1}`
	kindtest.Check(t, k, []kindtest.Rule{
		{Rule: "a slice of a node", New: `{spec: {` + pool + `, nodeName: n1, devices: [{name: a}]}}`},
		{Rule: "it is somewhere", New: `{spec: {` + pool + `}}`, Want: []string{"spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required"}},
		{Rule: "in one way", New: `{spec: {` + pool + `, nodeName: n1, allNodes: true}}`, Want: []string{
			"spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set"}},
		{Rule: "an attribute has one value", New: `{spec: {` + pool + `, nodeName: n1, devices: [{name: a, attributes: {x: {bool: true, int: 1}}}]}}`, Want: []string{
			"spec.devices[0].attributes[x]: Invalid value: \"{`int`, `bool`}\": must specify exactly one of: `int`, `bool`, `string`, `version`, `ints`, `bools`, `strings`, `versions`"}},
		{Rule: "what upstream has not switched on is dropped", New: `{spec: {` + pool + `, nodeName: n1, partitionTypeAttribute: x, skipNodeOperations: [x]}}`},
		{Rule: "it stays there", Old: `{spec: {` + pool + `, nodeName: n1}}`, New: `{spec: {` + pool + `, nodeName: n2}}`, Want: []string{`spec.nodeName: Invalid value: "n2": field is immutable`}},
		{Rule: "attributes have a value", New: `{spec: {` + pool + `, nodeName: n1, devices: [{name: a, attributes: {x: {}, z: {version: v1}}}]}}`, Want: []string{
			"spec.devices[0].attributes[x]: Invalid value: \"\": must specify one of: `int`, `bool`, `string`, `version`, `ints`, `bools`, `strings`, `versions`",
			`spec.devices[0].attributes[z].version: Invalid value: "v1": must be a string compatible with semver.org spec 2.0.0`}},
		{Rule: "parts only of what is shared", New: `{spec: {` + pool + `, nodeName: n1, devices: [{name: a, capacity: {m: {value: 4, requestPolicy: {default: 1}}}}]}}`, Want: []string{
			"spec.devices[0].capacity[m].requestPolicy: Forbidden: allowMultipleAllocations must be true"}},
		{Rule: "parts that fit", New: `{spec: {` + pool + `, nodeName: n1, devices: [{name: a, allowMultipleAllocations: true, capacity: {m: {value: 4, requestPolicy: {default: 1, validRange: {min: 2, step: 3}}}}}]}}`, Want: []string{
			`spec.devices[0].capacity[m].requestPolicy.validRange.default: Invalid value: "1": default is less than min: 2`,
			`spec.devices[0].capacity[m].requestPolicy.validRange.step: Invalid value: "3": one step 5 is larger than capacity value: 4`,
			`spec.devices[0].capacity[m].requestPolicy.validRange.step: Invalid value: "1": value is not a multiple of a given step (3) from (2)`}},
		{Rule: "a wait has an end", New: `{spec: {` + pool + `, nodeName: n1, devices: [{name: a, bindingConditions: [x]}]}}`, Want: []string{
			"spec.devices[0].bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use bindingConditions"}},
	})
	s := kindtest.Create(t, k, `{metadata: {name: s}, spec: {`+pool+`, nodeName: n1}}`)
	if got, want := kindtest.Row(k, s), []any{"s", "n1", "d", "p", "<unknown>"}; !slices.Equal(got, want) {
		t.Errorf("row %q, want %q", got, want)
	}
	if got := k.Fields["spec.pool.name"](s); got != "p" {
		t.Errorf("selected by pool %q", got)
	}
}

func TestClassAndTaintRules(t *testing.T) {
	kindtest.Check(t, resource.DeviceClass(), []kindtest.Rule{
		{Rule: "devices are chosen by an expression", New: `{spec: {selectors: [{cel: {expression: "true"}}, {}]}}`, Want: []string{"spec.selectors[1].cel: Required value"}},
		{Rule: "that is one", New: `{spec: {selectors: [{cel: {expression: "device.colour"}}, {cel: {expression: "'x'"}}]}}`, Want: []string{
			"spec.selectors[0].cel.expression: Invalid value: \"device.colour\": compilation failed: ERROR: <input>:1:7: undefined field 'colour'\n | device.colour\n | ......^",
			`spec.selectors[1].cel.expression: Invalid value: "'x'": must evaluate to bool or the unknown type, not string`}},
		{Rule: "about what devices have", New: `{spec: {selectors: [{cel: {expression: "device.driver == 'd' && device.capacity['d'].m.compareTo(quantity('1Gi')) > 0 && device.attributes['d'].v.isGreaterThan(semver('1.0.0'))"}}, {cel: {expression: "cel.bind(d, device.attributes['d'], d.a && !device.allowMultipleAllocations)"}}, {cel: {expression: "device.attributes['d'].a"}}]}}`},
		{Rule: "a resource has a domain", New: `{spec: {extendedResourceName: cpu}}`, Want: []string{`spec.extendedResourceName: Invalid value: "cpu": a name must be a domain-prefixed path, such as 'example.com/my-prop'`}},
	})
	k := resource.DeviceTaintRule()
	kindtest.Check(t, k, []kindtest.Rule{
		{Rule: "a taint does something", New: `{spec: {taint: {key: a}}}`, Want: []string{"spec.taint.effect: Required value"}},
		{Rule: "that is known", New: `{spec: {taint: {key: a, effect: Burn}}}`, Want: []string{
			`spec.taint.effect: Unsupported value: "Burn": supported values: "NoExecute", "NoSchedule", "None"`}},
		{Rule: "also nothing", New: `{spec: {taint: {key: a, effect: None}, deviceSelector: {driver: d}}}`},
	})
	if !k.Conditional {
		t.Error("an update need not name a revision")
	}
}

func TestTemplateRules(t *testing.T) {
	const devices = `devices: {requests: [{name: r, exactly: {deviceClassName: c}}]}`
	kindtest.Check(t, resource.ResourceClaimTemplate(), []kindtest.Rule{
		{Rule: "labels and annotations are given", New: `{spec: {metadata: {labels: {a: b}, annotations: {a: b}}, spec: {` + devices + `}}}`},
		{Rule: "and nothing else", New: `{spec: {metadata: {name: x, finalizers: []}, spec: {` + devices + `}}}`, Want: []string{
			"spec.metadata.name: Forbidden: cannot be set", "spec.metadata.finalizers: Forbidden: cannot be set"}},
		{Rule: "a change is looked at before it is refused", Old: `{spec: {spec: {` + devices + `}}}`, New: `{spec: {spec: {devices: {requests: [{name: R, exactly: {deviceClassName: c}}]}}}}`, Want: []string{
			`spec.spec.devices.requests[0].name: Invalid value: "R": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')`,
			`spec: Invalid value: {"metadata":{},"spec":{"devices":{"requests":[{"name":"R","exactly":{"deviceClassName":"c","allocationMode":"ExactCount","count":1}}]}}}: field is immutable`}},
	})
}
