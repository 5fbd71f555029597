package schema_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"sampan/cluster/kind"
	"sampan/cluster/kind/apiextensions"
	"sampan/cluster/kind/batch"
	"sampan/cluster/schema"
)

// crontabs is a custom kind of two versions.
func crontabs(digest string) *kind.Kind {
	v1 := &kind.Kind{GVK: apiextensionsv1.SchemeGroupVersion.WithKind("CronTab"), Plural: "crontabs", Singular: "crontab", Prefix: "stable.example.com/crontabs"}
	v1.GVK.Group = "stable.example.com"
	v1.Custom = &kind.Custom{List: "CronTabs", Digest: digest, Kept: &sync.Map{}, Told: &sync.Map{}, Schema: func(v2 bool) ([]byte, error) {
		at := "#/components/schemas/"
		if v2 {
			at = "#/definitions/"
		}
		return []byte(`{"type":"object","description":"` + digest + `","properties":{"apiVersion":{"type":"string"},"kind":{"type":"string"},` +
			`"list":{"type":"array","x-kubernetes-list-type":"set","items":{"type":"string"}},` +
			`"metadata":{"$ref":"` + at + `io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"},"most":{"type":"integer","minimum":0,"maximum":9007199254740993,"maxLength":5,"enum":[1,"a"]},` +
			`"open":{"type":"object","additionalProperties":{"type":"number"},"required":["a"],"externalDocs":{"url":"https://example.com"}}}}`), nil
	}}
	v1.Custom.Faces = []*kind.Kind{v1}
	return v1
}

type document2 struct {
	Swagger string
	Paths   map[string]map[string]json.RawMessage
	Defs    map[string]map[string]any `json:"definitions"`
}

// text2 is a document as a client gets it.
func text2(t testing.TB, s *schema.Schemas, form schema.Form, others ...*schema.Other) []byte {
	t.Helper()
	doc, err := s.OpenAPIV2(form, others...)
	if err != nil {
		t.Error(err)
		return nil
	}
	var text bytes.Buffer
	if _, err := doc.WriteTo(&text); err != nil || text.Len() != doc.Size() {
		t.Errorf("%d bytes were written of %d (%v)", text.Len(), doc.Size(), err)
	}
	return text.Bytes()
}

func read2(t *testing.T, s *schema.Schemas) document2 {
	t.Helper()
	data := text2(t, s, schema.JSON)
	var d document2
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	for _, foreign := range []string{"#/components/", `"allOf":[`, `"default":""`, `"requestBody"`} {
		if i := strings.Index(string(data), foreign); i >= 0 {
			t.Errorf("the document has what version 2 has not: %s", data[max(0, i-100):i+100])
		}
	}
	for rest, ok := string(data), true; ok; {
		var name string
		if _, rest, ok = strings.Cut(rest, `"$ref":"#/definitions/`); !ok {
			break
		}
		if name, rest, _ = strings.Cut(rest, `"`); d.Defs[name] == nil {
			t.Fatalf("a reference to %s leads nowhere", name)
		}
	}
	return d
}

func TestVersion2HasTheWholeAPIInOneDocument(t *testing.T) {
	kinds := all()
	for _, k := range append(batch.Kinds(), apiextensions.Kinds()...) {
		kinds.Add(k)
	}
	s := schema.New(kinds)
	d := read2(t, s)
	if d.Swagger != "2.0" {
		t.Errorf("swagger %q", d.Swagger)
	}
	for name, want := range map[string]string{
		"io.k8s.apimachinery.pkg.util.intstr.IntOrString":    `{"format":"int-or-string","type":"string"}`,
		"io.k8s.apimachinery.pkg.api.resource.Quantity":      `{"type":"string"}`,
		"io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector": "",
	} {
		got := d.Defs[name]
		delete(got, "description")
		if text, _ := json.Marshal(got); want != "" && string(text) != want {
			t.Errorf("%s is %s, want %s", name, text, want)
		}
	}
	spec, _ := d.Defs["io.k8s.api.apps.v1.Deployment"]["properties"].(map[string]any)["spec"].(map[string]any)
	if spec["$ref"] != "#/definitions/io.k8s.api.apps.v1.DeploymentSpec" || spec["description"] == "" {
		t.Errorf("a Deployment's spec is %v, want a reference with a description", spec)
	}
	var post struct {
		Consumes   []string
		Parameters []struct{ Name, In string }
		Responses  map[string]struct{ Schema map[string]string }
	}
	if err := json.Unmarshal(d.Paths["/apis/apps/v1/namespaces/{namespace}/deployments"]["post"], &post); err != nil {
		t.Fatal(err)
	}
	if len(post.Parameters) == 0 || post.Parameters[0].In != "body" || post.Responses["200"].Schema["$ref"] != "#/definitions/io.k8s.api.apps.v1.Deployment" {
		t.Errorf("post %+v", post)
	}
}

func TestCustomResourcesComeAndGoInDocuments(t *testing.T) {
	const name = "com.example.stable.v1.CronTab"
	kinds := all()
	s := schema.New(kinds)
	none := s.HashV2(schema.JSON)
	if read2(t, s).Defs[name] != nil {
		t.Fatal("it is there before it was declared")
	}
	kinds.Add(crontabs("one"))
	first := s.HashV2(schema.JSON)
	d := read2(t, s)
	if d.Defs[name]["description"] != "one" || d.Defs["com.example.stable.v1.CronTabs"] == nil || d.Paths["/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}"] == nil {
		t.Errorf("definition %v", d.Defs[name])
	}
	doc := read(t, s, crontabs("").GVK.GroupVersion())
	if doc.Components.Schemas[name] == nil || doc.Components.Schemas["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"] == nil {
		t.Error("version 3 has no schema of it")
	}
	kinds.Add(crontabs("two"))
	second := s.HashV2(schema.JSON)
	if d := read2(t, s); d.Defs[name]["description"] != "two" {
		t.Errorf("definition %v after it was declared anew", d.Defs[name])
	}
	kinds.Remove(crontabs("").GroupResource())
	if none == first || first == second || s.HashV2(schema.JSON) != none {
		t.Errorf("hashes %s, %s, %s, %s", none, first, second, s.HashV2(schema.JSON))
	}
}

func TestCustomResourcesHaveOwnersOfFields(t *testing.T) {
	kinds := all()
	k := crontabs("one")
	kinds.Add(k)
	types, err := schema.New(kinds).TypeConverter(k.GVK)
	if err != nil || types == nil {
		t.Fatalf("no types (%v)", err)
	}
	u := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"finalizers": []any{"a"}}, "list": []any{"x"}}}
	u.SetGroupVersionKind(k.GVK)
	v, err := types.ObjectToTyped(u)
	if err != nil {
		t.Fatal(err)
	}
	set, err := v.ToFieldSet()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`.list[="x"]`, `.metadata.finalizers[="a"]`} {
		if !strings.Contains(set.String(), want) {
			t.Errorf("owned fields %s, want %s", set, want)
		}
	}
	u.Object["nope"] = int64(1)
	if _, err := types.ObjectToTyped(u); err == nil || !strings.Contains(err.Error(), ".nope: field not declared in schema") {
		t.Errorf("of a field that is not declared: %v", err)
	}
}
