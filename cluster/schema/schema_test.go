package schema_test

import (
	"archive/zip"
	"encoding/json"
	"io"
	"os/exec"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	rschema "k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/kind"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/coordination"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/discovery"
	"sampan/cluster/kind/rbac"
	"sampan/cluster/schema"
)

func all() *kind.Table {
	return kind.NewTable(core.Kinds(), apps.Kinds(), coordination.Kinds(), discovery.Kinds(), rbac.Kinds())
}

// document is what the tests read of an OpenAPI v3 document.
type document struct {
	Paths      map[string]map[string]json.RawMessage
	Components struct{ Schemas map[string]*property }
}

type property struct {
	Type        string
	Description string
	Ref         string `json:"$ref"`
	AllOf       []property
	OneOf       []property
	Properties  map[string]*property
	Items       *property
	Additional  *property                  `json:"additionalProperties"`
	GVK         []rschema.GroupVersionKind `json:"x-kubernetes-group-version-kind"`
	Format      string
}

// target is the name of the schema that p refers to, or "".
func (p *property) target() string {
	ref := p.Ref
	for _, a := range p.AllOf {
		ref += a.Ref
	}
	return strings.TrimPrefix(ref, "#/components/schemas/")
}

func read(t *testing.T, s *schema.Schemas, gv rschema.GroupVersion) document {
	t.Helper()
	data, hash, err := s.OpenAPIV3(gv, schema.JSON)
	if err != nil || hash == "" {
		t.Fatalf("%v: hash %q, %v", gv, hash, err)
	}
	var d document
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestEveryFieldOfEveryKindHasATypeAndADescription(t *testing.T) {
	kinds := all()
	s := schema.New(kinds)
	fields := 0
	for _, k := range kinds.All() {
		for _, gvk := range k.GVKs() {
			d := read(t, s, gvk.GroupVersion())
			root := ""
			for name, p := range d.Components.Schemas {
				for _, g := range p.GVK {
					if g == gvk {
						root = name
					}
				}
			}
			if root == "" {
				t.Errorf("%v: no schema names it", gvk)
				continue
			}
			seen := map[string]bool{}
			var walk func(path, name string)
			check := func(path string, p *property) {
				fields++
				if p.Description == "" {
					t.Errorf("%s has no description", path)
				}
				next := p
				for next.target() == "" && (next.Items != nil || next.Additional != nil) {
					if next.Items != nil {
						next = next.Items
					} else {
						next = next.Additional
					}
				}
				if next.target() == "" && next.Type == "" {
					t.Errorf("%s has no type", path)
				}
				if next.target() != "" {
					walk(path, next.target())
				}
			}
			walk = func(path, name string) {
				p := d.Components.Schemas[name]
				if p == nil {
					t.Errorf("%s refers to %s, which is not in the document", path, name)
					return
				}
				if seen[name] {
					return
				}
				seen[name] = true
				for field, child := range p.Properties {
					check(path+"."+field, child)
				}
			}
			walk(gvk.Kind, root)
		}
	}
	if fields < 1000 {
		t.Errorf("only %d fields were looked at", fields)
	}
}

func TestDocumentsLeadToTheirKinds(t *testing.T) {
	s := schema.New(all())
	index, err := s.Index()
	if err != nil || index["api/v1"] == "" || index["apis/apps/v1"] == "" {
		t.Fatalf("index %v, %v", index, err)
	}
	_, hash, err := s.OpenAPIV3(rschema.GroupVersion{Group: "apps", Version: "v1"}, schema.JSON)
	if err != nil || hash != index["apis/apps/v1"] {
		t.Errorf("the hash of the document is %s, in the index %s", hash, index["apis/apps/v1"])
	}
	d := read(t, s, rschema.GroupVersion{Group: "apps", Version: "v1"})
	var patch struct {
		Parameters []struct{ Name string }
		GVK        rschema.GroupVersionKind `json:"x-kubernetes-group-version-kind"`
	}
	path := "/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
	if err := json.Unmarshal(d.Paths[path]["patch"], &patch); err != nil || patch.GVK.Kind != "Deployment" || len(patch.Parameters) != 4 {
		t.Errorf("patch of %s: %+v, %v", path, patch, err)
	}
	for _, path := range []string{path + "/scale", path + "/status", "/apis/apps/v1/deployments"} {
		if d.Paths[path] == nil {
			t.Errorf("no path %s", path)
		}
	}
	if _, _, err := s.OpenAPIV3(rschema.GroupVersion{Group: "none", Version: "v1"}, schema.JSON); err == nil {
		t.Error("a group that is not served has a document")
	}
}

func TestTypesKnowListKeys(t *testing.T) {
	kinds := all()
	s := schema.New(kinds)
	for _, k := range kinds.All() {
		types, err := s.TypeConverter(k.GVK)
		if err != nil || types == nil {
			t.Errorf("%v: %v, %v", k.GVK, types, err)
			continue
		}
		obj := k.New().(runtime.Object)
		obj.GetObjectKind().SetGroupVersionKind(k.GVK)
		if _, err := types.ObjectToTyped(obj); err != nil {
			t.Errorf("%v: %v", k.GVK, err)
		}
	}
	pod := core.Pod()
	types, err := s.TypeConverter(pod.GVK)
	if err != nil {
		t.Fatal(err)
	}
	obj := pod.New()
	if err := json.Unmarshal([]byte(`{"apiVersion":"v1","kind":"Pod","spec":{"containers":[{"name":"a","image":"i","ports":[{"containerPort":80}]}]}}`), obj); err != nil {
		t.Fatal(err)
	}
	v, err := types.ObjectToTyped(obj)
	if err != nil {
		t.Fatal(err)
	}
	set, err := v.ToFieldSet()
	if err != nil || !strings.Contains(set.String(), `.spec.containers[name="a"].image`) {
		t.Errorf("fields %v, %v", set, err)
	}
	if types, err := s.TypeConverter(rschema.GroupVersionKind{Group: "x.io", Version: "v1", Kind: "X"}); err != nil || types != nil {
		t.Errorf("a custom resource has no generated schema: %v, %v", types, err)
	}
}

func BenchmarkTypesOfPods(b *testing.B) {
	b.ReportAllocs()
	kinds := all()
	for b.Loop() {
		if _, err := schema.New(kinds).TypeConverter(core.Pod().GVK); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDocumentOfCore(b *testing.B) {
	b.ReportAllocs()
	kinds := all()
	for b.Loop() {
		if _, _, err := schema.New(kinds).OpenAPIV3(rschema.GroupVersion{Version: "v1"}, schema.JSON); err != nil {
			b.Fatal(err)
		}
	}
}

// Making the blob takes a minute; that it is of the versions in go.mod is what
// goes wrong.
func TestTheBlobIsMadeFromTheModulesInUse(t *testing.T) {
	want, err := exec.Command("go", "list", "-m", "k8s.io/api", "k8s.io/apimachinery", "k8s.io/kube-openapi").Output()
	if err != nil {
		t.Fatal(err)
	}
	z, err := zip.OpenReader("schema.zip")
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	f, err := z.Open("made-from")
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(f)
	if err != nil || string(got) != strings.TrimSpace(string(want)) {
		t.Errorf("schema.zip is made from\n%s\nin use are\n%s\nrun go generate in cluster/schema (%v)", got, want, err)
	}
}
