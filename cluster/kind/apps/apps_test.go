package apps_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sampan/cluster/kind"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/kindtest"
)

// spec is a workload's spec with a selector, a template that matches it, and
// more.
func spec(more string) string {
	if more != "" {
		more = ", " + more
	}
	return `spec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: a, image: "a:1"}]}}` + more + `}`
}

func TestDeploymentRules(t *testing.T) {
	kindtest.Check(t, apps.Deployment(), []kindtest.Rule{
		{Rule: "a selector and a template are enough", New: spec("")},
		{Rule: "a selector is needed", New: `spec: {template: {spec: {containers: [{name: a, image: a}]}}}`, Want: []string{
			`spec.selector: Required value`, "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`"}},
		{Rule: "a selector selects something", New: `spec: {selector: {}, template: {spec: {containers: [{name: a, image: a}]}}}`, Want: []string{
			`spec.selector: Invalid value: {}: empty selector is invalid for deployment`}},
		{Rule: "a selector selects its own template", New: `spec: {selector: {matchLabels: {app: x}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: a, image: a}]}}}`, Want: []string{
			"spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`"}},
		{Rule: "a selector stays", Old: spec(""), New: `spec: {selector: {matchLabels: {app: x}}, template: {metadata: {labels: {app: x}}, spec: {containers: [{name: a, image: a}]}}}`, Want: []string{
			`spec.selector: Invalid value: {"matchLabels":{"app":"x"}}: field is immutable`}},
		{Rule: "a template's pods restart", New: `spec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {restartPolicy: Never, containers: [{name: a, image: a}]}}}`, Want: []string{
			`spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"`}},
		{Rule: "a template is checked as a pod", New: `spec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: a}]}}}`, Want: []string{
			`spec.template.spec.containers[0].image: Required value`}},
		{Rule: "there are no negative pods", New: spec("replicas: -1"), Want: []string{`spec.replicas: Invalid value: -1: must be greater than or equal to 0`}},
		{Rule: "a roll-out moves", New: spec(`strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 0%}}`), Want: []string{
			"spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0"}},
		{Rule: "no more than all may be away", New: spec(`strategy: {rollingUpdate: {maxUnavailable: 110%}}`), Want: []string{
			`spec.strategy.rollingUpdate.maxUnavailable: Invalid value: "110%": must not be greater than 100%`}},
		{Rule: "a percentage ends with %", New: spec(`strategy: {rollingUpdate: {maxSurge: many}}`), Want: []string{
			`spec.strategy.rollingUpdate.maxSurge: Invalid value: "many": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')`}},
		{Rule: "recreation has no pace", New: spec(`strategy: {type: Recreate, rollingUpdate: {maxSurge: 1}}`), Want: []string{
			"spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"}},
		{Rule: "progress takes longer than readiness", New: spec(`minReadySeconds: 700`), Want: []string{
			`spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds`}},
	})
}

func TestDeploymentDefaults(t *testing.T) {
	d := kindtest.Create(t, apps.Deployment(), spec("")).(*appsv1.Deployment)
	s := d.Spec
	if *s.Replicas != 1 || *s.RevisionHistoryLimit != 10 || *s.ProgressDeadlineSeconds != 600 ||
		s.Strategy.Type != "RollingUpdate" || s.Strategy.RollingUpdate.MaxSurge.String() != "25%" || s.Strategy.RollingUpdate.MaxUnavailable.String() != "25%" ||
		s.Template.Spec.RestartPolicy != "Always" || s.Template.Spec.Containers[0].ImagePullPolicy != "IfNotPresent" {
		t.Errorf("defaulted to %+v", s)
	}
	two := kindtest.Create(t, apps.Deployment(), spec("strategy: {rollingUpdate: {maxSurge: 2}}")).(*appsv1.Deployment)
	if r := two.Spec.Strategy.RollingUpdate; r.MaxSurge.IntValue() != 2 || r.MaxUnavailable.String() != "25%" {
		t.Errorf("what is set stays: %+v", r)
	}
}

func TestStatusesAddUp(t *testing.T) {
	check := func(k *kind.Kind, status string, want ...string) {
		t.Helper()
		obj := kindtest.Read(t, k, "status: "+status)
		kindtest.Compare(t, k.Parts["status"].Validate(obj, k.New()), want...)
	}
	check(apps.Deployment(), `{replicas: 3, readyReplicas: 3, availableReplicas: 2, updatedReplicas: 3}`)
	check(apps.Deployment(), `{replicas: 1, readyReplicas: 2}`, `status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas`)
	check(apps.ReplicaSet(), `{replicas: 2, readyReplicas: 1, availableReplicas: 2}`, `status.availableReplicas: Invalid value: 2: cannot be greater than readyReplicas`)

	k, one := apps.Deployment(), int32(1)
	old := &appsv1.Deployment{Status: appsv1.DeploymentStatus{CollisionCount: &one}}
	kindtest.Compare(t, k.Parts["status"].Validate(&appsv1.Deployment{}, old), `status.collisionCount: Invalid value: null: cannot be decremented`)
}

func TestReplicaSetRules(t *testing.T) {
	kindtest.Check(t, apps.ReplicaSet(), []kindtest.Rule{
		{Rule: "a selector and a template are enough", New: spec("")},
		{Rule: "a template may change", Old: spec(""), New: strings.Replace(spec(""), "a:1", "a:2", 1)},
		{Rule: "a selector stays, which is said after what is wrong with it", Old: spec(""), New: strings.Replace(spec(""), "selector: {matchLabels: {", "selector: {matchLabels: {b: -, ", 1), Want: []string{
			`spec.selector.matchLabels: Invalid value: "-": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')`,
			`spec.selector: Invalid value: {"matchLabels":{"app":"web","b":"-"}}: invalid label selector`,
			`spec.selector: Invalid value: {"matchLabels":{"app":"web","b":"-"}}: field is immutable`}},
		{Rule: "readiness takes no negative time", New: spec("minReadySeconds: -1"), Want: []string{`spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0`}},
	})
}

func TestNamesOfPodsAreLabelsAtBest(t *testing.T) {
	for _, k := range []*kind.Kind{apps.Deployment(), apps.ReplicaSet()} {
		obj := kindtest.Create(t, k, spec(""))
		obj.SetName("web.v2")
		if got := k.Warn(obj, nil); len(got) != 1 || !strings.HasPrefix(got[0], "metadata.name: this is used in Pod names and hostnames") {
			t.Errorf("%s: a new one warns of its name: %q", k, got)
		}
		if got := k.Warn(obj, obj); len(got) != 0 {
			t.Errorf("%s: one that is there warns again: %q", k, got)
		}
	}
}

// A rule that came later must not keep a controller from scaling what is there.
func TestAnOldFaultyTemplateCanBeScaled(t *testing.T) {
	k := apps.ReplicaSet()
	old := kindtest.Create(t, k, strings.Replace(spec(""), "name: a,", "name: Bad_Name,", 1))
	now := old.DeepCopyObject().(*appsv1.ReplicaSet)
	k.Scale.Set(now, 5)
	kindtest.Compare(t, k.Validate(now, old))
	if *now.Spec.Replicas != 5 {
		t.Errorf("scaled to %d", *now.Spec.Replicas)
	}
}

func TestScale(t *testing.T) {
	for _, k := range []*kind.Kind{apps.Deployment(), apps.ReplicaSet()} {
		obj := kindtest.Read(t, k, spec("replicas: 3")+"\nstatus: {replicas: 2}")
		s, st := k.Scale.Get(obj)
		if s.Replicas != 3 || st.Replicas != 2 || st.Selector != "app=web" {
			t.Errorf("%s: scale %v %v", k, s, st)
		}
	}
}

func TestRows(t *testing.T) {
	meta := "metadata: {name: web, creationTimestamp: \"2026-11-21T11:00:00Z\"}\n"
	for _, c := range []struct {
		k    *kind.Kind
		text string
		head string
		want []any
	}{
		{apps.Deployment(), meta + spec("replicas: 3") + "\nstatus: {readyReplicas: 2, updatedReplicas: 3, availableReplicas: 1}",
			"Name Ready Up-to-date Available Age Containers+ Images+ Selector+",
			[]any{"web", "2/3", int64(3), int64(1), "60m", "a", "a:1", "app=web"}},
		{apps.ReplicaSet(), meta + spec("replicas: 3") + "\nstatus: {replicas: 2, readyReplicas: 1}",
			"Name Desired Current Ready Age Containers+ Images+ Selector+",
			[]any{"web", int64(3), int64(2), int64(1), "60m", "a", "a:1", "app=web"}},
	} {
		if got := strings.Join(kindtest.Header(c.k), " "); got != c.head {
			t.Errorf("header %s, want %s", got, c.head)
		}
		if got := kindtest.Row(c.k, kindtest.Read(t, c.k, c.text)); !slices.Equal(got, c.want) {
			t.Errorf("row %q, want %q", got, c.want)
		}
	}
	yes := true
	rev := &appsv1.ControllerRevision{ObjectMeta: metav1.ObjectMeta{Name: "r", CreationTimestamp: kindtest.Ago(time.Minute),
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "db", Controller: &yes}}}, Revision: 4}
	if got := kindtest.Row(apps.ControllerRevision(), rev); !slices.Equal(got, []any{"r", "statefulset.apps/db", int64(4), "60s"}) {
		t.Errorf("row %q", got)
	}
}

func TestRevisionRules(t *testing.T) {
	k := apps.ControllerRevision()
	rev := func(data string) *appsv1.ControllerRevision {
		return &appsv1.ControllerRevision{Data: runtime.RawExtension{Raw: []byte(data)}}
	}
	kindtest.Compare(t, k.Validate(rev(`{"a":1}`), nil))
	kindtest.Compare(t, k.Validate(rev(``), nil), "data: Required value: data is mandatory")
	kindtest.Compare(t, k.Validate(rev(`[1]`), nil), "data: Required value: data must be a valid JSON object")
	kindtest.Compare(t, k.Validate(rev(`null`), rev(`{"a":1}`)), "data: Invalid value: null: field is immutable")
	kindtest.Compare(t, k.Validate(rev(`5`), rev(`{"a":1}`)), "data: Invalid value: 5: field is immutable")
	if errs := k.Validate(rev(`{"a":2}`), rev(`{"a":1}`)); len(errs) != 1 || !strings.HasSuffix(errs[0].Error(), "field is immutable") {
		t.Errorf("what was, was: %v", errs)
	}
}
