package verb_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"sampan/cluster/kind"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/core"
	"sampan/cluster/object"
	"sampan/cluster/schema"
)

// history is an object that is changed by many, in our way and in the
// library's.
type history struct {
	t    *testing.T
	r    *rand.Rand
	k    *kind.Kind
	ours kind.Object
	libs kind.Object
	what string
}

func (h *history) random() kind.Object {
	obj := h.k.New()
	anything(h.r.Int64()).Fill(obj)
	obj.GetObjectKind().SetGroupVersionKind(h.k.GVK)
	return obj
}

// next is obj with some fields of another.
func next(r *rand.Rand, obj, other kind.Object) kind.Object {
	made := obj.DeepCopyObject().(kind.Object)
	to, from := reflect.ValueOf(made).Elem(), reflect.ValueOf(other).Elem()
	for i := range to.NumField() {
		switch to.Type().Field(i).Name {
		case "TypeMeta":
		case "ObjectMeta":
			if r.IntN(3) == 0 {
				made.SetLabels(other.GetLabels())
			}
			if r.IntN(3) == 0 {
				made.SetAnnotations(other.GetAnnotations())
			}
			if r.IntN(6) == 0 {
				made.SetOwnerReferences(other.GetOwnerReferences())
			}
			if r.IntN(6) == 0 {
				made.SetFinalizers(other.GetFinalizers())
			}
		default:
			if r.IntN(3) == 0 {
				to.Field(i).Set(from.Field(i))
			}
		}
	}
	switch r.IntN(8) {
	case 0, 1, 2:
		made.SetManagedFields(nil)
	case 3:
		if r.IntN(4) == 0 {
			made.SetManagedFields([]metav1.ManagedFieldsEntry{})
		}
	}
	return made
}

// configuration names some fields of obj.
func (h *history) configuration(obj kind.Object) *unstructured.Unstructured {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		h.t.Fatal(err)
	}
	some(h.r, content)
	if meta, ok := content["metadata"].(map[string]any); ok {
		delete(meta, "managedFields")
	}
	u := &unstructured.Unstructured{Object: content}
	u.SetGroupVersionKind(h.k.GVK)
	return u
}

// some takes members out of a document.
func some(r *rand.Rand, doc map[string]any) {
	for _, name := range slices.Sorted(maps.Keys(doc)) { // in one order for one seed
		if m, ok := doc[name].(map[string]any); ok && r.IntN(3) > 0 {
			some(r, m)
		} else if r.IntN(2) == 0 {
			delete(doc, name)
		}
	}
}

// What is recorded of many changes by many, and what is made of applied
// configurations, is what upstream's library makes of them.
func TestHistoriesAreUpstreams(t *testing.T) {
	kinds := kind.NewTable(core.Kinds(), apps.Kinds())
	types := schema.New(kinds).TypeConverter
	owners := object.NewOwners(types)
	applied, refused := 0, 0
	for _, k := range kinds.All() {
		m := upstreams(t, k, types)
		for seed := range uint64(2) {
			h := &history{t: t, r: rand.New(rand.NewPCG(seed, 9)), k: k}
			h.ours = h.random()
			h.libs = h.ours.DeepCopyObject().(kind.Object)
			empty := h.k.New()
			empty.GetObjectKind().SetGroupVersionKind(k.GVK)
			if err := owners.Update(k, k.GVK, "", nil, h.ours, "maker"); err != nil {
				t.Fatal(err)
			}
			m.UpdateNoErrors(empty, h.libs, "maker")
			for step := range 14 {
				manager := fmt.Sprint("manager-", string(rune('a'+h.r.IntN(14))))
				h.what = fmt.Sprintf("%s, seed %d, step %d by %s", k, seed, step, manager)
				if len(h.libs.GetManagedFields()) == 0 {
					break // it is nobody's for ever
				}
				before := written(t, h.ours)
				if h.r.IntN(2) == 0 {
					next := next(h.r, h.ours, h.random())
					wanted := next.DeepCopyObject().(kind.Object)
					live := h.ours
					if err := owners.Update(k, k.GVK, "", live, next, manager); err != nil {
						t.Fatal(err)
					}
					h.same(live, before)
					m.UpdateNoErrors(h.libs, wanted, manager)
					h.ours, h.libs = next, wanted
				} else {
					config, force := h.configuration(h.random()), h.r.IntN(3) > 0
					got, err := owners.Apply(k, k.GVK, "", h.ours, config.DeepCopy(), manager, force)
					h.same(h.ours, before)
					want, wantErr := m.Apply(h.libs, config, manager, force)
					if (err == nil) != (wantErr == nil) || err != nil && len(err.Error()) != len(wantErr.Error()) {
						t.Fatalf("%s: apply: %v\nwant %v", h.what, err, wantErr)
					}
					if err != nil {
						refused++
						continue
					}
					applied++
					h.ours, h.libs = got, h.typed(want)
				}
				k.Default(h.ours)
				k.Default(h.libs)
				h.alike()
			}
		}
	}
	if applied < 100 || refused < 40 {
		t.Errorf("%d configurations were applied, %d refused: the test says little", applied, refused)
	}
}

// Of more managers than are told apart, the oldest become one.
func TestManyManagersAreUpstreams(t *testing.T) {
	kinds := kind.NewTable(core.Kinds())
	types := schema.New(kinds).TypeConverter
	owners := object.NewOwners(types)
	k := kinds.ByGVK(corev1.SchemeGroupVersion.WithKind("ConfigMap"))
	m := upstreams(t, k, types)
	made := &corev1.ConfigMap{Data: map[string]string{"a": "b"}}
	made.SetGroupVersionKind(k.GVK)
	if err := owners.Update(k, k.GVK, "", nil, made, "maker"); err != nil {
		t.Fatal(err)
	}
	h := &history{t: t, k: k, ours: made, libs: made.DeepCopy()}
	for i := range 16 {
		next := h.ours.DeepCopyObject().(*corev1.ConfigMap)
		manager := string(rune('a' + i))
		next.Data[manager] = manager
		for j := range next.ManagedFields { // each a minute later than the one before
			past := metav1.NewTime(next.ManagedFields[j].Time.Add(-time.Minute))
			next.ManagedFields[j].Time = &past
		}
		wanted := next.DeepCopy()
		h.what = "the change of " + manager
		if err := owners.Update(k, k.GVK, "", h.ours, next, manager); err != nil {
			t.Fatal(err)
		}
		m.UpdateNoErrors(h.libs, wanted, manager)
		h.ours, h.libs = next, wanted
		h.alike()
	}
	if n := len(h.ours.GetManagedFields()); n != 10 {
		t.Errorf("%d owners, want 10", n)
	}
}

func (h *history) typed(obj runtime.Object) kind.Object {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return obj.(kind.Object)
	}
	made := h.k.New()
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, made); err != nil {
		h.t.Fatal(h.what, err)
	}
	return made
}

// alike compares the objects, what is recorded of them, and whether it has a
// time. Then both are one again: the library leaves out what is empty, in
// whatever it merges.
func (h *history) alike() {
	ours, libs := h.recorded(h.ours), h.recorded(h.libs)
	if ours != libs {
		h.t.Fatalf("%s:\n%s\nwant\n%s", h.what, ours, libs)
	}
	h.ours.SetManagedFields(h.libs.GetManagedFields())
	if !equality.Semantic.DeepEqual(h.ours, h.libs) && written(h.t, h.ours) != written(h.t, h.libs) {
		h.t.Fatalf("%s:\n%s\nwant\n%s", h.what, written(h.t, h.ours), written(h.t, h.libs))
	}
	h.libs = h.ours.DeepCopyObject().(kind.Object)
}

// recorded are the owners of obj, their fields in order: the library orders
// some of them at the next write only.
func (h *history) recorded(obj kind.Object) string {
	var lines []string
	for _, e := range obj.GetManagedFields() {
		set := &fieldpath.Set{}
		if err := set.FromJSON(e.FieldsV1.GetRawReader()); err != nil {
			h.t.Fatal(h.what, err)
		}
		fields, err := set.ToJSON()
		if err != nil {
			h.t.Fatal(h.what, err)
		}
		lines = append(lines, fmt.Sprint(e.Manager, e.Operation, e.APIVersion, e.FieldsType, e.Subresource, e.Time.IsZero(), " ", string(fields)))
	}
	slices.Sort(lines) // times may be a second apart
	return strings.Join(lines, "\n")
}

func (h *history) same(obj kind.Object, before string) {
	if now := written(h.t, obj); now != before {
		h.t.Fatalf("%s: what is shared was changed:\n%s\nwas\n%s", h.what, now, before)
	}
}

func written(t *testing.T, obj any) string {
	data, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
