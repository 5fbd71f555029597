package apps_test

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"

	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/kindtest"
)

func TestDaemonSetRules(t *testing.T) {
	kindtest.Check(t, apps.DaemonSet(), []kindtest.Rule{
		{Rule: "a selector and a template are enough", New: spec("")},
		{Rule: "a selector selects something", New: `spec: {selector: {}, template: {spec: {containers: [{name: a, image: a}]}}}`, Want: []string{
			`spec.selector: Invalid value: {}: empty selector is invalid for daemonset`}},
		{Rule: "a selector selects its own template", New: `spec: {selector: {matchLabels: {app: x}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: a, image: a}]}}}`, Want: []string{
			"spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`"}},
		{Rule: "a selector stays", Old: spec(""), New: `spec: {selector: {matchLabels: {app: x}}, template: {metadata: {labels: {app: x}}, spec: {containers: [{name: a, image: a}]}}}`, Want: []string{
			`spec.selector: Invalid value: {"matchLabels":{"app":"x"}}: field is immutable`}},
		{Rule: "a template's pods run for ever", New: `spec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {restartPolicy: Never, activeDeadlineSeconds: 9, containers: [{name: a, image: a}]}}}`, Want: []string{
			`spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"`,
			`spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in DaemonSet is not Supported`}},
		{Rule: "a roll-out moves", New: spec(`updateStrategy: {rollingUpdate: {maxUnavailable: 0%}}`), Want: []string{
			`spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0`}},
		{Rule: "a roll-out goes one way", New: spec(`updateStrategy: {rollingUpdate: {maxSurge: 1}}`), Want: []string{
			`spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero`}},
		{Rule: "no more than all may be away", New: spec(`updateStrategy: {rollingUpdate: {maxUnavailable: 110%}}`), Want: []string{
			`spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: "110%": must not be greater than 100%`}},
		{Rule: "pods may wait to be deleted", New: spec(`updateStrategy: {type: OnDelete}`)},
		{Rule: "readiness and history take no negative numbers", New: spec("minReadySeconds: -1, revisionHistoryLimit: -1"), Want: []string{
			`spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0`,
			`spec.revisionHistoryLimit: Invalid value: -1: must be greater than or equal to 0`}},
	})
}

func TestDaemonSetDefaults(t *testing.T) {
	s := kindtest.Create(t, apps.DaemonSet(), spec("")).(*appsv1.DaemonSet).Spec
	if r := s.UpdateStrategy.RollingUpdate; s.UpdateStrategy.Type != "RollingUpdate" || r.MaxUnavailable.IntValue() != 1 || r.MaxSurge.IntValue() != 0 ||
		*s.RevisionHistoryLimit != 10 || s.Template.Spec.RestartPolicy != "Always" {
		t.Errorf("defaulted to %+v", s)
	}
	s = kindtest.Create(t, apps.DaemonSet(), spec("updateStrategy: {type: OnDelete, rollingUpdate: {maxUnavailable: 1}}")).(*appsv1.DaemonSet).Spec
	if r := s.UpdateStrategy.RollingUpdate; r.MaxSurge == nil || r.MaxSurge.IntValue() != 0 || r.MaxUnavailable.IntValue() != 1 {
		t.Errorf("of a type that does not read them, the numbers of a rolling update are %+v", r)
	}
}

// Clients of old read how many templates a daemon set has had; only the server
// counts.
func TestTemplatesAreCounted(t *testing.T) {
	k := apps.DaemonSet()
	count := func(ds any) string {
		return ds.(*appsv1.DaemonSet).Annotations[appsv1.DeprecatedTemplateGeneration]
	}
	one := kindtest.Create(t, k, spec(""))
	if got := count(one); got != "1" {
		t.Errorf("the first template is number %q", got)
	}
	if got := count(kindtest.Create(t, k, `{metadata: {annotations: {deprecated.daemonset.template.generation: "7"}}, `+spec("")+`}`)); got != "7" {
		t.Errorf("who creates it may begin with another number, got %q", got)
	}
	same := kindtest.Update(t, k, `{metadata: {annotations: {deprecated.daemonset.template.generation: "9"}}, `+spec("minReadySeconds: 3")+`}`, one)
	if got := count(same); got != "1" {
		t.Errorf("the same template is number %q", got)
	}
	two := kindtest.Update(t, k, strings.Replace(spec(""), "a:1", "a:2", 1), one)
	if got := count(two); got != "2" {
		t.Errorf("the second template is number %q", got)
	}
	status := two.DeepCopyObject().(*appsv1.DaemonSet)
	status.Annotations = nil
	if k.Parts["status"].Prepare(status, two); count(status) != "2" {
		t.Errorf("after an update of the status it is number %q", count(status))
	}
}

func TestDaemonSetStatusIsCounted(t *testing.T) {
	k := apps.DaemonSet()
	kindtest.Compare(t, k.Parts["status"].Validate(kindtest.Read(t, k, `status: {numberReady: -1, desiredNumberScheduled: 3}`), k.New()),
		`status.numberReady: Invalid value: -1: must be greater than or equal to 0`)
	one := int32(1)
	kindtest.Compare(t, k.Parts["status"].Validate(k.New(), &appsv1.DaemonSet{Status: appsv1.DaemonSetStatus{CollisionCount: &one}}),
		`status.collisionCount: Invalid value: 0: cannot be decremented`)
}

func TestDaemonSetIsShown(t *testing.T) {
	k := apps.DaemonSet()
	if got, want := strings.Join(kindtest.Header(k), " "), "Name Desired Current Ready Up-to-date Available Node Selector Age Containers+ Images+ Selector+"; got != want {
		t.Errorf("header %s, want %s", got, want)
	}
	ds := kindtest.Read(t, k, `{metadata: {name: web, creationTimestamp: "2026-11-21T11:00:00Z"}, `+
		strings.Replace(spec(""), "spec: {containers", "spec: {nodeSelector: {disk: ssd}, containers", 1)+
		`, status: {desiredNumberScheduled: 5, currentNumberScheduled: 4, numberReady: 3, updatedNumberScheduled: 2, numberAvailable: 1}}`)
	if got, want := kindtest.Row(k, ds), []any{"web", int64(5), int64(4), int64(3), int64(2), int64(1), "disk=ssd", "60m", "a", "a:1", "app=web"}; !slices.Equal(got, want) {
		t.Errorf("row %q, want %q", got, want)
	}
}
