package schema_test

import (
	"encoding/json"
	"testing"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	openapi_v3 "github.com/google/gnostic-models/openapiv3"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	rschema "k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/schema"
)

const meta = "io.k8s.apimachinery.pkg.apis.meta.v1."

// elsewhere is what another server says: of a group version, of another one,
// and of itself.
func elsewhere(t *testing.T, group, flunder string) *schema.Other {
	t.Helper()
	answer := `"produces":["application/json"],"responses":{"200":{"description":"OK","schema":{"$ref":"#/definitions/`
	text := `{"swagger":"2.0","info":{"title":"other","version":"1"},"paths":{` +
		`"/apis/` + group + `/v1/flunders":{"get":{` + answer + `Flunder"}}}}},` +
		`"/apis/` + group + `/v2/flunders":{"get":{` + answer + `Elsewhere"}}}}},` +
		`"/version":{"get":{` + answer + `Elsewhere"}}}}}},` +
		`"definitions":{"Flunder":{"type":"object","properties":{"size":{"type":"` + flunder + `"},"metadata":{"$ref":"#/definitions/` + meta + `ObjectMeta"},` +
		`"patch":{"$ref":"#/definitions/` + meta + `Patch"}}},"Elsewhere":{"type":"string"},` +
		`"` + meta + `ObjectMeta":{"type":"string"},"` + meta + `Patch":{"type":"object","description":"in other words"}}}`
	o, err := schema.ReadOther(rschema.GroupVersion{Group: group, Version: "v1"}, flunder, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestWhatOtherServersSayIsInTheDocument(t *testing.T) {
	s := schema.New(all())
	first, second := elsewhere(t, "a.example.com", "integer"), elsewhere(t, "b.example.com", "string")
	var doc document2
	if err := json.Unmarshal(text2(t, s, schema.JSON, second, first), &doc); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		"/apis/a.example.com/v1/flunders": true, "/apis/b.example.com/v1/flunders": true, "/apis/a.example.com/v2/flunders": false, "/version": false,
	} {
		if (doc.Paths[path] != nil) != want {
			t.Errorf("%s is there: %v, want %v", path, !want, want)
		}
	}
	refer := func(of, field string) any {
		properties, _ := doc.Defs[of]["properties"].(map[string]any)
		p, _ := properties[field].(map[string]any)
		if field == "size" {
			return p["type"]
		}
		return p["$ref"]
	}
	for _, c := range []struct{ of, field, want, why string }{
		{"Flunder", "size", "integer", "the first keeps the name"},
		{"Flunder_v2", "size", "string", "the second gets another"},
		{"Flunder", "metadata", "#/definitions/" + meta + "ObjectMeta_v2", "it means something else than this server"},
		{"Flunder_v2", "metadata", "#/definitions/" + meta + "ObjectMeta_v2", "both mean the same"},
		{"Flunder", "patch", "#/definitions/" + meta + "Patch", "other words are no other schema"},
	} {
		if got := refer(c.of, c.field); got != c.want {
			t.Errorf("%s.%s is %v, want %s: %s", c.of, c.field, got, c.want, c.why)
		}
	}
	if doc.Defs["Elsewhere"] != nil || doc.Defs[meta+"ObjectMeta"]["type"] != "object" {
		t.Error("there is what nothing refers to, or this server's own schema was replaced")
	}
	data := text2(t, s, schema.Protobuf, first, second)
	want, err := openapi_v2.ParseDocument(text2(t, s, schema.JSON, first, second))
	if err != nil {
		t.Fatal(err)
	}
	got := &openapi_v2.Document{}
	err = proto.Unmarshal(data, got)
	inJSON(t, got)
	if inJSON(t, want); err != nil || !proto.Equal(got, want) {
		t.Errorf("as protobuf it says something else (%v)", err)
	}
	hashes := map[string]bool{s.HashV2(schema.JSON): true, s.HashV2(schema.JSON, first): true, s.HashV2(schema.JSON, first, second): true,
		s.HashV2(schema.JSON, elsewhere(t, "a.example.com", "number")): true}
	if len(hashes) != 4 {
		t.Errorf("%d hashes of 4 documents", len(hashes))
	}
}

func TestDocumentThatIsNoneIsRefused(t *testing.T) {
	for _, text := range []string{``, `[]`, `{"swagger":"3.0"}`, `{"swagger":"2.0","paths":7}`} {
		if _, err := schema.ReadOther(rschema.GroupVersion{Group: "a", Version: "v1"}, "", []byte(text)); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func TestVersion3AsProtobufSaysWhatJSONSays(t *testing.T) {
	s := schema.New(all())
	text, hash, err := s.OpenAPIV3(corev1.SchemeGroupVersion, schema.JSON)
	if err != nil {
		t.Fatal(err)
	}
	data, same, err := s.OpenAPIV3(corev1.SchemeGroupVersion, schema.Protobuf)
	if err != nil || hash != same {
		t.Fatalf("hashes %s, %s (%v)", hash, same, err)
	}
	want, err := openapi_v3.ParseDocument(text)
	if err != nil {
		t.Fatal(err)
	}
	got := &openapi_v3.Document{}
	if err := proto.Unmarshal(data, got); err != nil || !proto.Equal(got, want) || len(got.GetPaths().GetPath()) == 0 {
		t.Errorf("%d paths as protobuf, %d as JSON (%v)", len(got.GetPaths().GetPath()), len(want.GetPaths().GetPath()), err)
	}
}
