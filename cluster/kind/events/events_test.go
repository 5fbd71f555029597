package events_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/kind/core"
	"sampan/cluster/kind/events"
	"sampan/cluster/kind/kindtest"
)

const (
	old    = `{metadata: {namespace: shop}, involvedObject: {kind: Pod, name: web, namespace: shop}, reason: Pulled, source: {component: x}}`
	recent = `{metadata: {namespace: shop}, involvedObject: {kind: Pod, name: web, namespace: shop}, eventTime: "2026-11-21T12:00:00.000001Z",
  reason: Pulled, action: Pull, type: Normal, reportingComponent: example.com/x, reportingInstance: x-1`
)

func TestEventRules(t *testing.T) {
	kindtest.Check(t, core.Event(), []kindtest.Rule{
		{Rule: "an old event says what it likes", New: old},
		{Rule: "an event is where its object is", New: `{metadata: {namespace: other}, involvedObject: {namespace: shop}}`, Want: []string{
			`involvedObject.namespace: Invalid value: "shop": does not match event.namespace`}},
		{Rule: "what is in no namespace has its events in default", New: `{metadata: {namespace: shop}, involvedObject: {kind: Node, name: n}}`, Want: []string{
			`involvedObject.namespace: Invalid value: "": does not match event.namespace`}},
		{Rule: "a new event is complete", New: recent + `}`},
		{Rule: "a new event says who and why", New: `{metadata: {namespace: default}, eventTime: "2026-11-21T12:00:00.000000Z", reportingComponent: x}`, Want: []string{
			`reportingInstance: Required value`, `action: Required value`, `reason: Required value`}},
		{Rule: "as core/v1 anything may change", Old: recent + `}`, New: recent + `, message: other}`},
	})
}

func TestOneEventTwoVersions(t *testing.T) {
	v := events.Version()
	e := &eventsv1.Event{ObjectMeta: metav1.ObjectMeta{Name: "web.1"}, Note: "hello", Regarding: corev1.ObjectReference{Name: "web"},
		Series: &eventsv1.EventSeries{Count: 3}, DeprecatedCount: 3, ReportingController: "x"}
	hub, err := v.ToHub(e)
	if err != nil {
		t.Fatal(err)
	}
	c := hub.(*corev1.Event)
	if c.Message != "hello" || c.InvolvedObject.Name != "web" || c.Series.Count != 3 || c.Count != 3 || c.Kind != "Event" || c.APIVersion != "v1" {
		t.Errorf("as core/v1: %+v", c)
	}
	if got := v.Fields["regarding.name"](c) + v.Fields["reportingController"](c); got != "webx" {
		t.Errorf("selected as %q", got)
	}
	if _, err := v.ToHub(&corev1.Pod{}); err == nil {
		t.Error("a pod is no event")
	}
}

func TestOneVersionIsStricter(t *testing.T) {
	k := core.Event()
	gvk := eventsv1.SchemeGroupVersion.WithKind("Event")
	was := kindtest.Create(t, k, recent+`}`)
	kindtest.Compare(t, k.ValidateAs(gvk, was, nil))
	if wrong := k.ValidateName("Tools.17ab", false); len(wrong) > 0 {
		t.Errorf("core/v1 is told of a name that it takes: %q", wrong)
	}
	named := was.DeepCopyObject().(*corev1.Event)
	named.Name = "Tools.17ab"
	kindtest.Compare(t, k.ValidateAs(gvk, named, nil), `metadata.name: Invalid value: "Tools.17ab": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`)
	kindtest.Compare(t, k.ValidateAs(gvk, kindtest.Create(t, k, recent+`, count: 2, source: {component: x}}`), nil),
		`count: Invalid value: "": needs to be unset`, `source: Invalid value: "": needs to be unset`)
	kindtest.Compare(t, k.ValidateAs(gvk, kindtest.Create(t, k, old), nil),
		`eventTime: Required value`, `type: Invalid value: "": has invalid value: `, `source: Invalid value: "": needs to be unset`)
	kindtest.Compare(t, k.ValidateAs(k.GVK, kindtest.Create(t, k, old), nil))

	kindtest.Compare(t, k.ValidateAs(gvk, kindtest.Create(t, k, recent+`, series: {count: 2, lastObservedTime: "2026-11-21T12:01:00.000000Z"}}`), was))
	kindtest.Compare(t, k.ValidateAs(gvk, kindtest.Create(t, k, recent+`, series: {count: 1}}`), was),
		`series.count: Invalid value: "": should be at least 2`, `series.lastObservedTime: Required value`)
	kindtest.Compare(t, k.ValidateAs(gvk, kindtest.Create(t, k, recent+`, message: other}`), was), `message: Invalid value: "other": field is immutable`)
}

func TestAFieldHasTheNameOfItsVersion(t *testing.T) {
	k := core.Event()
	e := kindtest.Create(t, k, recent+`}`).(*corev1.Event)
	e.ReportingController = "a b"
	for _, c := range []struct {
		gvk  schema.GroupVersionKind
		name string
	}{{k.GVK, "reportingComponent"}, {eventsv1.SchemeGroupVersion.WithKind("Event"), "reportingController"}} {
		errs := k.ValidateAs(c.gvk, e, nil)
		if len(errs) != 1 || errs[0].Field != c.name {
			t.Errorf("%s: got %v, want one about %s", c.gvk.GroupVersion(), errs, c.name)
		}
	}
}
