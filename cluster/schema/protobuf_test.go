package schema_test

import (
	"sync"
	"testing"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
	"google.golang.org/protobuf/reflect/protoreflect"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"sampan/cluster/kind"
	"sampan/cluster/kind/batch"
	"sampan/cluster/schema"
)

func TestProtobufSaysWhatJSONSays(t *testing.T) {
	kinds := all()
	for _, k := range batch.Kinds() {
		kinds.Add(k)
	}
	kinds.Add(crontabs("a"))
	s := schema.New(kinds)
	want, err := openapi_v2.ParseDocument(text2(t, s, schema.JSON))
	if err != nil {
		t.Fatal(err)
	}
	inJSON(t, want)
	var clients sync.WaitGroup
	for range 3 {
		clients.Go(func() {
			got := &openapi_v2.Document{}
			if err := proto.Unmarshal(text2(t, s, schema.Protobuf), got); err != nil {
				t.Error(err)
			} else if inJSON(t, got); !proto.Equal(got, want) {
				t.Errorf("%d paths and %d definitions as protobuf differ from %d and %d as JSON", len(got.GetPaths().GetPath()),
					len(got.GetDefinitions().GetAdditionalProperties()), len(want.GetPaths().GetPath()), len(want.GetDefinitions().GetAdditionalProperties()))
			}
		})
	}
	clients.Wait()
	if s.HashV2(schema.JSON) == s.HashV2(schema.Protobuf) {
		t.Error("both forms have one hash")
	}
}

// inJSON writes what a document knows nothing of, which is YAML, the same way
// everywhere.
func inJSON(t *testing.T, doc *openapi_v2.Document) {
	t.Helper()
	err := protorange.Range(doc.ProtoReflect(), func(at protopath.Values) error {
		m, ok := at.Index(-1).Value.Interface().(protoreflect.Message)
		if !ok {
			return nil
		}
		if v, ok := m.Interface().(*openapi_v2.Any); ok {
			text, err := yaml.YAMLToJSON([]byte(v.Yaml))
			v.Yaml = string(text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestWhatIsNeverStoredIsDescribed(t *testing.T) {
	s := schema.New(kind.NewTable(batch.Kinds()))
	none := s.HashV2(schema.JSON)
	s.Describe([]schema.Virtual{
		{GVK: corev1.SchemeGroupVersion.WithKind("ComponentStatus"), Plural: "componentstatuses", Verbs: []string{"get", "list"}},
		{GVK: authenticationv1.SchemeGroupVersion.WithKind("TokenReview"), Plural: "tokenreviews", Verbs: []string{"create"}},
	})
	if s.HashV2(schema.JSON) == none {
		t.Error("the hash stays")
	}
	doc := read2(t, s)
	for path, methods := range map[string][]string{
		"/api/v1/componentstatuses":                    {"get"},
		"/api/v1/componentstatuses/{name}":             {"get", "parameters"},
		"/apis/authentication.k8s.io/v1/tokenreviews":  {"post"},
		"/apis/batch/v1/namespaces/{namespace}/jobs":   {"get", "post", "delete", "parameters"},
		"/apis/authentication.k8s.io/v1/tokenreviews/": nil,
	} {
		if len(doc.Paths[path]) != len(methods) {
			t.Errorf("%s has %v, want %v", path, doc.Paths[path], methods)
		}
		for _, m := range methods {
			if doc.Paths[path][m] == nil {
				t.Errorf("%s has no %s", path, m)
			}
		}
	}
	for _, name := range []string{"io.k8s.api.core.v1.ComponentStatusList", "io.k8s.api.authentication.v1.TokenReview"} {
		if doc.Defs[name] == nil {
			t.Errorf("no definition of %s", name)
		}
	}
	if _, _, err := s.OpenAPIV3(authenticationv1.SchemeGroupVersion, schema.JSON); err != nil {
		t.Error(err)
	}
}
