package object_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"

	"sampan/cluster/kind"
	"sampan/cluster/kind/apiextensions"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/coordination"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/discovery"
	"sampan/cluster/kind/rbac"
	"sampan/cluster/object"
)

func table() *kind.Table {
	return kind.NewTable(core.Kinds(), apps.Kinds(), coordination.Kinds(), discovery.Kinds(), rbac.Kinds())
}

// sample is an object of k with some metadata.
func sample(k *kind.Kind) kind.Object {
	obj := k.New()
	obj.SetName("a")
	obj.SetNamespace("ns")
	obj.SetLabels(map[string]string{"k": "v"})
	obj.SetResourceVersion("7")
	obj.GetObjectKind().SetGroupVersionKind(k.GVK)
	k.Default(obj)
	return obj
}

func TestEveryKindIsEncodedAsUpstreamDoes(t *testing.T) {
	kinds := table()
	c := object.Codec{Kinds: kinds}
	upstream := protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)
	for _, k := range kinds.All() {
		for _, gvk := range k.GVKs() {
			obj, err := object.As(k, sample(k), gvk)
			if err != nil {
				t.Errorf("%v: %v", gvk, err)
				continue
			}
			ours, err := c.Encode(nil, obj, object.Protobuf)
			if err != nil {
				t.Errorf("%v: %v", gvk, err)
				continue
			}
			var theirs bytes.Buffer
			if err := upstream.Encode(obj, &theirs); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(ours, theirs.Bytes()) {
				t.Errorf("%v as protobuf:\n%x\nupstream's:\n%x", gvk, ours, theirs.Bytes())
			}
			for _, media := range []string{object.JSON, object.YAML, object.Protobuf} {
				data, err := c.Encode([]byte("before "), obj, media)
				if err != nil || !bytes.HasPrefix(data, []byte("before ")) {
					t.Errorf("%v as %s: %v", gvk, media, err)
					continue
				}
				back, err := c.Decode(k, gvk, data[len("before "):], media, object.Strict)
				if err != nil {
					t.Errorf("%v from %s: %v", gvk, media, err)
					continue
				}
				want, err := object.Hub(k, obj.DeepCopyObject().(kind.Object), gvk)
				if err != nil {
					t.Fatal(err)
				}
				if !equality.Semantic.DeepEqual(back.Object, want) {
					t.Errorf("%v came back from %s as\n%+v\nwant\n%+v", gvk, media, back.Object, want)
				}
			}
		}
	}
}

func TestListsAreThoseOfTheTypedLists(t *testing.T) {
	kinds := table()
	c := object.Codec{Kinds: kinds}
	remaining := int64(3)
	meta := metav1.ListMeta{ResourceVersion: "9", Continue: "c", RemainingItemCount: &remaining}
	for _, k := range kinds.All() {
		for _, gvk := range k.GVKs() {
			items := []kind.Object{sample(k), sample(k)}
			for _, media := range []string{object.JSON, object.Protobuf} {
				var b bytes.Buffer
				if err := c.EncodeList(&b, k, gvk, meta, items, media); err != nil {
					t.Errorf("%v: %v", gvk, err)
					continue
				}
				list, _, err := scheme.Codecs.UniversalDeserializer().Decode(b.Bytes(), nil, nil)
				if err != nil {
					t.Errorf("%v: client-go cannot read the list: %v", gvk, err)
					continue
				}
				v := reflect.ValueOf(list).Elem()
				got := v.FieldByName("ListMeta").Interface().(metav1.ListMeta)
				if !equality.Semantic.DeepEqual(got, meta) || v.FieldByName("Items").Len() != 2 {
					t.Errorf("%v as %s: %d items, metadata %+v", gvk, media, v.FieldByName("Items").Len(), got)
				}
				if media == object.JSON && strings.Count(b.String(), `"apiVersion":"`+gvk.GroupVersion().String()+`","metadata"`) != 1 {
					t.Errorf("%v: items repeat their kind: %s", gvk, b.String())
				}
			}
		}
	}
}

func TestStored(t *testing.T) {
	kinds := table()
	for _, k := range kinds.All() {
		obj := sample(k)
		data, err := object.Storage{}.Encode(k, obj)
		if err != nil || !bytes.HasPrefix(data, []byte("k8s\x00")) || obj.GetResourceVersion() != "7" {
			t.Errorf("%v: %q, %v", k, data, err)
			continue
		}
		back, err := object.Storage{}.Decode(k, data)
		if err != nil || back.GetResourceVersion() != "" || back.GetObjectKind().GroupVersionKind() != k.GVK {
			t.Errorf("%v came back as %+v, %v", k, back, err)
			continue
		}
		back.SetResourceVersion("7")
		if !equality.Semantic.DeepEqual(back, obj) {
			t.Errorf("%v came back as\n%+v\nwant\n%+v", k, back, obj)
		}
	}
	if _, err := (object.Storage{}).Decode(core.ConfigMap(), []byte("k8s\x00\xff")); err == nil {
		t.Error("garbage was decoded")
	}
}

func TestDecodeSaysWhatIsWrong(t *testing.T) {
	k := core.ConfigMap()
	c := object.Codec{Kinds: kind.NewTable([]*kind.Kind{k})}
	for _, it := range []struct{ media, body, want string }{
		{object.JSON, `{"apiVersion":"v1","kind":"ConfigMap",`, `: unexpected end of JSON input ({"apiVersion":"v1","kind":"Con ...)`},
		{object.Protobuf, ``, `: empty data (<empty>)`},
		{object.Protobuf, "k8s\x00", `: empty body`},
		{object.Protobuf, `x`, `: provided data does not appear to be a protobuf message, expected prefix [107 56 115 0] (78)`},
		{object.JSON, ``, `the object provided is unrecognized (must be of type ConfigMap): `},
		{object.JSON, `{"a`, `({"a)`},
		{object.JSON, `{"kind":"Pod","apiVersion":"v1"}`, `Pod in version "v1" cannot be handled as a ConfigMap`},
		{object.JSON, `{"apiVersion":"v2"}`, `the API version in the data (v2) does not match the expected API version (v1)`},
		{object.JSON, `{"data":{"a":"1","a":"2"}}`, `strict decoding error: duplicate field "data.a"`},
		{object.JSON, `{"dato":{},"metadata":{"nome":1}}`, `unknown field "dato", unknown field "metadata.nome"`},
		{object.YAML, "data:\n  a: x\n  a: z\n", `key "a" already set in map`},
		{object.YAML, "data: [", "did not find expected node content"},
		{object.Protobuf, "nothing", "does not appear to be a protobuf message"},
		{"text/plain", "x", "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"},
	} {
		_, err := c.Decode(k, k.GVK, []byte(it.body), it.media, object.Strict)
		if err == nil || !strings.Contains(err.Error(), it.want) {
			t.Errorf("%s %q: %v\nwant %s", it.media, it.body, err, it.want)
		}
	}
	if d, err := c.Decode(k, k.GVK, []byte(`{"x":1}`), object.JSON, object.Ignore); err != nil || len(d.Warnings) != 0 {
		t.Errorf("ignored: %v, %v", d.Warnings, err)
	}
}

func FuzzDecode(f *testing.F) {
	k := core.ConfigMap()
	c := object.Codec{Kinds: kind.NewTable([]*kind.Kind{k})}
	f.Add([]byte(`{"metadata":{"name":"a"},"data":{"a":"b"}}`), uint8(0))
	f.Add([]byte("data: {a: b}\n"), uint8(1))
	proto, err := c.Encode(nil, sample(k), object.Protobuf)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(proto, uint8(2))
	f.Fuzz(func(t *testing.T, data []byte, media uint8) {
		medias := []string{object.JSON, object.YAML, object.Protobuf}
		d, err := c.Decode(k, k.GVK, data, medias[int(media)%3], object.Warn)
		if err != nil {
			return
		}
		stored, err := object.Storage{}.Encode(k, d.Object)
		if err != nil {
			t.Fatalf("what was decoded cannot be stored: %v", err)
		}
		if _, err := (object.Storage{}).Decode(k, stored); err != nil {
			t.Fatalf("what was stored cannot be read: %v", err)
		}
	})
}

func FuzzPatch(f *testing.F) {
	k := core.Pod()
	c := object.Codec{Kinds: kind.NewTable([]*kind.Kind{k})}
	live := k.New()
	if err := json.Unmarshal([]byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","labels":{"x":"y"}},
		"spec":{"containers":[{"name":"c","image":"i","ports":[{"containerPort":80}]}]}}`), live); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"spec":{"containers":[{"name":"c","$patch":"delete"}],"$setElementOrder/containers":[{"name":"c"}]}}`), uint8(0))
	f.Add([]byte(`{"metadata":{"labels":null}}`), uint8(1))
	f.Add([]byte(`[{"op":"copy","from":"/spec","path":"/metadata/labels/x"}]`), uint8(2))
	pts := []types.PatchType{types.StrategicMergePatchType, types.MergePatchType, types.JSONPatchType}
	before := live.DeepCopyObject()
	f.Fuzz(func(t *testing.T, patch []byte, pt uint8) {
		if _, _, err := c.Patch(k, k.GVK, live, pts[int(pt)%3], patch, object.Warn); err == nil && !equality.Semantic.DeepEqual(live, before) {
			t.Fatal("the patched object is shared and was written to")
		}
	})
}

// Every list of k8s.io/api has its metadata in field 1 and its items in 2.
func TestListsHaveTheSameFieldNumbers(t *testing.T) {
	for gvk, typ := range scheme.Scheme.AllKnownTypes() {
		items, ok := typ.FieldByName("Items")
		if !ok || !strings.HasPrefix(typ.PkgPath(), "k8s.io/api/") || items.Tag.Get("protobuf") == "" {
			continue
		}
		meta, _ := typ.FieldByName("ListMeta")
		if !strings.HasPrefix(meta.Tag.Get("protobuf"), "bytes,1,") || !strings.HasPrefix(items.Tag.Get("protobuf"), "bytes,2,") {
			t.Errorf("%v: metadata %s, items %s", gvk, meta.Tag, items.Tag)
		}
	}
}

func TestOptionsComeInAnyVersion(t *testing.T) {
	seconds := int64(7)
	given := &metav1.DeleteOptions{GracePeriodSeconds: &seconds}
	raw, err := given.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	wrap := func(apiVersion, kind string) []byte {
		u := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: apiVersion, Kind: kind}, Raw: raw}
		body, err := u.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return append([]byte{0x6b, 0x38, 0x73, 0x00}, body...)
	}
	for _, c := range []struct {
		it, mediaType string
		body          []byte
		fails         bool
	}{
		{it: "takes those of a group's typed client", mediaType: object.Protobuf, body: wrap("apps/v1", "DeleteOptions")},
		{it: "takes the core's", mediaType: object.Protobuf, body: wrap("v1", "DeleteOptions")},
		{it: "takes JSON of any group", mediaType: object.JSON, body: []byte(`{"apiVersion":"apps/v1","kind":"DeleteOptions","gracePeriodSeconds":7}`)},
		{it: "takes what has no version", mediaType: object.JSON, body: []byte(`{"gracePeriodSeconds":7}`)},
		{it: "takes nothing else for options", mediaType: object.Protobuf, body: wrap("v1", "Pod"), fails: true},
	} {
		got := &metav1.DeleteOptions{}
		err := object.DecodeOptions(got, "DeleteOptions", c.body, c.mediaType)
		if (err != nil) != c.fails {
			t.Errorf("it %s: %v", c.it, err)
		} else if err == nil && (got.GracePeriodSeconds == nil || *got.GracePeriodSeconds != 7) {
			t.Errorf("it %s: got %v", c.it, got)
		}
	}
}

func TestObjectStoredInAVersionThatIsNotServedIsRead(t *testing.T) {
	k := apiextensions.CustomResourceDefinition()
	obj, err := object.Storage{}.Decode(k, []byte(`{"apiVersion":"apiextensions.k8s.io/v1beta1","kind":"CustomResourceDefinition","metadata":{"name":"a"},`+
		`"spec":{"group":"example.com","version":"v1","names":{"plural":"a","kind":"A"},"scope":"Cluster"}}`))
	if err != nil {
		t.Fatal(err)
	}
	d, ok := obj.(*apiextensionsv1.CustomResourceDefinition)
	if !ok || d.APIVersion != "apiextensions.k8s.io/v1" || len(d.Spec.Versions) != 1 || d.Spec.Names.ListKind != "AList" {
		t.Errorf("read %+v", obj)
	}
	again, err := object.Storage{}.Encode(k, obj)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := (object.Storage{}).Decode(k, again); err != nil || got.GetName() != "a" {
		t.Errorf("stored in v1 it is %v (%v)", got, err)
	}
}
