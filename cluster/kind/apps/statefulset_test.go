package apps_test

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"

	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/kindtest"
)

const claims = `volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]`

func TestStatefulSetRules(t *testing.T) {
	kindtest.Check(t, apps.StatefulSet(), []kindtest.Rule{
		{Rule: "a selector and a template are enough", New: spec("")},
		{Rule: "a selector is needed", New: `spec: {template: {spec: {containers: [{name: a, image: a}]}}}`, Want: []string{
			`spec.selector: Required value`, "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`"}},
		{Rule: "a selector selects something", New: `spec: {selector: {}, template: {spec: {containers: [{name: a, image: a}]}}}`, Want: []string{
			`spec.selector: Invalid value: {}: empty selector is invalid for statefulset`}},
		{Rule: "containers may mount their claims", New: strings.Replace(spec(claims), `image: "a:1"`, `image: "a:1", volumeMounts: [{name: data, mountPath: /d}]`, 1)},
		{Rule: "a claim is checked as one", New: spec(`volumeClaimTemplates: [{metadata: {name: data}, spec: {resources: {requests: {storage: 1Gi}}}}]`), Want: []string{
			`spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required`}},
		{Rule: "claims, service and order stay", Old: spec(""), New: spec(claims + ", serviceName: x, podManagementPolicy: Parallel"), Want: []string{
			`spec.volumeClaimTemplates: Invalid value: [{"kind":"PersistentVolumeClaim","apiVersion":"v1","metadata":{"name":"data"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}},"volumeMode":"Filesystem"},"status":{"phase":"Pending"}}]: field is immutable`,
			`spec.serviceName: Invalid value: "x": field is immutable`,
			`spec.podManagementPolicy: Invalid value: "Parallel": field is immutable`}},
		{Rule: "the rest may change", Old: spec(claims), New: strings.Replace(spec(claims+", replicas: 3, minReadySeconds: 4, revisionHistoryLimit: -1, ordinals: {start: 5}, updateStrategy: {type: OnDelete}"), "a:1", "a:2", 1)},
		{Rule: "a service has a label's name", New: spec("serviceName: a.b"), Want: []string{
			`spec.serviceName: Invalid value: "a.b": must not contain dots`}},
		{Rule: "numbers are not negative", New: spec("replicas: -1, minReadySeconds: -1, ordinals: {start: -1}, updateStrategy: {rollingUpdate: {partition: -1, maxUnavailable: 0}}"), Want: []string{
			`spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0`,
			`spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0`,
			`spec.replicas: Invalid value: -1: must be greater than or equal to 0`,
			`spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0`,
			`spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0`}},
		{Rule: "there are two strategies and two orders", New: spec("updateStrategy: {type: Recreate}, podManagementPolicy: Random"), Want: []string{
			`spec.podManagementPolicy: Invalid value: "Random": must be 'OrderedReady' or 'Parallel'`,
			`spec.updateStrategy: Invalid value: {"type":"Recreate"}: must be 'RollingUpdate' or 'OnDelete'`}},
		{Rule: "what is not rolled has no pace", New: spec("updateStrategy: {type: OnDelete, rollingUpdate: {partition: 1}}"), Want: []string{
			`spec.updateStrategy.rollingUpdate: Invalid value: {"partition":1}: only allowed for updateStrategy 'RollingUpdate'`}},
		{Rule: "claims are kept or deleted", New: spec("persistentVolumeClaimRetentionPolicy: {whenScaled: Sell}"), Want: []string{
			`spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: "Sell": supported values: "Retain", "Delete"`}},
	})
	if msgs := apps.StatefulSet().ValidateName("a.b", false); len(msgs) == 0 {
		t.Error("a name with a dot is taken, which no pod's host name can have")
	}
}

func TestStatefulSetDefaults(t *testing.T) {
	s := kindtest.Create(t, apps.StatefulSet(), spec(claims)).(*appsv1.StatefulSet).Spec
	if r := s.UpdateStrategy.RollingUpdate; s.UpdateStrategy.Type != "RollingUpdate" || *r.Partition != 0 || r.MaxUnavailable.IntValue() != 1 ||
		*s.Replicas != 1 || *s.RevisionHistoryLimit != 10 || s.PodManagementPolicy != "OrderedReady" ||
		s.PersistentVolumeClaimRetentionPolicy.WhenDeleted != "Retain" || s.PersistentVolumeClaimRetentionPolicy.WhenScaled != "Retain" {
		t.Errorf("defaulted to %+v", s)
	}
	if c := s.VolumeClaimTemplates[0]; c.Kind != "PersistentVolumeClaim" || c.APIVersion != "v1" || *c.Spec.VolumeMode != "Filesystem" || c.Status.Phase != "Pending" {
		t.Errorf("claim defaulted to %+v", c)
	}
	if r := kindtest.Create(t, apps.StatefulSet(), spec("updateStrategy: {type: RollingUpdate}")).(*appsv1.StatefulSet).Spec.UpdateStrategy.RollingUpdate; r != nil {
		t.Errorf("a strategy that is named gets no pace: %+v", r)
	}
}

func TestStatefulSetStatusAddsUp(t *testing.T) {
	k := apps.StatefulSet()
	kindtest.Compare(t, k.Parts["status"].Validate(kindtest.Read(t, k, `status: {replicas: 1, readyReplicas: 2, currentReplicas: 1, availableReplicas: 3}`), k.New()),
		`status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas`,
		`status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas`,
		`status.availableReplicas: Invalid value: 3: cannot be greater than status.readyReplicas`)
}

func TestStatefulSetIsShownAndScaled(t *testing.T) {
	k := apps.StatefulSet()
	s := kindtest.Read(t, k, `{metadata: {name: db, creationTimestamp: "2026-11-21T11:00:00Z"}, `+spec("replicas: 3")+`, status: {replicas: 2, readyReplicas: 1}}`)
	if got, want := kindtest.Header(k), []string{"Name", "Ready", "Age", "Containers+", "Images+"}; !slices.Equal(got, want) {
		t.Errorf("header %q, want %q", got, want)
	}
	if got, want := kindtest.Row(k, s), []any{"db", "1/3", "60m", "a", "a:1"}; !slices.Equal(got, want) {
		t.Errorf("row %q, want %q", got, want)
	}
	if spec, status := k.Scale.Get(s); spec.Replicas != 3 || status.Replicas != 2 || status.Selector != "app=web" {
		t.Errorf("scale %v %v", spec, status)
	}
	if w := k.Warn(kindtest.Read(t, k, spec("revisionHistoryLimit: -1")), nil); len(w) != 1 {
		t.Errorf("warnings %q, want one about the history", w)
	}
}
