package bootstrap

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"sampan/cluster/client"
	"sampan/cluster/crd"
	"sampan/cluster/kind"
	"sampan/cluster/object"
	"sampan/cluster/request"
	"sampan/cluster/store"
	"sampan/cluster/verb"
	"sampan/cluster/verb/verbtest"
	"sampan/cluster/webhook"
)

// all lets everybody do everything.
type all struct{}

func (all) Authorize(context.Context, request.Request) error { return nil }

// custom is an API with custom resources, on a store of its own.
type custom struct {
	*testing.T
	api      *verb.API
	kinds    *kind.Table
	registry *crd.Registry
}

func newCustom(t *testing.T) *custom {
	t.Helper()
	kinds := Kinds(false)
	db, err := store.Open(t.Context(), store.Config{Dir: t.TempDir(), Kinds: kinds, Codec: object.Storage{}, CheckShared: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	c := &custom{T: t, kinds: kinds, api: verbtest.New(t, kinds, verb.Config{Store: db, Authorizer: all{}})}
	reader := verb.NewReader(kinds, db)
	calls, err := webhook.New(webhook.Config{Objects: reader})
	if err != nil {
		t.Fatal(err)
	}
	c.registry, err = crd.New(crd.Config{Objects: reader, Kinds: kinds, Store: db, Webhooks: calls, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// declare makes or changes a definition as if its names had been accepted.
func (c *custom) declare(versions string) {
	c.Helper()
	cl := c.api.As(request.User{Name: "ann"})
	d := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.UnmarshalStrict([]byte(`
metadata: {name: crontabs.example.com}
spec: {group: example.com, scope: Namespaced, names: {plural: crontabs, kind: CronTab}, versions: [`+versions+`]}`), d); err != nil {
		c.Fatal(err)
	}
	old, err := client.Get[*apiextensionsv1.CustomResourceDefinition](c.Context(), cl, "", d.Name)
	if apierrors.IsNotFound(err) {
		old, err = client.Create(c.Context(), cl, d)
	} else if err == nil {
		next := old.DeepCopy()
		next.Spec = d.Spec
		old, err = client.Update(c.Context(), cl, next)
	}
	if err != nil {
		c.Fatal(err)
	}
	next := old.DeepCopy()
	next.Status.AcceptedNames = next.Spec.Names
	next.Status.Conditions = []apiextensionsv1.CustomResourceDefinitionCondition{{Type: apiextensionsv1.NamesAccepted, Status: apiextensionsv1.ConditionTrue}}
	if _, err := client.UpdateStatus(c.Context(), cl, next); err != nil {
		c.Fatal(err)
	}
	if err := c.registry.Load(c.Context()); err != nil {
		c.Fatal(err)
	}
}

func (c *custom) ask(verb, version, name, sub string) request.Request {
	c.Helper()
	k := c.kinds.ByGVR(schema.GroupVersionResource{Group: "example.com", Version: version, Resource: "crontabs"})
	if k == nil {
		c.Fatalf("version %s is not served", version)
	}
	return request.Request{Verb: verb, Kind: k, GVK: k.GVK, Namespace: "default", Name: name, Subresource: sub,
		User: request.User{Name: "ann"}, FieldManager: "ann", FieldValidation: "Strict"}
}

func (c *custom) get(version, name string) string {
	c.Helper()
	obj, err := c.api.Get(c.Context(), c.ask("get", version, name, ""), metav1.GetOptions{})
	if err != nil {
		c.Fatal(err)
	}
	return without(obj)
}

// without is an object as JSON, without the metadata that differs each time.
func without(obj kind.Object) string {
	own := obj.DeepCopyObject().(kind.Object)
	own.SetManagedFields(nil)
	own.SetUID("")
	own.SetResourceVersion("")
	own.SetCreationTimestamp(metav1.Time{})
	text, _ := json.Marshal(own)
	return strings.ReplaceAll(string(text), `"creationTimestamp":null,`, "")
}

func body(text string) verb.Body { return verb.Body{Data: []byte(text), MediaType: object.YAML} }

const twoVersions = `
{name: v1, served: true, storage: true, subresources: {status: {}}, schema: {openAPIV3Schema: {type: object, properties: {
  spec: {type: object, properties: {a: {type: string}, old: {type: string}}}, status: {type: object, properties: {done: {type: boolean}}}}}}},
{name: v2, served: true, storage: false, selectableFields: [{jsonPath: .spec.a}], subresources: {status: {}}, schema: {openAPIV3Schema: {type: object, properties: {
  spec: {type: object, properties: {a: {type: string, maxLength: 5}, count: {type: integer, default: 3}}}, status: {type: object, properties: {done: {type: boolean}}}}}}}`

func TestCustomResourceLivesInAllItsVersions(t *testing.T) {
	c := newCustom(t)
	c.declare(twoVersions)
	made, err := c.api.Create(t.Context(), c.ask("create", "v2", "", ""), body(`{apiVersion: example.com/v2, kind: CronTab, metadata: {name: x}, spec: {a: one}, status: {done: true}}`))
	if err != nil {
		t.Fatal(err)
	}
	// Stored in v1, which has no count: as upstream, what it has not is lost.
	if got, want := without(made), `{"apiVersion":"example.com/v2","kind":"CronTab","metadata":{"generation":1,"name":"x","namespace":"default"},"spec":{"a":"one"}}`; got != want {
		t.Errorf("made %s\nwant %s", got, want)
	}
	if got, want := c.get("v1", "x"), `{"apiVersion":"example.com/v1","kind":"CronTab","metadata":{"generation":1,"name":"x","namespace":"default"},"spec":{"a":"one"}}`; got != want {
		t.Errorf("v1   %s\nwant %s", got, want)
	}
	_, err = c.api.Create(t.Context(), c.ask("create", "v2", "", ""), body(`{apiVersion: example.com/v2, kind: CronTab, metadata: {name: other, bad: 1}, spec: {a: one, old: x}}`))
	if want := `CronTab in version "v2" cannot be handled as a CronTab: strict decoding error: unknown field "metadata.bad", unknown field "spec.old"`; err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
	r := c.ask("patch", "v2", "x", "")
	for patch, want := range map[string]string{
		`{"spec":{"a":"too long"}}`:  `CronTab.example.com "x" is invalid: spec.a: Too long: may not be more than 5 bytes`,
		`{"spec":{"nope":1}}`:        `patch: Invalid value: "{`,
		`{"spec":{"a":"1","a":"2"}}`: `duplicate field "spec.a"`,
	} {
		if _, _, err := c.api.Patch(t.Context(), r, types.MergePatchType, []byte(patch)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v\nwant one with %s", patch, err, want)
		}
	}
	if _, _, err := c.api.Patch(t.Context(), r, types.MergePatchType, []byte(`{"spec":{"a":"two"}}`)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.api.Patch(t.Context(), c.ask("patch", "v1", "x", "status"), types.MergePatchType, []byte(`{"status":{"done":true},"spec":{"a":"no"}}`)); err != nil {
		t.Fatal(err)
	}
	if got, want := c.get("v2", "x"), `{"apiVersion":"example.com/v2","kind":"CronTab","metadata":{"generation":2,"name":"x","namespace":"default"},"spec":{"a":"two"},"status":{"done":true}}`; got != want {
		t.Errorf("v2   %s\nwant %s", got, want)
	}
	for value, want := range map[string]int{"two": 1, "one": 0} {
		l, err := c.api.List(t.Context(), c.ask("list", "v2", "", ""), metav1.ListOptions{FieldSelector: "spec.a=" + value})
		if err != nil || len(l.Objects) != want {
			t.Errorf("%d objects with a=%s, want %d (%v)", len(l.Objects), value, want, err)
		}
	}
	if _, err := c.api.List(t.Context(), c.ask("list", "v1", "", ""), metav1.ListOptions{FieldSelector: "spec.a=two"}); !apierrors.IsBadRequest(err) {
		t.Errorf("a field that v1 does not select by: %v", err)
	}
	if _, done, err := c.api.Delete(t.Context(), c.ask("delete", "v2", "x", ""), nil); err != nil || !done {
		t.Errorf("delete: done %v, %v", done, err)
	}
}

func TestCustomResourceIsAppliedByItsSchema(t *testing.T) {
	c := newCustom(t)
	c.declare(twoVersions)
	apply := func(manager, version, config string) error {
		r := c.ask("patch", version, "x", "")
		r.FieldManager = manager
		_, _, err := c.api.Patch(t.Context(), r, types.ApplyYAMLPatchType, []byte(config))
		return err
	}
	if err := apply("ann", "v1", `{apiVersion: example.com/v1, kind: CronTab, metadata: {name: x}, spec: {a: one}}`); err != nil {
		t.Fatal(err)
	}
	if err := apply("bob", "v2", `{apiVersion: example.com/v2, kind: CronTab, metadata: {name: x}, spec: {a: two}}`); !apierrors.IsConflict(err) || !strings.Contains(err.Error(), `conflict with "ann": .spec.a`) {
		t.Errorf("what another owns: %v", err)
	}
	if err := apply("ann", "v1", `{apiVersion: example.com/v1, kind: CronTab, spec: {nope: 1}}`); err == nil || !strings.Contains(err.Error(), ".spec.nope: field not declared in schema") {
		t.Errorf("what is not declared: %v", err)
	}
	if err := apply("ann", "v1", `{apiVersion: example.com/v1, kind: CronTab, spec: {old: x}}`); err != nil {
		t.Fatal(err)
	}
	if got := c.get("v1", "x"); !strings.Contains(got, `"spec":{"old":"x"}`) {
		t.Errorf("what is applied no more is still there: %s", got)
	}
}

func TestCustomResourceFollowsItsDefinition(t *testing.T) {
	c := newCustom(t)
	c.declare(twoVersions)
	if _, err := c.api.Create(t.Context(), c.ask("create", "v1", "", ""), body(`{metadata: {name: x}, spec: {a: one, old: x}}`)); err != nil {
		t.Fatal(err)
	}
	w, err := c.api.Watch(t.Context(), c.ask("watch", "v1", "", ""), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if events, err := w.Next(t.Context()); err != nil || len(events) != 1 {
		t.Fatalf("events %v, %v", events, err)
	}
	c.declare(strings.Replace(twoVersions, "old: {type: string}", "more: {type: integer, default: 7}", 1))
	if got, want := c.get("v1", "x"), `"spec":{"a":"one","more":7}`; !strings.Contains(got, want) {
		t.Errorf("got %s, want %s: the defaults and fields of now", got, want)
	}
	if _, err := w.Next(t.Context()); !errors.Is(err, verb.ErrEnded) {
		t.Errorf("the watch goes on with what the kind was: %v", err)
	}
	// From now on v2 is stored; a write that changes nothing brings an object
	// into it.
	c.declare(strings.NewReplacer("name: v1, served: true, storage: true", "name: v1, served: false, storage: false", "name: v2, served: true, storage: false", "name: v2, served: true, storage: true").Replace(twoVersions))
	if got, want := c.get("v2", "x"), `{"apiVersion":"example.com/v2","kind":"CronTab","metadata":{"generation":1,"name":"x","namespace":"default"},"spec":{"a":"one"}}`; got != want {
		t.Errorf("v2   %s\nwant %s", got, want)
	}
	r := c.ask("patch", "v2", "x", "")
	if _, _, err := c.api.Patch(t.Context(), r, types.MergePatchType, []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	if got, want := c.get("v2", "x"), `"spec":{"a":"one","count":3}`; !strings.Contains(got, want) {
		t.Errorf("got %s, want %s: it is stored in v2 and defaulted as such", got, want)
	}
	if k := c.kinds.ByGVR(schema.GroupVersionResource{Group: "example.com", Version: "v1", Resource: "crontabs"}); k != nil {
		t.Error("v1 is served still")
	}
}
