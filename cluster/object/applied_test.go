package object_test

import (
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/object"
)

// What is JSON is read without the detour over YAML, and is the same.
func TestAppliedJSONIsWhatItIsAsYAML(t *testing.T) {
	gvk := corev1.SchemeGroupVersion.WithKind("ConfigMap")
	for _, tc := range []struct{ it, json, yaml string }{
		{"keeps text, numbers and nothing", `{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"1","b":"<\u00fc\n\"\\>","m":-9007199254740992,"x":null,"l":[1,"2",true]}}`,
			"{apiVersion: v1, kind: ConfigMap, data: {a: '1', b: \"<\u00fc\\n\\\"\\\\>\", m: -9007199254740992, x: null, l: [1, '2', true]}}"},
		{"keeps fractions", `{"apiVersion":"v1","kind":"ConfigMap","data":{"f":1.5,"g":2.0,"h":1e3}}`,
			"apiVersion: v1\nkind: ConfigMap\ndata: {f: 1.5, g: 2.0, h: 1e3}"},
		{"rounds what is longer than others read", `{"apiVersion":"v1","kind":"ConfigMap","data":{"m":9007199254740993}}`,
			"apiVersion: v1\nkind: ConfigMap\ndata: {m: 9007199254740993}"},
		{"may have space around", "\n {\"apiVersion\":\"v1\",\n\"kind\":\"ConfigMap\"} \n", "apiVersion: v1\nkind: ConfigMap"},
	} {
		a, _, err := object.Applied(gvk, []byte(tc.json), object.Strict)
		if err != nil {
			t.Errorf("%s: %v", tc.it, err)
			continue
		}
		b, _, err := object.Applied(gvk, []byte(tc.yaml), object.Strict)
		if err != nil || !reflect.DeepEqual(a.Object, b.Object) {
			t.Errorf("%s: %v\nas YAML %v, %v", tc.it, a, b, err)
		}
	}
	for _, tc := range []struct{ it, json, want string }{
		{"of another kind is refused", `{"apiVersion":"v1","kind":"Secret"}`, "invalid object type: /v1, Kind=Secret"},
		{"of another version is refused", `{"apiVersion":"v2","kind":"ConfigMap"}`, "invalid object type: /v2, Kind=ConfigMap"},
		{"without a kind is refused", `{"apiVersion":"v1"}`, "invalid object type: /v1, Kind="},
		{"with a key twice is refused", `{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"1","a":"2"}}`,
			"error strict decoding patch: error converting YAML to JSON: yaml: unmarshal errors:\n  line 1: key \"a\" already set in map"},
	} {
		if _, _, err := object.Applied(gvk, []byte(tc.json), object.Strict); err == nil || err.Error() != tc.want {
			t.Errorf("what is JSON %s: %v", tc.it, err)
		}
	}
	_, warnings, err := object.Applied(gvk, []byte(`{"apiVersion":"v1","kind":"ConfigMap","data":{"a":"1","a":"2"}}`), object.Warn)
	if err != nil || len(warnings) != 1 {
		t.Errorf("a key twice: %v, %v", warnings, err)
	}
}

// A whole number that a float64 holds is that number, whichever text is the
// shortest that reads as the same float64.
func TestAppliedNumbersAreWhatAFloatHolds(t *testing.T) {
	gvk := corev1.SchemeGroupVersion.WithKind("ConfigMap")
	u, _, err := object.Applied(gvk, []byte(`{"apiVersion":"v1","kind":"ConfigMap","data":{"n":4611686018427387904,"l":[-9223372036854775808],"most":9223372036854775807,"f":0.5}}`), object.Strict)
	want := map[string]any{"n": int64(1 << 62), "l": []any{int64(-1 << 63)}, "most": float64(1 << 63), "f": 0.5}
	if err != nil || !reflect.DeepEqual(u.Object["data"], want) {
		t.Errorf("%#v, %v\nwant %#v", u, err, want)
	}
}
