package storage_test

import (
	"slices"
	"testing"

	"sampan/cluster/kind/kindtest"
	"sampan/cluster/kind/storage"
)

func TestStorageClassRules(t *testing.T) {
	k := storage.StorageClass()
	kindtest.Check(t, k, []kindtest.Rule{
		{Rule: "a provisioner is enough", New: `{provisioner: Example.com/a}`},
		{Rule: "somebody makes the volumes", New: `{}`, Want: []string{"provisioner: Required value"}},
		{Rule: "they may not be recycled", New: `{provisioner: a, reclaimPolicy: Recycle}`, Want: []string{
			`reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain"`}},
		{Rule: "places differ", New: `{provisioner: a, allowedTopologies: [{matchLabelExpressions: [{key: z, values: [a]}]}, {matchLabelExpressions: [{key: z, values: [a]}]}]}`,
			Want: []string{`allowedTopologies[1].matchLabelExpressions: Duplicate value: ""`}},
		{Rule: "an empty place is none", New: `{provisioner: a, allowedTopologies: [{}]}`, Want: []string{`allowedTopologies[0].matchLabelExpressions: Duplicate value: ""`}},
		{Rule: "what volumes were made with stays", Old: `{provisioner: a, parameters: {x: y}}`, New: `{provisioner: b, parameters: {x: y}, reclaimPolicy: Retain}`, Want: []string{
			`provisioner: Invalid value: null: field is immutable`, `reclaimPolicy: Invalid value: null: field is immutable`}},
		{Rule: "expansion may be allowed later", Old: `{provisioner: a}`, New: `{provisioner: a, allowVolumeExpansion: true}`},
	})
	c := kindtest.Create(t, k, `{metadata: {name: c, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}, provisioner: p}`)
	if got, want := kindtest.Row(k, c), []any{"c (default)", "p", "Delete", "Immediate", false, "<unknown>"}; !slices.Equal(got, want) {
		t.Errorf("row %q, want %q", got, want)
	}
}

func TestVolumeAttachmentRules(t *testing.T) {
	k := storage.VolumeAttachment()
	kindtest.Check(t, k, []kindtest.Rule{
		{Rule: "a driver, a volume and a node", New: `{spec: {attacher: d, nodeName: n1, source: {persistentVolumeName: v}}}`},
		{Rule: "all of them", New: `{spec: {attacher: "", nodeName: n1, source: {}}}`, Want: []string{"spec.attacher: Required value",
			"spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName"}},
		{Rule: "an inline volume is of a driver", New: `{spec: {attacher: d, nodeName: n1, source: {inlineVolumeSpec: {capacity: {storage: 1}, accessModes: [ReadWriteOnce], hostPath: {path: /a}}}}}`,
			Want: []string{"spec.source.inlineVolumeSpec.capacity: Forbidden: may not be specified in the context of inline volumes",
				"spec.source.inlineVolumeSpec.csi: Required value: has to be specified in the context of inline volumes"}},
	})
	a := kindtest.Create(t, k, `{metadata: {name: a}, spec: {attacher: d, nodeName: n1, source: {persistentVolumeName: v}}, status: {attached: true}}`)
	if got, want := kindtest.Row(k, a), []any{"a", "d", "v", "n1", false, "<unknown>"}; !slices.Equal(got, want) {
		t.Errorf("row %q, want %q: a create drops the status", got, want)
	}
}

func TestCSIRules(t *testing.T) {
	kindtest.Check(t, storage.CSIDriver(), []kindtest.Rule{
		{Rule: "defaults are enough", New: `{spec: {}}`},
		{Rule: "an audience once", New: `{spec: {tokenRequests: [{audience: a}, {audience: a}]}}`, Want: []string{
			`spec.tokenRequests[1].audience: Duplicate value: "a"`}},
		{Rule: "a token lives a while", New: `{spec: {tokenRequests: [{audience: a, expirationSeconds: 5}]}}`, Want: []string{
			`spec.tokenRequests[0].expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes`}},
		{Rule: "attaching stays", Old: `{spec: {}}`, New: `{spec: {attachRequired: false}}`, Want: []string{`spec.attachedRequired: Invalid value: false: field is immutable`}},
	})
	d := kindtest.Create(t, storage.CSIDriver(), `{metadata: {name: d}, spec: {tokenRequests: [{audience: a}, {audience: b}]}}`)
	if got, want := kindtest.Row(storage.CSIDriver(), d), []any{"d", true, false, false, "a,b", false, "Persistent", "<unknown>"}; !slices.Equal(got, want) {
		t.Errorf("row %q, want %q", got, want)
	}
	kindtest.Check(t, storage.CSINode(), []kindtest.Rule{
		{Rule: "drivers differ", New: `{spec: {drivers: [{name: a, nodeID: x}, {name: a, nodeID: y}]}}`, Want: []string{`spec.drivers[1].name: Duplicate value: "a"`}},
		{Rule: "only limits change", Old: `{spec: {drivers: [{name: a, nodeID: x}]}}`, New: `{spec: {drivers: [{name: a, nodeID: x, allocatable: {count: 3}}]}}`},
	})
	kindtest.Check(t, storage.CSIStorageCapacity(), []kindtest.Rule{
		{Rule: "of a class", New: `{storageClassName: ""}`, Want: []string{"storageClassName: Invalid value: \"\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"}},
		{Rule: "for ever", Old: `{storageClassName: a}`, New: `{storageClassName: b}`, Want: []string{`storageClassName: Invalid value: "b": field is immutable`}},
		{Rule: "not less than nothing", New: `{storageClassName: a, capacity: -1}`, Want: []string{`capacity: Invalid value: "-1": must be greater than or equal to 0`}},
	})
	kindtest.Check(t, storage.VolumeAttributesClass(), []kindtest.Rule{
		{Rule: "it says something", New: `{driverName: d}`, Want: []string{"parameters: Required value: must contain at least one key/value pair"}},
		{Rule: "and keeps to it", Old: `{driverName: d, parameters: {a: b}}`, New: `{driverName: d, parameters: {a: c}}`, Want: []string{"parameters: Forbidden: updates to parameters are forbidden."}},
	})
}
