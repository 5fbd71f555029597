package verb_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	kschema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/randfill"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"sampan/cluster/kind"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/networking"
	"sampan/cluster/kind/policy"
	"sampan/cluster/object"
	"sampan/cluster/schema"
)

// anything fills objects with what requests may hold, elements without their
// keys and keys given twice among it.
func anything(seed int64) *randfill.Filler {
	r := rand.New(rand.NewPCG(uint64(seed), 3))
	text := func() string { return []string{"", "a", "b", "c"}[r.IntN(4)] }
	return randfill.NewWithSeed(seed).NilChance(0.4).NumElements(0, 3).MaxDepth(10).Funcs(
		func(s *string, _ randfill.Continue) { *s = text() },
		func(n *int32, _ randfill.Continue) { *n = r.Int32N(3) },
		func(n *int64, _ randfill.Continue) { *n = r.Int64N(3) },
		func(t *metav1.Time, _ randfill.Continue) { *t = metav1.Unix(r.Int64N(3), 0) },
		func(t *metav1.MicroTime, _ randfill.Continue) { t.Time = time.Unix(r.Int64N(3), 0) },
		func(q *resource.Quantity, _ randfill.Continue) {
			*q = *resource.NewQuantity(r.Int64N(3), resource.DecimalSI)
		},
		func(i *intstr.IntOrString, _ randfill.Continue) {
			*i = intstr.Parse([]string{"1", "2%", ""}[r.IntN(3)])
		},
		func(e *runtime.RawExtension, _ randfill.Continue) {
			e.Raw = []byte([]string{`{"a":1}`, `{"a":{"b":[1]}}`, `null`}[r.IntN(3)])
		},
		func(m *[]metav1.ManagedFieldsEntry, _ randfill.Continue) { *m = nil },
	)
}

// same leaves objects as they are: all are of the one version.
type same struct{ k *kind.Kind }

func (s same) ConvertToVersion(in runtime.Object, _ runtime.GroupVersioner) (runtime.Object, error) {
	return in, nil
}
func (same) Convert(in, out, _ any) error { return fmt.Errorf("%T to %T", in, out) }
func (same) ConvertFieldLabel(_ kschema.GroupVersionKind, l, v string) (string, string, error) {
	return l, v, nil
}
func (same) Default(runtime.Object)                                 {}
func (s same) New(kschema.GroupVersionKind) (runtime.Object, error) { return s.k.New(), nil }

// upstreams is the library as it is, for writes of the object itself.
func upstreams(t *testing.T, k *kind.Kind, types object.Types) *managedfields.FieldManager {
	t.Helper()
	set := &fieldpath.Set{}
	for _, name := range k.Unowned {
		set.Insert(fieldpath.MakePathOrDie(name))
	}
	if p, ok := k.Parts["status"]; ok && !p.Writable {
		set.Insert(fieldpath.MakePathOrDie("status"))
	}
	all := map[fieldpath.APIVersion]fieldpath.Filter{fieldpath.APIVersion(k.GVK.GroupVersion().String()): fieldpath.NewExcludeSetFilter(set)}
	converter, err := types(k.GVK)
	if err != nil {
		t.Fatal(err)
	}
	m, err := managedfields.NewDefaultFieldManager(converter, same{k}, same{k}, same{k}, k.GVK, k.GVK.GroupVersion(), "", all)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// What is recorded of a new object and of a change is what upstream's library
// records, whatever the objects hold, though less is looked at.
func TestOwnersAreUpstreams(t *testing.T) {
	kinds := kind.NewTable(core.Kinds(), apps.Kinds(), networking.Kinds(), policy.Kinds())
	types := schema.New(kinds).TypeConverter
	owners := object.NewOwners(types)
	recorded := 0
	for _, k := range kinds.All() {
		m := upstreams(t, k, types)
		blank := func() kind.Object {
			obj := k.New()
			obj.GetObjectKind().SetGroupVersionKind(k.GVK)
			return obj
		}
		random := func(seed int64) kind.Object {
			obj := k.New()
			anything(seed).Fill(obj)
			obj.GetObjectKind().SetGroupVersionKind(k.GVK)
			return obj
		}
		for seed := range int64(20) {
			got, want := random(seed), random(seed)
			if err := owners.Update(k, k.GVK, "", nil, got, "maker"); err != nil {
				t.Fatal(err)
			}
			m.UpdateNoErrors(blank(), want, "maker")
			alike(t, fmt.Sprintf("create %s, seed %d", k, seed), got, want)
			if len(want.GetManagedFields()) > 0 {
				recorded++
			}
			next, wanted := random(seed+1000), random(seed+1000)
			if err := owners.Update(k, k.GVK, "", got, next, "changer"); err != nil {
				t.Fatal(err)
			}
			m.UpdateNoErrors(want, wanted, "changer")
			alike(t, fmt.Sprintf("update %s, seed %d", k, seed), next, wanted)
		}
	}
	if recorded < 100 {
		t.Errorf("the library recorded something of %d objects only", recorded)
	}
}

// alike compares managed fields but for their times, which are to be there.
func alike(t *testing.T, what string, got, want kind.Object) {
	t.Helper()
	text := func(obj kind.Object) string {
		entries := slices.Clone(obj.GetManagedFields())
		for i := range entries {
			if entries[i].Time.IsZero() {
				t.Errorf("%s: an entry has no time", what)
			}
			entries[i].Time = nil
		}
		slices.SortFunc(entries, func(a, b metav1.ManagedFieldsEntry) int { return len(a.Manager) - len(b.Manager) })
		data, err := json.Marshal(entries)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	if g, w := text(got), text(want); g != w {
		t.Errorf("%s:\n%s\nwant\n%s", what, g, w)
	}
}

// Who makes and changes objects at the same time shares an Owners.
func TestOwnersAreShared(t *testing.T) {
	kinds := kind.NewTable(core.Kinds())
	owners := object.NewOwners(schema.New(kinds).TypeConverter)
	k := kinds.ByGVK(corev1.SchemeGroupVersion.WithKind("Pod"))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 5 {
				obj := k.New()
				anything(int64(10*i + n)).Fill(obj)
				obj.GetObjectKind().SetGroupVersionKind(k.GVK)
				if err := owners.Update(k, k.GVK, "", nil, obj, "maker"); err != nil {
					t.Error(err)
				}
				next := obj.DeepCopyObject().(kind.Object)
				next.SetLabels(map[string]string{"a": "b"})
				if err := owners.Update(k, k.GVK, "", obj, next, "changer"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// All write to one object that is shared, each its own version of it.
func TestOneObjectIsChangedByMany(t *testing.T) {
	kinds := kind.NewTable(core.Kinds())
	owners := object.NewOwners(schema.New(kinds).TypeConverter)
	var c object.Codec
	k := kinds.ByGVK(corev1.SchemeGroupVersion.WithKind("ConfigMap"))
	live := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "b"}, Data: map[string]string{"a": "b"}}
	live.SetGroupVersionKind(k.GVK)
	if err := owners.Update(k, k.GVK, "", nil, live, "maker"); err != nil {
		t.Fatal(err)
	}
	before := written(t, live)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			manager := fmt.Sprint("manager-", i)
			for range 20 {
				next, _, err := c.Patch(k, k.GVK, live, types.MergePatchType, []byte(`{"data":{"a":"c"},"metadata":{"labels":{"d":"e"}}}`), object.Strict)
				if err != nil {
					t.Error(err)
					return
				}
				if err := owners.Update(k, k.GVK, "", live, next, manager); err != nil {
					t.Error(err)
				}
				config := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": "a"}, "data": map[string]any{"x": manager}}}
				config.SetGroupVersionKind(k.GVK)
				applied, err := owners.Apply(k, k.GVK, "", next, config, manager, true)
				if err != nil {
					t.Error(err)
					return
				}
				applied.SetLabels(nil) // it is its caller's
				if n := len(applied.GetManagedFields()); n != 2 && n != 3 {
					t.Errorf("%d owners", n)
				}
			}
		})
	}
	all.Wait()
	if now := written(t, live); now != before {
		t.Errorf("what is shared was changed:\n%s\nwas\n%s", now, before)
	}
}

func BenchmarkOwners(b *testing.B) {
	kinds := kind.NewTable(core.Kinds())
	owners := object.NewOwners(schema.New(kinds).TypeConverter)
	k := kinds.ByGVK(corev1.SchemeGroupVersion.WithKind("ConfigMap"))
	made := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c", Labels: map[string]string{"app": "bench"}}, Data: map[string]string{"a": "1", "b": "2"}}
	made.SetGroupVersionKind(k.GVK)
	b.Run("create", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			made.ManagedFields = nil
			if err := owners.Update(k, k.GVK, "", nil, made, "maker"); err != nil {
				b.Fatal(err)
			}
		}
	})
	next := made.DeepCopy()
	next.Data["c"] = "3"
	b.Run("update", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			next.ManagedFields = nil
			if err := owners.Update(k, k.GVK, "", made, next, "changer"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
