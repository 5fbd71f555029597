package object_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	kjson "sigs.k8s.io/json"

	"sampan/cluster/kind"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/networking"
	"sampan/cluster/kind/policy"
	"sampan/cluster/object"
)

// some is a patch that takes some of the members of doc over, or removes them.
func some(r *rand.Rand, doc map[string]any) map[string]any {
	patch := map[string]any{}
	for name, v := range doc {
		switch n := r.IntN(12); {
		case n < 5:
			continue
		case n == 5:
			patch[name] = nil
		default:
			if m, ok := v.(map[string]any); ok {
				v = some(r, m)
			}
			patch[name] = v
		}
	}
	if r.IntN(40) == 0 {
		patch["noSuchField"] = "x"
	}
	if r.IntN(40) == 0 {
		for name := range doc {
			patch[name] = []any{"a list", nil, 1.5}[r.IntN(3)]
		}
	}
	return patch
}

// patchable is a random object, as it is when it was read from JSON, and its
// document.
func patchable(t *testing.T, r *rand.Rand, k *kind.Kind) (kind.Object, map[string]any) {
	t.Helper()
	obj := k.New()
	filler(r).Fill(obj)
	obj.GetObjectKind().SetGroupVersionKind(k.GVK)
	for range 2 { // what is read may be written in another way than it was
		data, err := json.Marshal(obj)
		if err != nil {
			t.Fatal(err)
		}
		obj = k.New()
		if err := kjson.UnmarshalCaseSensitivePreserveInts(data, obj); err != nil {
			t.Fatal(err)
		}
	}
	var doc map[string]any
	if err := json.Unmarshal(document(t, obj), &doc); err != nil {
		t.Fatal(err)
	}
	return obj, doc
}

func document(t *testing.T, obj any) []byte {
	t.Helper()
	data, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// plainText is an object's document without the ways in which clients wrote
// numbers, which are kept where nobody touches them.
func plainText(t *testing.T, obj any) string {
	t.Helper()
	var doc any
	if err := json.Unmarshal(document(t, obj), &doc); err != nil {
		t.Fatal(err)
	}
	return string(document(t, doc))
}

// A patch that is made on the object has the outcome of one that is made on its
// text, whatever it names, in objects of every kind.
func TestPatchesAreThoseOfTheText(t *testing.T) {
	kinds := kind.NewTable(core.Kinds(), apps.Kinds(), networking.Kinds(), policy.Kinds())
	c := object.Codec{Kinds: kinds}
	changed, refused := 0, 0
	for _, k := range kinds.All() {
		for seed := range uint64(5) {
			r := rand.New(rand.NewPCG(seed, 5))
			live, _ := patchable(t, r, k)
			_, other := patchable(t, r, k)
			delete(other, "apiVersion") // which kind it is, is no field like others
			delete(other, "kind")
			patch := document(t, some(r, other))
			doc := document(t, live)
			for _, pt := range []types.PatchType{types.MergePatchType, types.StrategicMergePatchType} {
				what := fmt.Sprintf("%s, %s, seed %d: %s of %s", k, pt, seed, patch, doc)
				var text []byte
				var err error
				if pt == types.MergePatchType {
					text, err = jsonpatch.MergePatch(doc, patch)
				} else {
					text, err = strategicpatch.StrategicMergePatch(doc, patch, k.New())
				}
				want := k.New()
				if err == nil {
					var strict []error
					if strict, err = kjson.UnmarshalStrict(text, want); err == nil && len(strict) > 0 {
						err = strict[0]
					}
				}
				got, _, goterr := c.Patch(k, k.GVK, live, pt, patch, object.Strict)
				if (goterr == nil) != (err == nil) {
					t.Fatalf("%s:\n%v\nwant\n%v", what, goterr, err)
				}
				if string(document(t, live)) != string(doc) {
					t.Fatalf("%s: the object itself was changed", what)
				}
				if err != nil {
					refused++
					continue
				}
				if g, w := plainText(t, got), plainText(t, want); g != w {
					t.Fatalf("%s:\n%s\nwant\n%s", what, g, w)
				} else if g != plainText(t, live) {
					changed++
				}
			}
		}
	}
	if changed < 100 || refused < 25 {
		t.Errorf("%d patches changed something, %d were refused: the test says little", changed, refused)
	}
}

func BenchmarkPatch(b *testing.B) {
	kinds := table()
	c := object.Codec{Kinds: kinds}
	k := kinds.ByGVK(corev1.SchemeGroupVersion.WithKind("ConfigMap"))
	live := sample(k).(*corev1.ConfigMap)
	live.Data = map[string]string{"a": string(make([]byte, 400)), "b": string(make([]byte, 400))}
	live.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "m", Operation: "Update", APIVersion: "v1", FieldsType: "FieldsV1", FieldsV1: &metav1.FieldsV1{}}}
	live.ManagedFields[0].FieldsV1.SetRawBytes([]byte(`{"f:data":{".":{},"f:a":{},"f:b":{}},"f:metadata":{"f:labels":{".":{},"f:app":{}}}}`))
	for _, pt := range []types.PatchType{types.MergePatchType, types.StrategicMergePatchType} {
		b.Run(string(pt), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := c.Patch(k, k.GVK, live, pt, []byte(`{"data":{"patched":"1"}}`), object.Strict); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
