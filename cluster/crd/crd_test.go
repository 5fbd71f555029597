package crd_test

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"sampan/cluster/client/clienttest"
	"sampan/cluster/crd"
	"sampan/cluster/kind"
	"sampan/cluster/kind/apiextensions"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/discovery"
	"sampan/cluster/webhook"
)

// read makes a definition whose names were accepted.
func read(t *testing.T, spec string) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	d := &apiextensionsv1.CustomResourceDefinition{}
	d.Name, d.UID = "crontabs.example.com", "1"
	if err := yaml.UnmarshalStrict([]byte(spec), &d.Spec); err != nil {
		t.Fatal(err)
	}
	d.Spec.Group, d.Spec.Scope = "example.com", apiextensionsv1.NamespaceScoped
	d.Spec.Names = apiextensionsv1.CustomResourceDefinitionNames{Plural: "crontabs", Singular: "crontab", Kind: "CronTab", ListKind: "CronTabs", ShortNames: []string{"ct"}}
	d.Status.AcceptedNames = d.Spec.Names
	d.Status.Conditions = []apiextensionsv1.CustomResourceDefinitionCondition{{Type: apiextensionsv1.NamesAccepted, Status: apiextensionsv1.ConditionTrue}}
	return d
}

func compile(t *testing.T, spec string) *kind.Kind {
	t.Helper()
	k, err := crd.Compile(read(t, spec), nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	data, err := yaml.YAMLToJSON([]byte(text))
	if err == nil {
		err = u.UnmarshalJSON(data)
	}
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func face(k *kind.Kind, version string) *kind.Kind {
	for _, f := range k.Faces() {
		if f.GVK.Version == version {
			return f.Kind
		}
	}
	return nil
}

const one = `
versions:
- name: v1
  served: true
  storage: true
  selectableFields: [{jsonPath: .spec.image}]
  additionalPrinterColumns:
  - {name: Image, type: string, jsonPath: .spec.image}
  - {name: Count, type: integer, jsonPath: .spec.count, priority: 1}
  - {name: Since, type: date, jsonPath: .metadata.creationTimestamp}
  subresources:
    status: {}
    scale: {specReplicasPath: .spec.count, statusReplicasPath: .status.count, labelSelectorPath: .status.selector}
  schema:
    openAPIV3Schema:
      type: object
      properties:
        spec:
          type: object
          required: [image]
          properties:
            image: {type: string}
            count: {type: integer, minimum: 0, default: 1}
            extra: {type: object, x-kubernetes-preserve-unknown-fields: true}
            list: {type: array, x-kubernetes-list-type: set, items: {type: string}}
          x-kubernetes-validations:
          - {rule: "self.count < 5 || self.image == 'big'", message: too many}
        status: {type: object, properties: {count: {type: integer, maximum: 7}}}
`

const sound = `
apiVersion: example.com/v1
kind: CronTab
metadata: {name: a, namespace: n, creationTimestamp: "2026-11-21T11:59:00Z"}
spec: {image: x, count: 2, extra: {any: 1}}
status: {count: 2, selector: a=b}
`

func TestObjectHasWhatItsSchemaHas(t *testing.T) {
	k := compile(t, one)
	u := object(t, `
apiVersion: example.com/v1
kind: CronTab
metadata: {name: a, nope: 1}
spec: {image: x, nope: 1, extra: {any: 1}}
nope: 1
`)
	unknown, err := k.Custom.Settle(u, false, true)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(unknown)
	if want := []string{"metadata.nope", "nope", "spec.nope"}; !slices.Equal(unknown, want) {
		t.Errorf("unknown fields %q, want %q", unknown, want)
	}
	k.Default(u)
	text, _ := json.Marshal(u.Object)
	if want := `{"apiVersion":"example.com/v1","kind":"CronTab","metadata":{"name":"a"},"spec":{"count":1,"extra":{"any":1},"image":"x"}}`; string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	if _, err := k.Custom.Settle(object(t, `{apiVersion: example.com/v1, kind: CronTab, metadata: {labels: 5}}`), false, false); err == nil {
		t.Error("metadata that is none was taken")
	}
	if _, err := k.Custom.Settle(object(t, `{apiVersion: example.com/v1, kind: CronTab, metadata: {labels: 5}}`), true, false); err != nil {
		t.Errorf("what was stored long ago: %v", err)
	}
}

func TestObjectObeysItsSchemaAndItsRules(t *testing.T) {
	k := compile(t, one)
	for _, tc := range []struct {
		it, change string
		old        bool // the same object was there before
		want       string
	}{
		{it: "is accepted", change: `{}`},
		{it: "has what is required", change: `{spec: {image: null}}`, want: `spec.image: Required value`},
		{it: "keeps bounds", change: `{spec: {count: -1}}`, want: `spec.count: Invalid value: -1: spec.count in body should be greater than or equal to 0`},
		{it: "obeys rules", change: `{spec: {count: 6}}`, want: `spec: Invalid value: too many`},
		{it: "has sets without doubles", change: `{spec: {list: [a, a]}}`, want: `spec.list[1]: Duplicate value: "a"`},
		{it: "may keep what was wrong before", change: `{spec: {list: [a, a]}}`, old: true},
		{it: "has no scale beyond numbers", change: `{status: {count: -1}}`, want: `.status.count: Invalid value: -1: should be a non-negative integer`},
	} {
		t.Run(tc.it, func(t *testing.T) {
			u := object(t, sound)
			more := object(t, "{apiVersion: example.com/v1, kind: CronTab, "+strings.TrimPrefix(tc.change, "{"))
			for _, part := range []string{"spec", "status"} {
				values, _ := more.Object[part].(map[string]any)
				for name, v := range values {
					to := u.Object[part].(map[string]any)
					if v == nil {
						delete(to, name)
					} else {
						to[name] = v
					}
				}
			}
			var old kind.Object
			if tc.old {
				old = u.DeepCopy()
			}
			var got []string
			for _, e := range k.Validate(u, old) {
				got = append(got, e.Error())
			}
			if tc.want == "" && len(got) > 0 || tc.want != "" && (len(got) == 0 || !strings.Contains(strings.Join(got, "\n"), tc.want)) {
				t.Errorf("errors\n  %s\nwant\n  %s", strings.Join(got, "\n  "), tc.want)
			}
		})
	}
}

func TestStatusIsAPartOfItsOwn(t *testing.T) {
	k := compile(t, one)
	part, ok := k.Parts["status"]
	if !ok {
		t.Fatal("there is no status")
	}
	u := object(t, sound)
	part.Take(u, k.New())
	if _, ok := u.Object["status"]; ok {
		t.Error("the status of a new object is kept")
	}
	src := object(t, sound)
	part.Take(u, src)
	u.Object["status"].(map[string]any)["count"] = int64(9)
	if n, _, _ := unstructured.NestedInt64(src.Object, "status", "count"); n != 2 {
		t.Error("the status is shared with the object it was taken from")
	}
	if errs := part.Validate(u, src); len(errs) != 1 || !strings.Contains(errs[0].Error(), "status.count") {
		t.Errorf("errors %v, want one of status.count", errs)
	}
	if kind.Equal(k.Spec(u), k.Spec(object(t, strings.ReplaceAll(sound, "image: x", "image: y")))) {
		t.Error("a change of the spec is no change of the generation")
	}
	if !kind.Equal(k.Spec(u), k.Spec(src)) {
		t.Error("a change of the status is one of the generation")
	}
}

func TestScaleFieldsAndColumnsAreThoseDeclared(t *testing.T) {
	k := compile(t, one)
	u := object(t, sound)
	spec, status := k.Scale.Get(u)
	if spec.Replicas != 2 || status.Replicas != 2 || status.Selector != "a=b" {
		t.Errorf("scale %+v %+v", spec, status)
	}
	k.Scale.Set(u, 4)
	if spec, _ := k.Scale.Get(u); spec.Replicas != 4 {
		t.Errorf("%d replicas after 4 were set", spec.Replicas)
	}
	if err := k.Scale.Check(k.New()); err == nil || err.Error() != `the spec replicas field ".spec.count" does not exist` {
		t.Errorf("without replicas: %v", err)
	}
	if got := k.Fields["spec.image"](u); got != "x" {
		t.Errorf("field spec.image is %q", got)
	}
	var row []any
	for _, c := range k.Columns {
		row = append(row, c.Cell(u, time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)))
	}
	if want := []any{"a", "x", int64(4), "60s"}; !slices.Equal(row, want) {
		t.Errorf("row %v, want %v", row, want)
	}
	if k.Columns[1].Description != "Custom resource definition column (in JSONPath format): .spec.image" {
		t.Errorf("column %+v", k.Columns[1])
	}
}

const two = `
versions:
- {name: v1, served: true, storage: true, deprecated: true, schema: {openAPIV3Schema: {type: object, properties: {a: {type: string}, b: {type: string}}}}}
- {name: v2, served: true, storage: false, schema: {openAPIV3Schema: {type: object, properties: {a: {type: string}, c: {type: string, default: new}}}}}
- {name: v3, served: false, storage: false, schema: {openAPIV3Schema: {type: object, properties: {a: {type: string}}}}}
`

func TestVersionsDifferByNameAndSchema(t *testing.T) {
	k := compile(t, two)
	if k.GVK.Version != "v2" || len(k.Faces()) != 2 || face(k, "v1") == nil {
		t.Fatalf("faces %v, want v2 and v1", k.Faces())
	}
	if got := face(k, "v1").Custom.Deprecated; got != "example.com/v1 CronTab is deprecated; use example.com/v2 CronTab" {
		t.Errorf("warning %q", got)
	}
	u := object(t, `{apiVersion: example.com/v1, kind: CronTab, metadata: {name: a}, a: x, b: y}`)
	before, _ := json.Marshal(u)
	all, err := k.Custom.Convert([]kind.Object{u}, k.GVK)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(all[0])
	if want := `{"a":"x","apiVersion":"example.com/v2","kind":"CronTab","metadata":{"name":"a"}}`; string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	if after, _ := json.Marshal(u); !bytes.Equal(before, after) {
		t.Error("a shared object was written to")
	}
	same, _ := k.Custom.Convert([]kind.Object{u}, face(k, "v1").GVK)
	if same[0] != kind.Object(u) {
		t.Error("an object of the version wanted was copied")
	}
	u.SetAPIVersion("example.com/v9")
	if _, err := k.Custom.Convert([]kind.Object{u}, k.GVK); err == nil || err.Error() != "request to convert CR from an invalid group/version: example.com/v9" {
		t.Errorf("of a version that is not there: %v", err)
	}
}

func TestSchemaIsPublishedAsClientsReadIt(t *testing.T) {
	k := compile(t, one)
	for _, tc := range []struct {
		v2        bool
		ref       string
		dflt, min bool
	}{{true, `"$ref":"#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"`, false, true},
		{false, `"$ref":"#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"`, true, true}} {
		text, err := k.Custom.Schema(tc.v2)
		if err != nil {
			t.Fatal(err)
		}
		for part, want := range map[string]bool{tc.ref: true, `"default":1`: tc.dflt, `"minimum":0`: tc.min,
			`"x-kubernetes-group-version-kind":[{"group":"example.com","kind":"CronTab","version":"v1"}]`: true,
			`"x-kubernetes-selectable-fields":[{"fieldPath":"spec.image"}]`:                               true} {
			if strings.Contains(string(text), part) != want {
				t.Errorf("v2 %v: %s there: %v, want %v\n%s", tc.v2, part, !want, want, text)
			}
		}
	}
}

// converter answers like a webhook that renames a to b.
func converter(t *testing.T) (d *apiextensionsv1.CustomResourceDefinition, asked *atomic.Int32) {
	t.Helper()
	asked = &atomic.Int32{}
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		var review apiextensionsv1.ConversionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		review.Response = &apiextensionsv1.ConversionResponse{UID: review.Request.UID, Result: metav1.Status{Status: metav1.StatusSuccess}}
		for _, raw := range review.Request.Objects {
			u := &unstructured.Unstructured{}
			u.UnmarshalJSON(raw.Raw)
			switch u.Object["a"] {
			case "fail":
				review.Response.Result = metav1.Status{Status: metav1.StatusFailure, Message: "no way"}
			case "rename":
				u.SetName("other")
			}
			u.SetAPIVersion(review.Request.DesiredAPIVersion)
			u.Object["b"] = u.Object["a"]
			u.SetLabels(map[string]string{"converted": "yes"})
			u.SetFinalizers([]string{"mine"})
			raw.Raw, _ = u.MarshalJSON()
			review.Response.ConvertedObjects = append(review.Response.ConvertedObjects, raw)
		}
		review.Request = nil
		json.NewEncoder(w).Encode(review)
	}))
	t.Cleanup(s.Close)
	d = read(t, strings.ReplaceAll(two, "c: {type: string, default: new}", "b: {type: string}"))
	d.Spec.Conversion = &apiextensionsv1.CustomResourceConversion{Strategy: apiextensionsv1.WebhookConverter,
		Webhook: &apiextensionsv1.WebhookConversion{ConversionReviewVersions: []string{"v9", "v1"}, ClientConfig: &apiextensionsv1.WebhookClientConfig{
			URL: &s.URL, CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})}}}
	return d, asked
}

func caller(t *testing.T) *webhook.Caller {
	t.Helper()
	c, err := webhook.New(webhook.Config{Objects: clienttest.New(t, kind.NewTable(core.Kinds(), discovery.Kinds()))})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWebhookConverts(t *testing.T) {
	d, asked := converter(t)
	k, err := crd.Compile(d, caller(t))
	if err != nil {
		t.Fatal(err)
	}
	u := object(t, `{apiVersion: example.com/v1, kind: CronTab, metadata: {name: a, uid: "7"}, a: x}`)
	v := object(t, `{apiVersion: example.com/v2, kind: CronTab, metadata: {name: b}, a: x}`)
	for range 2 {
		all, err := k.Custom.Convert([]kind.Object{v, u}, k.GVK)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := json.Marshal(all[1])
		if want := `{"a":"x","apiVersion":"example.com/v2","b":"x","kind":"CronTab","metadata":{"labels":{"converted":"yes"},"name":"a","uid":"7"}}`; all[0] != kind.Object(v) || string(text) != want {
			t.Errorf("got  %s\nwant %s", text, want)
		}
		all[1].SetName("changed") // it belongs to us
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the webhook was asked %d times about one object, want once", n)
	}
	for a, want := range map[string]string{
		"fail":   "conversion webhook for example.com/v1, Kind=CronTab failed: no way",
		"rename": "conversion webhook for example.com/v1, Kind=CronTab returned invalid converted object at index 0: must have the same name: a != other",
	} {
		u.Object["a"] = a
		if _, err := k.Custom.Convert([]kind.Object{u}, k.GVK); err == nil || err.Error() != want {
			t.Errorf("error %v\nwant  %s", err, want)
		}
	}
}

// shelf is a store that notes what it is given.
type shelf struct{ added, removed []string }

func (s *shelf) Add(_ context.Context, k *kind.Kind) error {
	s.added = append(s.added, k.String())
	return nil
}
func (s *shelf) Remove(k *kind.Kind) { s.removed = append(s.removed, k.String()) }

func TestTableIsAsTheDefinitionsSay(t *testing.T) {
	kinds := kind.NewTable(core.Kinds(), discovery.Kinds(), apiextensions.Kinds())
	d := read(t, two)
	waiting := read(t, two)
	waiting.Name, waiting.Status.Conditions = "others.example.com", nil
	waiting.Status.AcceptedNames.Plural = "others"
	fake := clienttest.New(t, kinds, d, waiting)
	store := &shelf{}
	r, err := crd.New(crd.Config{Objects: fake, Kinds: kinds, Store: store, Webhooks: caller(t), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	changed := kinds.Changed()
	if err := r.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	default:
		t.Error("nobody was told of the new kind")
	}
	at := func(version string) *kind.Kind {
		return kinds.ByGVR(schema.GroupVersionResource{Group: "example.com", Version: version, Resource: "crontabs"})
	}
	if at("v1") == nil || at("v2") == nil || at("v3") != nil || at("v1") == at("v2") {
		t.Errorf("v1 %v, v2 %v, v3 %v: want two kinds, and none for what is not served", at("v1"), at("v2"), at("v3"))
	}
	if !slices.Equal(store.added, []string{"crontabs.example.com"}) {
		t.Errorf("the store got %v, want what was accepted", store.added)
	}
	was := at("v1")
	if err := r.Load(t.Context()); err != nil || at("v1") != was {
		t.Errorf("the same definition makes another kind (%v)", err)
	}
}
