package object_test

import (
	"encoding/json"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/kind"
	"sampan/cluster/object"
)

// crontabs is a kind declared at run time, stored as v1, whose versions have
// different defaults.
func crontabs() *kind.Kind {
	v1 := schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "CronTab"}
	v2 := v1.GroupKind().WithVersion("v2")
	defaults := map[string][2]string{"v1": {"b", "old"}, "v2": {"c", "new"}}
	k := &kind.Kind{GVK: v1, Plural: "crontabs", Singular: "crontab", Prefix: "example.com/crontabs",
		New: func() kind.Object {
			u := &unstructured.Unstructured{Object: map[string]any{}}
			u.SetGroupVersionKind(v1)
			return u
		},
		Default: func(obj kind.Object) {
			u := obj.(*unstructured.Unstructured)
			if field := defaults[u.GroupVersionKind().Version]; u.Object[field[0]] == nil {
				u.Object[field[0]] = field[1]
			}
		}}
	k.Custom = &kind.Custom{Faces: []*kind.Kind{k}, Versions: []schema.GroupVersionKind{v1, v2}, Storage: v1, Kept: &sync.Map{}, Told: &sync.Map{},
		Settle: func(obj kind.Object, _, _ bool) ([]string, error) {
			if u := obj.(*unstructured.Unstructured); u.GroupVersionKind() == v1 {
				delete(u.Object, "c") // v1 has no such field
			}
			return nil, nil
		},
		Convert: func(objs []kind.Object, to schema.GroupVersionKind) (all []kind.Object, err error) {
			for _, obj := range objs {
				u := obj.(*unstructured.Unstructured)
				if u.GroupVersionKind() != to {
					u = u.DeepCopy()
					u.SetGroupVersionKind(to)
					delete(u.Object, "c")
				}
				all = append(all, u)
			}
			return all, nil
		}}
	return k
}

// What a write hands to the store is what the store would read: an object made
// in another version has the defaults of the one stored.
func TestAnObjectIsStoredWithTheDefaultsOfTheVersionStored(t *testing.T) {
	k := crontabs()
	u := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "example.com/v2", "kind": "CronTab",
		"metadata": map[string]any{"name": "a", "generation": int64(1)}, "a": "x", "c": "y"}}
	stored, err := object.ToStore(k, u)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(stored)
	if want := `{"a":"x","apiVersion":"example.com/v1","b":"old","kind":"CronTab","metadata":{"generation":1,"name":"a"}}`; string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	again, err := object.Storage{}.Decode(k, text)
	if err != nil {
		t.Fatal(err)
	}
	if read, _ := json.Marshal(again); string(read) != string(text) {
		t.Errorf("read as %s", read)
	}
}
