package core_test

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/kind/core"
	"sampan/cluster/kind/kindtest"
)

// webTemplate is a template with labels.
const webTemplate = `template: {metadata: {labels: {app: web}}, spec: {containers: [{name: a, image: "a:1"}]}}`

func TestReplicationControllerRules(t *testing.T) {
	kindtest.Check(t, core.ReplicationController(), []kindtest.Rule{
		{Rule: "a template with labels is enough", New: `spec: {` + webTemplate + `}`},
		{Rule: "a template is needed", New: `spec: {selector: {app: web}}`, Want: []string{`spec.template: Required value`}},
		{Rule: "a selector is needed where the template has no labels", New: `spec: {template: {spec: {containers: [{name: a, image: a}]}}}`,
			Want: []string{`spec.selector: Required value`}},
		{Rule: "a selector selects its own template", New: `spec: {selector: {app: x}, ` + webTemplate + `}`, Want: []string{
			"spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`"}},
		{Rule: "a selector may change with the template", Old: `spec: {` + webTemplate + `}`,
			New: `spec: {selector: {app: x}, template: {metadata: {labels: {app: x}}, spec: {containers: [{name: a, image: a}]}}}`},
		{Rule: "there are no negative pods", New: `spec: {replicas: -1, minReadySeconds: -2, ` + webTemplate + `}`, Want: []string{
			`spec.minReadySeconds: Invalid value: -2: must be greater than or equal to 0`,
			`spec.replicas: Invalid value: -1: must be greater than or equal to 0`}},
		{Rule: "a template's pods restart, and have no deadline", New: `spec: {template: {metadata: {labels: {app: web}}, spec: {restartPolicy: Never, activeDeadlineSeconds: 5, containers: [{name: a, image: a}]}}}`, Want: []string{
			`spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"`,
			`spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicationController is not Supported`}},
	})
}

func TestReplicationControllerTakesLabelsOfItsTemplate(t *testing.T) {
	rc := kindtest.Create(t, core.ReplicationController(), `spec: {`+webTemplate+`}`).(*corev1.ReplicationController)
	if *rc.Spec.Replicas != 1 || rc.Spec.Selector["app"] != "web" || rc.Labels["app"] != "web" || rc.Spec.Template.Spec.RestartPolicy != "Always" {
		t.Errorf("defaulted to %+v", rc)
	}
	rc.Spec.Selector["app"] = "x"
	if rc.Spec.Template.Labels["app"] != "web" || rc.Labels["app"] != "web" {
		t.Error("selector, labels and the template's labels are one map")
	}
	own := kindtest.Create(t, core.ReplicationController(), `{metadata: {labels: {a: b}}, spec: {replicas: 0, `+webTemplate+`}}`).(*corev1.ReplicationController)
	if *own.Spec.Replicas != 0 || len(own.Labels) != 1 || own.Labels["a"] != "b" {
		t.Errorf("what is set stays: %+v", own)
	}
}

func TestReplicationControllerStatusAddsUp(t *testing.T) {
	k := core.ReplicationController()
	check := func(status string, want ...string) {
		t.Helper()
		kindtest.Compare(t, k.Parts["status"].Validate(kindtest.Read(t, k, "status: "+status), k.New()), want...)
	}
	check(`{replicas: 2, readyReplicas: 2, availableReplicas: 1, fullyLabeledReplicas: 2}`)
	check(`{replicas: 1, readyReplicas: 2, fullyLabeledReplicas: 2}`,
		`status.fullyLabeledReplicas: Invalid value: 2: cannot be greater than status.replicas`,
		`status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas`)
}

func TestReplicationControllerIsShownAndScaled(t *testing.T) {
	k := core.ReplicationController()
	rc := kindtest.Read(t, k, `{metadata: {name: web, creationTimestamp: "2026-11-21T11:00:00Z"}, spec: {replicas: 3, selector: {app: web}, `+webTemplate+`}, status: {replicas: 2, readyReplicas: 1}}`)
	if got, want := kindtest.Header(k), []string{"Name", "Desired", "Current", "Ready", "Age", "Containers+", "Images+", "Selector+"}; !slices.Equal(got, want) {
		t.Errorf("header %q, want %q", got, want)
	}
	if got, want := kindtest.Row(k, rc), []any{"web", int64(3), int64(2), int64(1), "60m", "a", "a:1", "app=web"}; !slices.Equal(got, want) {
		t.Errorf("row %q, want %q", got, want)
	}
	if spec, status := k.Scale.Get(rc); spec.Replicas != 3 || status.Replicas != 2 || status.Selector != "app=web" {
		t.Errorf("scale %v %v", spec, status)
	}
	if k.Scale.Set(rc, 5); *rc.(*corev1.ReplicationController).Spec.Replicas != 5 {
		t.Error("not scaled")
	}
	dotted := &corev1.ReplicationController{}
	dotted.Name = "a.b"
	if w := k.Warn(dotted, nil); len(w) != 1 || !strings.Contains(w[0], "a DNS label is recommended") {
		t.Errorf("warnings %q, want one about the name", w)
	}
}
