package store

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/randfill"

	"sampan/cluster/kind"
)

// text is the whole of an object.
func text(t testing.TB, obj any) string {
	t.Helper()
	data, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// similar makes objects that have some parts alike: each is filled from few
// seeds, a part from each.
type similar struct {
	random *rand.Rand
	fill   *randfill.Filler
}

func newSimilar(seed uint64) *similar {
	s := &similar{random: rand.New(rand.NewPCG(seed, 1))}
	s.fill = randfill.NewWithSeed(int64(seed)).NilChance(0.5).NumElements(0, 3).MaxDepth(12).Funcs(
		func(r *runtime.RawExtension, _ randfill.Continue) { *r = runtime.RawExtension{Raw: []byte(`{"a":1}`)} },
		func(f *metav1.FieldsV1, c randfill.Continue) {
			*f = *metav1.NewFieldsV1(fmt.Sprintf(`{"f:%d":{}}`, c.Intn(3)))
		},
		func(j *apiextensionsv1.JSON, c randfill.Continue) { j.Raw = fmt.Append(nil, c.Intn(3)) },
		func(p *apiextensionsv1.JSONSchemaProps, c randfill.Continue) {
			p.Type, p.Description = []string{"string", "object"}[c.Intn(2)], fmt.Sprint(c.Intn(3))
			if c.Intn(3) > 0 {
				p.Properties = map[string]apiextensionsv1.JSONSchemaProps{"a": {Type: "string"}}
				p.Items = &apiextensionsv1.JSONSchemaPropsOrArray{Schema: &apiextensionsv1.JSONSchemaProps{Title: fmt.Sprint(c.Intn(2))}}
			}
		},
		func(s *string, c randfill.Continue) {
			*s = []string{"", "a", "b", "node-1", "kube-api-access"}[c.Intn(5)]
		},
	)
	return s
}

// mixed returns an object whose fields are each those of one of base.
func (s *similar) mixed(base []kind.Object) kind.Object {
	first := reflect.ValueOf(base[0].DeepCopyObject())
	for i := range first.Elem().NumField() {
		from := reflect.ValueOf(base[s.random.IntN(len(base))].DeepCopyObject())
		first.Elem().Field(i).Set(from.Elem().Field(i))
	}
	return first.Interface().(kind.Object)
}

// TestSharingChangesNoObject is the property that all rests on: whatever an
// object is held against, it says what it said, and so do those it was held
// against and what was shared before.
func TestSharingChangesNoObject(t *testing.T) {
	types := scheme.Scheme.AllKnownTypes()
	if err := apiextensionsv1.AddToScheme(scheme.Scheme); err != nil {
		t.Fatal(err)
	}
	types[apiextensionsv1.SchemeGroupVersion.WithKind("CustomResourceDefinition")] = reflect.TypeFor[apiextensionsv1.CustomResourceDefinition]()
	n := 0
	for gvk, typ := range types {
		sample, ok := reflect.New(typ).Interface().(kind.Object)
		if !ok {
			continue
		}
		n++
		s, made := &sharing{}, newSimilar(uint64(n))
		var base []kind.Object
		for range 3 {
			one := reflect.New(typ).Interface().(kind.Object)
			made.fill.Fill(one)
			base = append(base, one)
		}
		var kept []kind.Object
		var said []string
		for range 8 {
			obj := made.mixed(base)
			want := text(t, obj)
			fresh := made.random.IntN(2) == 0
			like := []kind.Object{nil, sample}
			for range 2 {
				if len(kept) > 0 {
					like = append(like, kept[made.random.IntN(len(kept))])
				}
			}
			got := s.share(obj, fresh, like[made.random.IntN(3):]...)
			if text(t, got) != want {
				t.Fatalf("%v: shared it says\n%s, want\n%s", gvk, text(t, got), want)
			}
			if !fresh && text(t, obj) != want {
				t.Errorf("%v: what was given was changed to\n%s, from\n%s", gvk, text(t, obj), want)
			}
			got.SetResourceVersion("7") // as the feeder does
			kept, said = append(kept, got), append(said, text(t, got))
			for i, o := range kept {
				if text(t, o) != said[i] {
					t.Fatalf("%v: a kept object was changed to\n%s, from\n%s", gvk, text(t, o), said[i])
				}
			}
		}
	}
	if n < 100 {
		t.Errorf("%d types are not all", n)
	}
}

func TestEqualPartsAreOne(t *testing.T) {
	pod := func(name string) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "web"}},
			Spec: corev1.PodSpec{NodeName: "n" + name, Containers: []corev1.Container{{Name: "c", Image: "i", Env: []corev1.EnvVar{{Name: "A"}}}}}}
		p.ManagedFields = append(make([]metav1.ManagedFieldsEntry, 0, 8), metav1.ManagedFieldsEntry{FieldsV1: metav1.NewFieldsV1("{}"), Time: &metav1.Time{}})
		return p
	}
	s := &sharing{}
	a := s.share(pod("a"), true).(*corev1.Pod)
	given := pod("b")
	given.ManagedFields[0].Manager = "other"
	b := s.share(given, false, a).(*corev1.Pod)
	switch {
	case b == given || b.Name != "b" || b.Spec.NodeName != "nb":
		t.Errorf("got %+v", b)
	case &b.Spec.Containers[0] != &a.Spec.Containers[0]:
		t.Error("equal containers are kept twice")
	case reflect.ValueOf(b.Labels).Pointer() != reflect.ValueOf(a.Labels).Pointer():
		t.Error("equal labels are kept twice")
	case b.ManagedFields[0].FieldsV1 != a.ManagedFields[0].FieldsV1 || b.ManagedFields[0].Time != a.ManagedFields[0].Time:
		t.Error("equal parts of another entry are kept twice")
	case cap(b.ManagedFields) != 1:
		t.Errorf("there is room for %d that nobody uses", cap(b.ManagedFields))
	case given.ManagedFields[0].FieldsV1 == a.ManagedFields[0].FieldsV1:
		t.Error("what was given was written to")
	}
}

func TestWhatIsNotEqualStays(t *testing.T) {
	zero, none := []corev1.Toleration{}, []corev1.Toleration(nil)
	s := &sharing{}
	a := &corev1.Pod{Spec: corev1.PodSpec{Tolerations: zero, NodeSelector: map[string]string{}}}
	b := s.share(&corev1.Pod{Spec: corev1.PodSpec{Tolerations: none}}, true, a).(*corev1.Pod)
	if b.Spec.Tolerations != nil || b.Spec.NodeSelector != nil {
		t.Error("nothing became empty")
	}
	one, two := corev1.ConfigMap{BinaryData: map[string][]byte{"a": {1}}}, &corev1.ConfigMap{BinaryData: map[string][]byte{"a": {2}}}
	if got := s.share(&one, true, two).(*corev1.ConfigMap); !bytes.Equal(got.BinaryData["a"], []byte{1}) {
		t.Errorf("got %v", got.BinaryData)
	}
	if got := s.share(&one, true, a).(*corev1.ConfigMap); got.BinaryData == nil {
		t.Error("an object of another type counts")
	}
}

func TestCustomResourcesShareToo(t *testing.T) {
	made := func(name string, replicas int64) *unstructured.Unstructured {
		u := &unstructured.Unstructured{}
		data := fmt.Sprintf(`{"apiVersion":"x/v1","kind":"X","metadata":{"name":%q,"labels":{"a":"b"}},"spec":{"replicas":%d,"template":{"list":[1,2.5,"c",null,{"k":true}]}}}`, name, replicas)
		if err := u.UnmarshalJSON([]byte(data)); err != nil {
			t.Fatal(err)
		}
		return u
	}
	s := &sharing{}
	a := s.share(made("a", 1), true).(*unstructured.Unstructured)
	given := made("b", 2)
	want := text(t, given)
	b := s.share(given, false, a).(*unstructured.Unstructured)
	at := func(u *unstructured.Unstructured, path ...string) uintptr {
		part, _, err := unstructured.NestedFieldNoCopy(u.Object, path...)
		if err != nil {
			t.Fatal(err)
		}
		return reflect.ValueOf(part).Pointer()
	}
	if text(t, b) != want {
		t.Errorf("got %s, want %s", text(t, b), want)
	}
	if at(a, "spec", "template") != at(b, "spec", "template") || at(a, "metadata", "labels") != at(b, "metadata", "labels") {
		t.Error("equal parts are kept twice")
	}
	same := s.share(made("a", 1), true, a).(*unstructured.Unstructured)
	same.SetResourceVersion("9")
	b.SetResourceVersion("8")
	if a.GetResourceVersion() != "" || given.GetResourceVersion() != "" {
		t.Error("a resourceVersion is shared")
	}
}

// TestWordsAreForgotten: what is remembered is bounded.
func TestWordsAreForgotten(t *testing.T) {
	var w words
	for i := range 100_000 {
		w.of(fmt.Sprint("word ", i))
	}
	bytes := 0
	for _, known := range w.met {
		bytes += len(known)
	}
	if most := len(w.met) * longest; bytes > most {
		t.Errorf("%d bytes are kept, want %d at most", bytes, most)
	}
	long := string(make([]byte, longest+1))
	if w.of(long); w.met != nil {
		for _, known := range w.met {
			if known == long {
				t.Error("a long text is remembered")
			}
		}
	}
}

// TestReadersAndSharersDoNotMeet is for the race detector: objects are made of
// parts of others, some of which the caller has from the cache himself, while
// all are read.
func TestReadersAndSharersDoNotMeet(t *testing.T) {
	s, made := &sharing{}, newSimilar(7)
	var base []kind.Object
	for range 3 {
		p := &corev1.Pod{}
		made.fill.Fill(p)
		base = append(base, s.share(p, true))
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			have := base
			for i := range 30 {
				next := *have[i%len(have)].(*corev1.Pod) // shallow: its parts are the cache's
				next.Name = fmt.Sprint(i)
				next.Spec.Containers = append([]corev1.Container{{Name: "first"}}, next.Spec.Containers...)
				got := s.share(&next, false, have[(i+1)%len(have)], have[(i+2)%len(have)])
				got.SetResourceVersion("1")
				have = append(have[:len(have):len(have)], got)
				_ = text(t, got)
			}
		})
	}
	for range 50 {
		for _, o := range base {
			_ = text(t, o)
		}
	}
	all.Wait()
}

func BenchmarkShare(b *testing.B) {
	s := &sharing{}
	a, like := s.share(Replica(1), true), s.share(Replica(2), true)
	next := Replica(3).DeepCopy()
	b.ReportAllocs()
	for b.Loop() {
		s.share(next, false, a, like)
	}
}

func TestAppendingToACopyOfASharedSliceIsNobodyElses(t *testing.T) {
	pod := func(name string) *corev1.Pod {
		finalizers := append(make([]string, 0, 3), "a/b") // as decoders leave room
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Finalizers: finalizers}}
	}
	var s sharing
	first := s.share(pod("one"), true).(*corev1.Pod)
	second := s.share(pod("two"), true, first).(*corev1.Pod)
	if &first.Finalizers[0] != &second.Finalizers[0] {
		t.Fatal("the finalizers are not shared")
	}
	ours, theirs := append(first.Finalizers, "c/d"), append(second.Finalizers, "e/f")
	if ours[1] != "c/d" || theirs[1] != "e/f" {
		t.Errorf("appended to one another: %v %v", ours, theirs)
	}
}
