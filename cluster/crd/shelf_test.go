package crd

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"sampan/cluster/kind"
)

// widgets is a definition whose objects have a size of at least 1.
func widgets(plural string) *apiextensionsv1.CustomResourceDefinition {
	least := 1.0
	d := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: plural + ".example.com", UID: "7", Generation: 1}}
	d.Spec.Group, d.Spec.Scope = "example.com", apiextensionsv1.ClusterScoped
	d.Spec.Names = apiextensionsv1.CustomResourceDefinitionNames{Plural: plural, Singular: plural, Kind: plural, ListKind: plural + "List"}
	d.Spec.Versions = []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Served: true, Storage: true,
		Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object",
			Properties: map[string]apiextensionsv1.JSONSchemaProps{"size": {Type: "integer", Minimum: &least}}}}}}
	d.Status.AcceptedNames = d.Spec.Names
	d.Status.Conditions = []apiextensionsv1.CustomResourceDefinitionCondition{{Type: apiextensionsv1.NamesAccepted, Status: apiextensionsv1.ConditionTrue}}
	return d
}

func faulty(k *kind.Kind) bool {
	u := k.New().(*unstructured.Unstructured)
	u.Object["size"] = int64(0)
	return len(k.Validate(u, nil)) > 0
}

func TestWhatIsNotUsedIsGivenBackAndMadeAgain(t *testing.T) {
	on := &shelf{most: 3}
	var kinds []*kind.Kind
	var defs []*definition
	for i := range 10 {
		k, def, err := compile(widgets(fmt.Sprint("w", i)), nil, on)
		if err != nil {
			t.Fatal(err)
		}
		kinds, defs = append(kinds, k), append(defs, def)
	}
	made := func() (n int) {
		for _, d := range defs {
			if d.versions["v1"].made.Load() != nil {
				n++
			}
		}
		return n
	}
	if _, err := kinds[0].Custom.Schema(true); err != nil || made() != 0 {
		t.Errorf("to publish a schema keeps %d compiled (%v)", made(), err)
	}
	for round := range 3 {
		for i, k := range kinds {
			k.Custom.Kept.Store("by", i)
			if !faulty(k) {
				t.Errorf("round %d: a fault of %s is not found", round, k.Plural)
			}
			if made() > 3 || len(on.all) > 3 {
				t.Fatalf("%d are compiled, want 3 at most", made())
			}
		}
	}
	kept := 0
	for _, k := range kinds {
		k.Custom.Kept.Range(func(_, _ any) bool { kept++; return true })
	}
	if kept != 3 {
		t.Errorf("%d keep what others made, want 3", kept)
	}
	for _, d := range defs {
		on.drop(d)
	}
	if made() != 0 || len(on.all) != 0 {
		t.Errorf("%d are compiled when all are gone", made())
	}
}

func TestShelfMayBeUsedByMany(t *testing.T) {
	on := &shelf{most: 2}
	var all sync.WaitGroup
	for i := range 4 {
		k, def, err := compile(widgets(fmt.Sprint("w", i)), nil, on)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			all.Go(func() {
				for range 50 {
					if !faulty(k) {
						t.Error("a fault is not found")
					}
				}
			})
		}
		all.Go(func() { on.drop(def) })
	}
	all.Wait()
}

// noStore keeps nothing, and counts what it is told of.
type noStore struct{ added int }

func (s *noStore) Add(context.Context, *kind.Kind) error { s.added++; return nil }
func (s *noStore) Remove(*kind.Kind)                     {}

func TestOnlyTheLatestObjectOfADefinitionIsKept(t *testing.T) {
	s, table := &noStore{}, kind.NewTable()
	r := &Registry{cfg: Config{Kinds: table, Store: s, Log: slog.New(slog.DiscardHandler)}, shelf: &shelf{most: 2}, served: map[string]served{}}
	take := func(change func(*apiextensionsv1.CustomResourceDefinition)) (*apiextensionsv1.CustomResourceDefinition, *kind.Kind) {
		t.Helper()
		d := widgets("w")
		change(d)
		if err := r.take(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		return d, table.All()[0]
	}
	_, first := take(func(*apiextensionsv1.CustomResourceDefinition) {})
	latest, same := take(func(d *apiextensionsv1.CustomResourceDefinition) {
		d.Status.Conditions = append(d.Status.Conditions, apiextensionsv1.CustomResourceDefinitionCondition{Type: apiextensionsv1.Established, Status: apiextensionsv1.ConditionTrue})
	})
	if same != first || r.served[latest.Name].def.source.Load() != latest || s.added != 1 {
		t.Error("another state of the same definition made another kind, or the former object is kept")
	}
	_, short := take(func(d *apiextensionsv1.CustomResourceDefinition) { d.Status.AcceptedNames.ShortNames = []string{"x"} })
	if short == first || s.added != 1 {
		t.Errorf("another name: the same kind %v, %d sets of objects", short == first, s.added)
	}
	_, next := take(func(d *apiextensionsv1.CustomResourceDefinition) { d.Generation, d.Spec.Versions[0].Schema = 2, nil })
	if next == short || s.added != 2 || faulty(next) || next.Custom.Digest == short.Custom.Digest {
		t.Error("another schema did not count")
	}
	_, uncounted := take(func(d *apiextensionsv1.CustomResourceDefinition) { d.Generation = 0 })
	if _, again := take(func(d *apiextensionsv1.CustomResourceDefinition) { d.Generation = 0 }); again != uncounted {
		t.Error("nothing has changed, and another kind was made")
	}
	if _, other := take(func(d *apiextensionsv1.CustomResourceDefinition) { d.Generation, d.Spec.Versions[0].Schema = 0, nil }); other == uncounted || faulty(other) {
		t.Error("what nobody counts is not compared")
	}
}
