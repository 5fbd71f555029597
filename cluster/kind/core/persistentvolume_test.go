package core_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/kind/core"
	"sampan/cluster/kind/kindtest"
)

const volume = `{metadata: {name: v}, spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /data}}}`

func volumeAt(label string) string {
	return strings.Replace(volume, "hostPath", "nodeAffinity: {required: {nodeSelectorTerms: [{matchExpressions: [{key: "+label+", operator: In, values: [a]}]}]}}, hostPath", 1)
}

func TestVolumeRules(t *testing.T) {
	k := core.PersistentVolume()
	kindtest.Check(t, k, []kindtest.Rule{
		{Rule: "size, modes and a source are enough", New: volume},
		{Rule: "it is of something", New: `{spec: {}}`, Want: []string{
			"spec.accessModes: Required value",
			"spec.capacity: Required value",
			`spec.capacity: Unsupported value: null: supported values: "storage"`,
			"spec: Required value: must specify a volume type"}},
		{Rule: "one pod alone is not many nodes", New: strings.Replace(volume, "ReadWriteOnce", "ReadWriteOncePod, ReadWriteMany", 1), Want: []string{
			"spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"}},
		{Rule: "one source", New: strings.Replace(volume, "hostPath", "nfs: {server: a, path: /b}, hostPath", 1), Want: []string{
			"spec.nfs: Forbidden: may not specify more than 1 volume type"}},
		{Rule: "cephfs has a name of its own beside others", New: strings.Replace(volume, "hostPath", "cephfs: {monitors: [a]}, hostPath", 1), Want: []string{
			"spec.cephFS: Forbidden: may not specify more than 1 volume type"}},
		{Rule: "where it can be used stays", Old: volumeAt("kubernetes.io/hostname"), New: volume, Want: []string{
			`nodeAffinity: Invalid value: null: field is immutable, except for updating from beta label to GA`}},
		{Rule: "but for a label with a later name", Old: volumeAt("beta.kubernetes.io/os"), New: volumeAt("kubernetes.io/os")},
		{Rule: "a host path comes before others", New: strings.Replace(volume, "hostPath", "gcePersistentDisk: {pdName: a}, hostPath", 1), Want: []string{
			"spec.gcePersistentDisk: Forbidden: may not specify more than 1 volume type"}},
		{Rule: "a local disk is somewhere", New: strings.Replace(volume, "hostPath", "local", 1), Want: []string{
			"spec.nodeAffinity: Required value: Local volume requires node affinity"}},
		{Rule: "a class of attributes needs a driver", New: strings.Replace(volume, "hostPath", "volumeAttributesClassName: '', hostPath", 1), Want: []string{
			"spec.volumeAttributesClassName: Required value: an empty string is disallowed",
			"spec.csi: Required value: has to be specified when using volumeAttributesClassName"}},
		{Rule: "secrets have a name and a namespace", New: strings.Replace(volume, "hostPath: {path: /data}", "csi: {driver: d, volumeHandle: h, nodePublishSecretRef: {}}", 1), Want: []string{
			"spec.csi.nodePublishSecretRef.name: Required value", "spec.csi.nodePublishSecretRef.namespace: Required value"}},
		{Rule: "its mode stays", Old: volume, New: strings.Replace(volume, "hostPath", "volumeMode: Block, hostPath", 1), Want: []string{
			`volumeMode: Invalid value: "Block": field is immutable`}},
		{Rule: "size and claim may change", Old: volume, New: strings.Replace(volume, "1Gi}", "2Gi}, claimRef: {name: c}", 1)},
	})
	old := kindtest.Create(t, k, volume)
	errs := k.Validate(kindtest.Update(t, k, strings.Replace(volume, "/data", "/other", 1), old), old)
	if len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation\n") {
		t.Errorf("a new path: %v", errs)
	}
	pv := kindtest.Create(t, k, volume).(*corev1.PersistentVolume)
	if pv.Status.Phase != corev1.VolumePending || pv.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimRetain {
		t.Errorf("made as %v", pv)
	}
	want := []any{"v", "1Gi", "RWO", "Retain", "Pending", "", "", "<unset>", "", "<unknown>", "Filesystem"}
	if got := kindtest.Row(k, pv); !slices.Equal(got, want) {
		t.Errorf("row\n%q\nwant\n%q", got, want)
	}
}

const claim = `{metadata: {name: c}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}`

func TestClaimRules(t *testing.T) {
	k := core.PersistentVolumeClaim()
	kindtest.Check(t, k, []kindtest.Rule{
		{Rule: "modes and a size are enough", New: claim},
		{Rule: "it asks for something", New: `{spec: {}}`, Want: []string{
			"spec.accessModes: Required value: at least 1 access mode is required", "spec.resources[storage]: Required value"}},
		{Rule: "it asks for more than nothing", New: strings.Replace(claim, "1Gi", "0", 1), Want: []string{
			`spec.resources[storage]: Invalid value: "0": must be greater than zero`}},
		{Rule: "both sources are one", New: strings.Replace(claim, "accessModes", "dataSource: {kind: PersistentVolumeClaim, name: a}, dataSourceRef: {kind: PersistentVolumeClaim, name: b}, accessModes", 1),
			Want: []string{"spec: Invalid value: {}: must match dataSourceRef"}},
		{Rule: "a volume is named once", Old: claim, New: strings.Replace(claim, "accessModes", "volumeName: v, accessModes", 1)},
		{Rule: "a class comes late", Old: claim, New: strings.Replace(claim, "accessModes", "storageClassName: s, accessModes", 1)},
	})
	old := kindtest.Create(t, k, claim).(*corev1.PersistentVolumeClaim)
	grown := kindtest.Update(t, k, strings.Replace(claim, "1Gi", "2Gi", 1), old).(*corev1.PersistentVolumeClaim)
	if errs := k.Validate(grown, old); len(errs) != 1 || !strings.HasPrefix(errs[0].Detail, "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n") {
		t.Errorf("growing before it is bound: %v", errs)
	}
	old.Status.Phase, grown.Status.Phase = corev1.ClaimBound, corev1.ClaimBound
	if errs := k.Validate(grown, old); len(errs) != 0 {
		t.Errorf("growing a bound claim: %v", errs)
	}
	old.Status.Capacity = corev1.ResourceList{corev1.ResourceStorage: grown.Spec.Resources.Requests[corev1.ResourceStorage]}
	kindtest.Compare(t, k.Validate(old, grown)) // nothing of the larger size is there
	grown.Status.Capacity = old.Status.Capacity
	kindtest.Compare(t, k.Validate(old, grown), "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity")

	dropped := kindtest.Create(t, k, strings.Replace(claim, "accessModes", "dataSource: {kind: Pod, name: a}, accessModes", 1)).(*corev1.PersistentVolumeClaim)
	if dropped.Spec.DataSource != nil {
		t.Error("a source that cannot be one is not dropped")
	}
	copied := kindtest.Create(t, k, strings.Replace(claim, "accessModes", "dataSource: {kind: PersistentVolumeClaim, name: a}, accessModes", 1)).(*corev1.PersistentVolumeClaim)
	if r := copied.Spec.DataSourceRef; r == nil || r.Name != "a" {
		t.Errorf("dataSourceRef is %v", r)
	}
	if got, want := kindtest.Row(k, old), []any{"c", "Bound", "", "", "", "", "<unset>", "<unknown>", "Filesystem"}; !slices.Equal(got, want) {
		t.Errorf("row\n%q\nwant\n%q", got, want)
	}
}
