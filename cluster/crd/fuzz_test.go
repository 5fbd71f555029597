package crd_test

import (
	"encoding/json"
	"reflect"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"sampan/cluster/crd"
	"sampan/cluster/kind/apiextensions"
)

// Whatever schema the rules of definitions let through, and whatever object
// comes along, nothing panics; and an object that was settled and defaulted is
// settled.
func FuzzObjectMeetsSchema(f *testing.F) {
	const object = `{"metadata":{"name":"a","labels":{"a":"b"}},"spec":{"a":1,"b":["x",null,{"c":{}}]},"status":null}`
	for _, schema := range []string{
		`{"type":"object"}`,
		`{"type":"object","x-kubernetes-preserve-unknown-fields":true}`,
		`{"type":"object","properties":{"spec":{"type":"object","properties":{"a":{"type":"integer","default":3},"b":{"type":"array","x-kubernetes-list-type":"set","items":{"type":"string"}}}}}}`,
		`{"type":"object","properties":{"spec":{"type":"object","x-kubernetes-embedded-resource":true,"x-kubernetes-preserve-unknown-fields":true},"status":{"type":"object","nullable":true,"additionalProperties":{"type":"string"}}}}`,
		`{"type":"object","properties":{"spec":{"type":"object","properties":{"a":{"x-kubernetes-int-or-string":true}},"x-kubernetes-validations":[{"rule":"has(self.a)"}]}}}`,
	} {
		f.Add(schema, object)
	}
	f.Fuzz(func(t *testing.T, schema, text string) {
		d := read(t, `versions: [{name: v1, served: true, storage: true, subresources: {status: {}}, schema: {openAPIV3Schema: {type: object}}}]`)
		props := &apiextensionsv1.JSONSchemaProps{}
		if json.Unmarshal([]byte(schema), props) != nil {
			return
		}
		d.Spec.Versions[0].Schema.OpenAPIV3Schema = props
		kind := apiextensions.CustomResourceDefinition()
		kind.Default(d)
		if len(kind.Validate(d, nil)) > 0 {
			return
		}
		k, err := crd.Compile(d, nil)
		if err != nil {
			t.Fatalf("a valid definition is not compiled: %v", err)
		}
		var content map[string]any
		if json.Unmarshal([]byte(text), &content) != nil || content == nil {
			return
		}
		u := &unstructured.Unstructured{Object: runtime.DeepCopyJSON(whole(content).(map[string]any))}
		u.SetGroupVersionKind(k.GVK)
		if _, err := k.Custom.Settle(u, true, true); err != nil {
			return
		}
		k.Default(u)
		once := u.DeepCopy()
		if _, err := k.Custom.Settle(u, false, true); err != nil {
			t.Fatalf("what was settled is refused: %v", err)
		}
		k.Default(u)
		if !reflect.DeepEqual(once, u) {
			t.Errorf("settled once\n%v\ntwice\n%v", once, u)
		}
		k.Validate(u, nil)
		k.Validate(u, once)
		k.Parts["status"].Validate(u, once)
		for _, v2 := range []bool{false, true} {
			if _, err := k.Custom.Schema(v2); err != nil {
				t.Errorf("the schema cannot be published: %v", err)
			}
		}
	})
}

// whole makes numbers without a fraction int64, as the API decodes them.
func whole(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name := range v {
			v[name] = whole(v[name])
		}
	case []any:
		for i := range v {
			v[i] = whole(v[i])
		}
	case float64:
		if n := int64(v); float64(n) == v {
			return n
		}
	}
	return v
}
