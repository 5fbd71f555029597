package verb_test

import (
	"errors"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/kind"
)

func (s *server) update(what, body string) (kind.Object, error) {
	s.Helper()
	obj, _, err := s.api.Update(s.Context(), s.ask("update", what), asJSON(body))
	return obj, err
}

func (s *server) patch(what string, pt types.PatchType, body string) (kind.Object, error) {
	s.Helper()
	obj, _, err := s.api.Patch(s.Context(), s.ask("patch", what), pt, []byte(body))
	return obj, err
}

func (s *server) apply(what, manager, body string, force bool) (kind.Object, bool, error) {
	s.Helper()
	r := s.ask("patch", what)
	r.FieldManager, r.Force = manager, force
	return s.api.Patch(s.Context(), r, types.ApplyYAMLPatchType, []byte(body))
}

func TestUpdate(t *testing.T) {
	s := serve(t)
	first := s.mustCreate("configmaps", `{"metadata":{"name":"web"},"data":{"a":"1"}}`)

	t.Run("replaces the object", func(t *testing.T) {
		obj, err := s.update("configmaps/web", `{"metadata":{"name":"web","resourceVersion":"`+first.GetResourceVersion()+`"},"data":{"a":"2"}}`)
		if err != nil || obj.(*corev1.ConfigMap).Data["a"] != "2" || obj.GetUID() != first.GetUID() || obj.GetResourceVersion() == first.GetResourceVersion() {
			t.Errorf("got %s, %v", text(obj), err)
		}
	})
	t.Run("refuses what was made from an older state", func(t *testing.T) {
		_, err := s.update("configmaps/web", `{"metadata":{"name":"web","resourceVersion":"`+first.GetResourceVersion()+`"},"data":{"a":"3"}}`)
		s.status(err, 409, `Operation cannot be fulfilled on configmaps "web": the object has been modified; please apply your changes to the latest version and try again`)
	})
	t.Run("writes nothing if nothing changes", func(t *testing.T) {
		was, _ := s.get("configmaps/web")
		obj, err := s.update("configmaps/web", `{"metadata":{"name":"web"},"data":{"a":"2"}}`)
		if err != nil || obj.GetResourceVersion() != was.GetResourceVersion() {
			t.Fatalf("%s became %s, %v", text(was), text(obj), err)
		}
	})
	t.Run("checks the name and the uid", func(t *testing.T) {
		_, err := s.update("configmaps/web", `{"metadata":{"name":"other"}}`)
		s.status(err, 400, "the name of the object (other) does not match the name on the URL (web)")
		_, err = s.update("configmaps/web", `{"metadata":{"name":"web","uid":"u"}}`)
		s.status(err, 409, "Precondition failed: UID in precondition: u, UID in object meta: "+string(first.GetUID()))
	})
	t.Run("does not create, but where the kind says so", func(t *testing.T) {
		_, err := s.update("configmaps/none", `{"metadata":{"name":"none"}}`)
		s.status(err, 404, `configmaps "none" not found`)
		_, created, err := s.api.Update(t.Context(), s.ask("update", "leases/l"), asJSON(`{"metadata":{"name":"l"}}`))
		if err != nil || !created {
			t.Errorf("PUT of a new lease: created %v, %v", created, err)
		}
	})
	t.Run("counts changes of what is wanted, and only those", func(t *testing.T) {
		s.mustCreate("deployments", deployment)
		obj, err := s.update("deployments/web", strings.Replace(deployment, `"replicas":2`, `"replicas":5`, 1))
		if err != nil || obj.GetGeneration() != 2 {
			t.Fatalf("got %s, %v; want generation 2", text(obj), err)
		}
		obj, err = s.update("deployments/web/status", strings.Replace(deployment, `"spec"`, `"status":{"observedGeneration":2},"spec"`, 1))
		if err != nil {
			t.Fatal(err)
		}
		d := obj.(*appsv1.Deployment)
		if d.Generation != 2 || d.Status.ObservedGeneration != 2 || *d.Spec.Replicas != 5 {
			t.Errorf("after a status update: %s", text(d))
		}
		obj, err = s.update("deployments/web", strings.Replace(deployment, `"replicas":2`, `"replicas":5`, 1))
		if err != nil || obj.(*appsv1.Deployment).Status.ObservedGeneration != 2 {
			t.Errorf("an update of the spec does not change the status; got %s, %v", text(obj), err)
		}
	})
}

func TestPatch(t *testing.T) {
	s := serve(t)
	s.mustCreate("deployments", deployment)
	replicas := func(obj kind.Object, err error) int32 {
		t.Helper()
		if err != nil {
			t.Error(err)
			return -1
		}
		return *obj.(*appsv1.Deployment).Spec.Replicas
	}
	for _, c := range []struct {
		it   string
		pt   types.PatchType
		body string
		want int32
	}{
		{"JSON", types.JSONPatchType, `[{"op":"replace","path":"/spec/replicas","value":3}]`, 3},
		{"merge", types.MergePatchType, `{"spec":{"replicas":4}}`, 4},
		{"strategic merge", types.StrategicMergePatchType, `{"spec":{"replicas":5,"template":{"spec":{"containers":[{"name":"c","image":"i:2"}]}}}}`, 5},
	} {
		t.Run(c.it, func(t *testing.T) {
			if got := replicas(s.patch("deployments/web", c.pt, c.body)); got != c.want {
				t.Errorf("%d replicas, want %d", got, c.want)
			}
		})
	}
	t.Run("a strategic merge goes into lists by their keys", func(t *testing.T) {
		obj, _ := s.get("deployments/web")
		if c := obj.(*appsv1.Deployment).Spec.Template.Spec.Containers[0]; c.Image != "i:2" || len(c.Ports) != 1 {
			t.Errorf("container %s", text(c))
		}
	})
	t.Run("with a resourceVersion it is conditional", func(t *testing.T) {
		_, err := s.patch("deployments/web", types.MergePatchType, `{"metadata":{"resourceVersion":"1"},"spec":{"replicas":9}}`)
		s.status(err, 409, "the object has been modified")
	})
	t.Run("of a part changes that part only", func(t *testing.T) {
		obj, err := s.patch("deployments/web/status", types.MergePatchType, `{"spec":{"replicas":9},"status":{"replicas":7}}`)
		if got := replicas(obj, err); got != 5 || obj.(*appsv1.Deployment).Status.Replicas != 7 {
			t.Errorf("got %s", text(obj))
		}
	})
	t.Run("says what is wrong", func(t *testing.T) {
		_, err := s.patch("deployments/web", types.JSONPatchType, `{"op":"x"}`)
		s.status(err, 400, "")
		_, err = s.patch("deployments/web", types.JSONPatchType, `[{"op":"test","path":"/spec/replicas","value":1}]`)
		s.status(err, 422, "the server rejected our request due to an error in our request")
		_, err = s.patch("deployments/web", types.MergePatchType, `{"spec":{"bad":1}}`)
		s.status(err, 422, `strict decoding error: unknown field "spec.bad"`)
		_, err = s.patch("deployments/web", types.StrategicMergePatchType, `{"spec":{"bad":1}}`)
		s.status(err, 422, `unknown field "spec.bad"`)
		_, err = s.patch("deployments/web", types.JSONPatchType, "["+strings.Repeat(`{"op":"test","path":"/kind","value":"Deployment"},`, 10000)+`{"op":"test","path":"/kind","value":"Deployment"}]`)
		s.status(err, 413, "The allowed maximum operations in a JSON patch is 10000, got 10001")
		_, err = s.patch("deployments/none", types.MergePatchType, `{}`)
		s.status(err, 404, `deployments.apps "none" not found`)
	})
}

const applied = `
apiVersion: v1
kind: ConfigMap
metadata: {name: web, labels: {by: "%"}}
data: {a: "%"}
`

func TestApply(t *testing.T) {
	s := serve(t)
	as := func(value string) string { return strings.ReplaceAll(applied, "%", value) }

	t.Run("creates", func(t *testing.T) {
		obj, created, err := s.apply("configmaps/web", "one", as("1"), false)
		if err != nil || !created || obj.(*corev1.ConfigMap).Data["a"] != "1" {
			t.Fatalf("created %v: %s, %v", created, text(obj), err)
		}
		if got := obj.GetManagedFields(); len(got) != 1 || got[0].Operation != "Apply" || got[0].Manager != "one" ||
			string(got[0].FieldsV1.Raw) != `{"f:data":{"f:a":{}},"f:metadata":{"f:labels":{"f:by":{}}}}` {
			t.Errorf("managedFields %s", text(got))
		}
	})
	t.Run("the same again writes nothing", func(t *testing.T) {
		was, _ := s.get("configmaps/web")
		obj, created, err := s.apply("configmaps/web", "one", as("1"), false)
		if err != nil || created || obj.GetResourceVersion() != was.GetResourceVersion() {
			t.Errorf("created %v, %v: %s became %s", created, err, text(was), text(obj))
		}
	})
	t.Run("of another's field is a conflict that names it", func(t *testing.T) {
		_, _, err := s.apply("configmaps/web", "two", as("2"), false)
		s.status(err, 409, `Apply failed with 2 conflicts: conflicts with "one"`)
		if cause, ok := apierrors.StatusCause(err, metav1.CauseTypeFieldManagerConflict); !ok || cause.Field != ".data.a" && cause.Field != ".metadata.labels.by" {
			t.Errorf("cause %v", cause)
		}
	})
	t.Run("takes it over by force", func(t *testing.T) {
		obj, _, err := s.apply("configmaps/web", "two", as("2"), true)
		if err != nil || obj.(*corev1.ConfigMap).Data["a"] != "2" || len(obj.GetManagedFields()) != 1 || obj.GetManagedFields()[0].Manager != "two" {
			t.Errorf("got %s, %v", text(obj), err)
		}
	})
	t.Run("removes what is applied no more", func(t *testing.T) {
		obj, _, err := s.apply("configmaps/web", "two", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {b: x}", false)
		if err != nil || text(obj.(*corev1.ConfigMap).Data) != `{"b":"x"}` || len(obj.GetLabels()) != 0 {
			t.Errorf("got %s, %v", text(obj), err)
		}
	})
	t.Run("wants a manager and knows the fields", func(t *testing.T) {
		_, _, err := s.apply("configmaps/web", "", as("1"), false)
		s.status(err, 422, "is required for apply patch")
		_, _, err = s.apply("configmaps/web", "x", "apiVersion: v1\nkind: ConfigMap\nspec: {}", false)
		if err == nil || !strings.Contains(err.Error(), "field not declared in schema") {
			t.Errorf("an unknown field: %v", err)
		}
	})
	t.Run("merges lists by their keys, and keeps the status apart", func(t *testing.T) {
		s.mustCreate("deployments", deployment)
		obj, _, err := s.apply("deployments/web", "two", `{apiVersion: apps/v1, kind: Deployment, metadata: {name: web},
			spec: {selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: d, image: "j:1"}]}}}, status: {replicas: 4}}`, false)
		if err != nil {
			t.Fatal(err)
		}
		d := obj.(*appsv1.Deployment)
		if len(d.Spec.Template.Spec.Containers) != 2 || d.Status.Replicas != 0 || d.Generation != 2 {
			t.Errorf("got %s", text(d))
		}
	})
}

func TestScale(t *testing.T) {
	s := serve(t)
	s.mustCreate("deployments", deployment)
	obj, err := s.get("deployments/web/scale")
	if err != nil || obj.(*autoscalingv1.Scale).Spec.Replicas != 2 {
		t.Fatalf("scale %s, %v", text(obj), err)
	}
	obj, err = s.update("deployments/web/scale", `{"metadata":{"name":"web"},"spec":{"replicas":6}}`)
	if err != nil || obj.(*autoscalingv1.Scale).Spec.Replicas != 6 {
		t.Errorf("updated scale %s, %v", text(obj), err)
	}
	obj, err = s.patch("deployments/web/scale", types.MergePatchType, `{"spec":{"replicas":7}}`)
	if err != nil || obj.(*autoscalingv1.Scale).Spec.Replicas != 7 {
		t.Errorf("patched scale %s, %v", text(obj), err)
	}
	if d, _ := s.get("deployments/web"); *d.(*appsv1.Deployment).Spec.Replicas != 7 || d.GetGeneration() != 3 {
		t.Errorf("deployment %s", text(d))
	}
	_, err = s.update("deployments/web/scale", `{"metadata":{"name":"web","resourceVersion":"1"},"spec":{"replicas":-1}}`)
	s.status(err, 422, "spec.replicas: Invalid value: -1: must be greater than or equal to 0")
	_, err = s.create("replicationcontrollers", `{"metadata":{"generateName":"a/b"},"spec":{"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}`)
	s.status(err, 422, `metadata.name: Invalid value: "a/b`) // and nothing about generateName, where rules are declared
	if strings.Contains(err.Error(), "generateName") {
		t.Error(err)
	}
}

func TestALimitRangeWithoutANameGetsOne(t *testing.T) {
	s := serve(t)
	made, err := s.create("limitranges", `{"spec":{"limits":[]}}`)
	if err != nil || len(made.GetName()) != 36 {
		t.Fatalf("%s, %v", text(made), err)
	}
	if _, err := s.get("limitranges/" + made.GetName()); err != nil {
		t.Error(err)
	}
}

// Where an object has no replicas its scale cannot be read, and can be set, as
// upstream has it of custom resources.
func TestAScaleThatIsNotThereCanBeSet(t *testing.T) {
	s := serve(t)
	s.mustCreate("deployments", deployment)
	scale := s.ask("get", "deployments").Kind.Scale
	found := false
	scale.Check = func(kind.Object) error {
		if !found {
			return errors.New(`the spec replicas field ".spec.replicas" does not exist`)
		}
		return nil
	}
	_, err := s.get("deployments/web/scale")
	s.status(err, 500, `the spec replicas field ".spec.replicas" does not exist`)
	_, err = s.patch("deployments/web/scale", types.MergePatchType, `{"metadata":{"labels":{"a":"b"}}}`)
	s.status(err, 400, `the spec replicas field ".spec.replicas" cannot be empty`)
	obj, err := s.patch("deployments/web/scale", types.MergePatchType, `{"spec":{"replicas":7}}`)
	if err != nil || obj.(*autoscalingv1.Scale).Spec.Replicas != 7 {
		t.Fatalf("scale %s, %v", text(obj), err)
	}
	found = true
	if obj, err = s.get("deployments/web/scale"); err != nil || obj.(*autoscalingv1.Scale).Spec.Replicas != 7 {
		t.Errorf("scale %s, %v", text(obj), err)
	}
}

// An Event is one stored object that two groups serve.
func TestFieldsKeepTheirOwnersAcrossVersions(t *testing.T) {
	s := serve(t)
	newer := s.ask("create", "events")
	newer.GVK = eventsv1.SchemeGroupVersion.WithKind("Event")
	newer.FieldManager = "newer"
	obj, err := s.api.Create(t.Context(), newer, asJSON(`{"metadata":{"name":"e"},"eventTime":"2026-01-02T03:04:05.000000Z","type":"Normal",
		"reason":"R","action":"A","note":"n","reportingController":"c.io/x","reportingInstance":"i","regarding":{"namespace":"default","kind":"Pod","name":"p"}}`))
	if err != nil {
		t.Fatal(err)
	}
	if m := obj.GetManagedFields(); len(m) != 1 || m[0].APIVersion != "events.k8s.io/v1" || !strings.Contains(string(m[0].FieldsV1.Raw), `"f:note"`) {
		t.Errorf("managedFields %s", text(m))
	}
	obj, err = s.patch("events/e", types.MergePatchType, `{"count":2}`)
	if err != nil {
		t.Fatal(err)
	}
	if m := obj.GetManagedFields(); len(m) != 2 || obj.(*corev1.Event).Count != 2 || obj.(*corev1.Event).Message != "n" {
		t.Errorf("after a write in the older version: %s", text(obj))
	}
	_, _, err = s.apply("events/e", "third", `{apiVersion: v1, kind: Event, metadata: {name: e}, involvedObject: {kind: Pod, name: p}, message: other}`, false)
	s.status(err, 409, "Apply failed with 2 conflicts: conflicts with \"newer\" using events.k8s.io/v1:\n- .note\n- .regarding")
}

// The same object is right in one version and wrong in the stricter other.
func TestAVersionMayAskForMore(t *testing.T) {
	s := serve(t)
	newer := s.ask("create", "events")
	newer.GVK = eventsv1.SchemeGroupVersion.WithKind("Event")
	_, err := s.api.Create(t.Context(), newer, asJSON(`{"metadata":{"name":"e"},"type":"Normal","deprecatedCount":2,"regarding":{"namespace":"default"}}`))
	s.status(err, 422, `Event "e" is invalid: [eventTime: Required value, count: Invalid value: "": needs to be unset]`)
	older, err := s.create("events", `{"metadata":{"name":"e"},"type":"Normal","count":2,"involvedObject":{"namespace":"default"}}`)
	if err != nil {
		t.Fatalf("core/v1 asks for less: %v", err)
	}
	newer = s.ask("update", "events/e")
	newer.GVK = eventsv1.SchemeGroupVersion.WithKind("Event")
	_, _, err = s.api.Update(t.Context(), newer, asJSON(`{"metadata":{"name":"e"},"type":"Normal","note":"n","deprecatedCount":2,"regarding":{"namespace":"default"}}`))
	s.status(err, 422, `Event "e" is invalid: message: Invalid value: "n": field is immutable`)
	if _, err = s.update("events/e", `{"metadata":{"name":"e"},"type":"Normal","message":"n","count":2,"involvedObject":{"namespace":"default"}}`); err != nil {
		t.Errorf("%s may change: %v", older.GetName(), err)
	}
}
