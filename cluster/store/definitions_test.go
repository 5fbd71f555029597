package store_test

import (
	"fmt"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/kind"
	"sampan/cluster/store"
)

var definitions = kind.Declare(kind.Of[apiextensionsv1.CustomResourceDefinition]{
	GVK: apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition"), Plural: "customresourcedefinitions", Cluster: true})

func withDefinitions(c *store.Config) {
	c.CheckShared, c.Kinds = false, kind.NewTable([]*kind.Kind{definitions})
}

// definition has versions with one schema of so many fields.
func definition(n, versions, fields int) *apiextensionsv1.CustomResourceDefinition {
	d := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("widget%04ds.example.com", n)}}
	for v := range versions {
		spec := apiextensionsv1.JSONSchemaProps{Type: "object", Properties: map[string]apiextensionsv1.JSONSchemaProps{}}
		for i := range fields {
			spec.Properties[fmt.Sprintf("field%d", i)] = apiextensionsv1.JSONSchemaProps{Type: "string", MaxLength: new(int64(i)),
				Description: fmt.Sprintf("what field %d of widget %d is for; it cannot be changed once the widget was made", i, n)}
		}
		d.Spec.Versions = append(d.Spec.Versions, apiextensionsv1.CustomResourceDefinitionVersion{Name: fmt.Sprintf("v%d", v+1), Served: true, Storage: v == 0,
			Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object",
				Properties: map[string]apiextensionsv1.JSONSchemaProps{"spec": spec}}}})
	}
	return d
}

// define creates a definition and brings its status up as controllers do.
func define(t testing.TB, s *store.Store, d *apiextensionsv1.CustomResourceDefinition) {
	t.Helper()
	k := store.Key{Kind: definitions, Name: d.Name}
	if _, err := s.Create(ctx, k, d); err != nil {
		t.Fatal(err)
	}
	for _, typ := range []apiextensionsv1.CustomResourceDefinitionConditionType{"NamesAccepted", "Established", "StoredVersion"} {
		_, err := s.Update(ctx, k, func(current kind.Object) (kind.Object, error) {
			next := current.DeepCopyObject().(*apiextensionsv1.CustomResourceDefinition)
			next.Status.Conditions = append(next.Status.Conditions, apiextensionsv1.CustomResourceDefinitionCondition{Type: typ, Status: "True"})
			return next, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestStatesOfADefinitionShareItsSchemaAcrossAStart: at a start the last states
// come in one answer of etcd's.
func TestStatesOfADefinitionShareItsSchemaAcrossAStart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, withDefinitions)
	for i := range 3 {
		define(t, s, definition(i, 2, 5))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, withDefinitions)
	c := watch(t, s, definitions, store.WatchOptions{Since: 1})
	events, _, err := c.Next()
	if err != nil || len(events) != 12 {
		t.Fatalf("%d events, want 12: %v", len(events), err)
	}
	schemas := map[string]*apiextensionsv1.CustomResourceValidation{}
	for _, e := range events {
		d := e.Object.(*apiextensionsv1.CustomResourceDefinition)
		for i, v := range d.Spec.Versions {
			if first := schemas[d.Name]; first == nil {
				schemas[d.Name] = v.Schema
			} else if v.Schema != first {
				t.Errorf("revision %d of %s has a schema of its own in version %d", e.Revision, d.Name, i)
			}
		}
	}
}

// BenchmarkResidentDefinitions is what a definition of 200 fields in two
// versions costs in memory: made and brought up, after a start, and what stays
// of those that are gone. One round says it all: -benchtime 1x.
func BenchmarkResidentDefinitions(b *testing.B) {
	const n = 200
	for range b.N {
		c := store.Config{Dir: b.TempDir(), Kinds: kind.NewTable([]*kind.Kind{definitions}), Codec: jsonCodec{}, Log: logTo(b)}
		empty := heap()
		for _, phase := range []string{"written", "read"} {
			s, err := store.Open(ctx, c)
			if err != nil {
				b.Fatal(err)
			}
			if phase == "written" {
				for i := range n {
					define(b, s, definition(i, 2, 200))
				}
			}
			b.ReportMetric(float64(heap()-empty)/n/1e3, "kB/"+phase)
			if phase == "read" {
				for i := range n {
					if _, err := s.Delete(ctx, store.Key{Kind: definitions, Name: definition(i, 0, 0).Name}, nil); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(heap()-empty)/n/1e3, "kB/gone")
			}
			if err := s.Close(); err != nil {
				b.Fatal(err)
			}
		}
	}
}
