package object_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/randfill"

	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/kind"
	"sampan/cluster/kind/apiextensions"
	"sampan/cluster/object"
)

// pieces are what strings are made of: plain text, and all that JSON or HTML
// writes in another way.
var pieces = []string{"", "a", "plain text of some length", "a\"b", `\`, "\n", "\r\t\b\f\x00\x1f\x7f", "<b>&amp;</b>", "ü", "日本語",
	"\u2028", "\u2029", "\xff", "\xe2\x80", "\U0001f600", "12345678", "1234567\"", "1234567<", "1234567>", "1234567&", "1234567\\", "1234567\x1f", "1234567\x80", "'!#$%;=?~"}

func text(r *rand.Rand) string {
	var b strings.Builder
	for range r.IntN(4) {
		b.WriteString(pieces[r.IntN(len(pieces))])
	}
	return b.String()
}

// filler fills objects with anything that their types can hold.
func filler(r *rand.Rand) *randfill.Filler {
	json := func() []byte {
		return []byte([]string{`{"f:data":{".":{},"f:a":{}}}`, `{"f:x": {"a":"<b>"}}`, `{}`, `null`, `{"k:{\"a\":1}":[1,2.50]}`}[r.IntN(5)])
	}
	return randfill.NewWithSeed(r.Int64()).NilChance(0.3).NumElements(0, 3).MaxDepth(8).Funcs(
		func(s *string, _ randfill.Continue) { *s = text(r) },
		func(t *metav1.Time, _ randfill.Continue) {
			if r.IntN(3) > 0 {
				*t = metav1.NewTime(time.Unix(r.Int64N(4e9), r.Int64N(1e9)).In(time.FixedZone("", r.IntN(9)*3600)))
			}
		},
		func(t *metav1.MicroTime, _ randfill.Continue) { t.Time = time.Unix(r.Int64N(4e9), r.Int64N(1e9)) },
		func(q *resource.Quantity, _ randfill.Continue) {
			formats := []resource.Format{resource.DecimalSI, resource.BinarySI, resource.DecimalExponent}
			*q = *resource.NewMilliQuantity(r.Int64N(1e12)-1e6, formats[r.IntN(3)])
			if r.IntN(2) == 0 {
				*q = resource.MustParse(q.String())
			}
		},
		func(i *intstr.IntOrString, _ randfill.Continue) {
			*i = []intstr.IntOrString{intstr.FromInt32(-3), intstr.FromString("<25%>")}[r.IntN(2)]
		},
		func(f *metav1.FieldsV1, _ randfill.Continue) { f.SetRawBytes(json()) },
		func(e *runtime.RawExtension, _ randfill.Continue) { e.Raw = json() },
		func(j *apiextensionsv1.JSON, _ randfill.Continue) { j.Raw = json() },
		func(p *apiextensionsv1.JSONSchemaProps, _ randfill.Continue) {
			*p = apiextensionsv1.JSONSchemaProps{Type: text(r), Not: &apiextensionsv1.JSONSchemaProps{Format: text(r)},
				Items: &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &apiextensionsv1.JSONSchemaProps{Title: text(r)}}}
		},
	)
}

// What the fast encoder writes is what encoding/json writes, byte by byte: of
// every kind, in every version, whatever is in it.
func TestJSONIsThatOfTheStandardLibrary(t *testing.T) {
	var c object.Codec
	for seed := range uint64(12) {
		r := rand.New(rand.NewPCG(seed, 1))
		for _, k := range append(table().All(), apiextensions.Kinds()...) {
			for _, obj := range blanks(k) {
				filler(r).Fill(obj)
				same(t, c, obj, fmt.Sprintf("%T, seed %d", obj, seed))
			}
		}
	}
}

// blanks are an empty object of each version of k.
func blanks(k *kind.Kind) []kind.Object {
	all := []kind.Object{k.New()}
	for _, gvk := range k.GVKs() {
		if v := k.Version(gvk); v != nil {
			all = append(all, v.New())
		}
	}
	return all
}

func same(t *testing.T, c object.Codec, obj runtime.Object, what string) {
	t.Helper()
	var want bytes.Buffer
	if err := json.NewEncoder(&want).Encode(obj); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	got, err := c.Encode(nil, obj, object.JSON)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if !bytes.Equal(got, want.Bytes()) {
		i := 0
		for i < min(len(got), want.Len()) && got[i] == want.Bytes()[i] {
			i++
		}
		from := max(0, i-40)
		t.Errorf("%s differs at byte %d:\n%q\nwant\n%q", what, i, got[from:min(len(got), i+40)], want.Bytes()[from:min(want.Len(), i+40)])
	}
}

func TestJSONOfUnstructuredObjects(t *testing.T) {
	var c object.Codec
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 50 {
		u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "a.example/v1", "kind": "A",
			text(r): text(r), "n": int64(-7), "f": 1e21, "g": 0.25, "b": true, "z": nil,
			"l": []any{text(r), map[string]any{text(r): []any{}}}, "m": map[string]any{}}}
		same(t, c, u, fmt.Sprint("object ", i))
	}
}

// A field that is not valid JSON is an error, not a broken answer, also when it
// was written before and after a valid one.
func TestJSONOfInvalidOwnersIsAnError(t *testing.T) {
	var c object.Codec
	for range 3 {
		obj := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{{FieldsV1: &metav1.FieldsV1{}}}}}
		obj.ManagedFields[0].FieldsV1.SetRawBytes([]byte(`{"f:data":`))
		if data, err := c.Encode(nil, obj, object.JSON); err == nil {
			t.Fatalf("%s", data)
		}
		obj.ManagedFields[0].FieldsV1.SetRawBytes([]byte(`{"f:data":{}}`))
		same(t, c, obj, "a valid one")
	}
}

func FuzzJSONText(f *testing.F) {
	for _, p := range pieces {
		f.Add(p, p)
	}
	var c object.Codec
	f.Fuzz(func(t *testing.T, key, value string) {
		same(t, c, &corev1.ConfigMap{Data: map[string]string{key: value}, BinaryData: map[string][]byte{"b": []byte(value)}}, "text")
	})
}

func BenchmarkEncodeJSON(b *testing.B) {
	obj := &corev1.ConfigMap{TypeMeta: metav1.TypeMeta{Kind: "ConfigMap", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Name: "a", Namespace: "default", Labels: map[string]string{"app": "bench"}, UID: "4f8f8c6e-6f56-4f2e-8d64-2a7c9b1f1a44",
			ResourceVersion: "1234", CreationTimestamp: metav1.Now(), ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "bench", Operation: "Update", APIVersion: "v1",
				Time: &metav1.Time{Time: time.Now()}, FieldsType: "FieldsV1", FieldsV1: &metav1.FieldsV1{}}}},
		Data: map[string]string{"a": strings.Repeat("0123456789abcdef", 28), "b": strings.Repeat("fedcba9876543210", 28)}}
	obj.ManagedFields[0].FieldsV1.SetRawBytes([]byte(`{"f:data":{".":{},"f:a":{},"f:b":{}},"f:metadata":{"f:labels":{".":{},"f:app":{}}}}`))
	var c object.Codec
	b.ReportAllocs()
	var dst []byte
	for b.Loop() {
		var err error
		if dst, err = c.Encode(dst[:0], obj, object.JSON); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(dst)))
}
