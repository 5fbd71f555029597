package object

import (
	"encoding/json"
	"reflect"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"sampan/cluster/kind"
)

// Most patches name a few fields and give them plain values. They are made on a
// copy of the object: as text, all of it would be written, parsed twice, and
// read again, for three times what the rest of a patch costs. What is not as
// simple as that, mistakes first of all, is left to the long way, so that there
// is one place that says what is wrong.

// patched makes next, an empty object, what current is after a merge patch or a
// strategic one, if that is simple. False: it is not, and next is as it was.
func patched(next, current runtime.Object, pt types.PatchType, patch []byte) bool {
	if _, ok := next.(runtime.Unstructured); ok {
		return false
	}
	to, from := reflect.ValueOf(next), reflect.ValueOf(current)
	if to.Type() != from.Type() || to.Kind() != reflect.Pointer || to.Elem().Kind() != reflect.Struct {
		return false
	}
	var changes map[string]any
	if strict, err := kjson.UnmarshalStrict(patch, &changes); err != nil || len(strict) > 0 || changes == nil {
		return false
	}
	made := copied(current)
	m := merging{strategic: pt == types.StrategicMergePatchType}
	if !m.members(reflect.ValueOf(made).Elem(), changes) ||
		made.GetObjectKind().GroupVersionKind() != current.GetObjectKind().GroupVersionKind() {
		return false
	}
	to.Elem().Set(reflect.ValueOf(made).Elem())
	return true
}

// copied is a copy of obj that shares the record of its owners, which is never
// changed but replaced, and is as large as a small object.
func copied(obj runtime.Object) runtime.Object {
	whole, ok := obj.(kind.Object)
	if !ok || len(whole.GetManagedFields()) == 0 {
		return obj.DeepCopyObject()
	}
	rest := shallow(whole).Interface().(kind.Object)
	rest.SetManagedFields(nil)
	made := rest.DeepCopyObject().(kind.Object)
	made.SetManagedFields(whole.GetManagedFields())
	return made
}

// merging changes Go values as a patch says. Its methods return false for what
// is not simple; then values may be half changed.
type merging struct{ strategic bool }

// members changes fields of the struct v.
func (m merging) members(v reflect.Value, changes map[string]any) bool {
	fields := value.TypeReflectEntryOf(v.Type()).Fields()
	for name, change := range changes {
		field, ok := fields[name]
		if !ok || m.strategic && strategy(v.Type(), name) != "" {
			return false
		}
		if !m.member(field.GetFrom(v), change) {
			return false
		}
	}
	return true
}

// strategy is what the tag of a field says of strategic merge patches.
func strategy(t reflect.Type, name string) string {
	for i := range t.NumField() {
		f := t.Field(i)
		switch tag, more, _ := strings.Cut(f.Tag.Get("json"), ","); {
		case tag == name:
			return f.Tag.Get("patchStrategy")
		case f.Anonymous && more == "inline" && f.Type.Kind() == reflect.Struct:
			if s := strategy(f.Type, name); s != "" {
				return s
			}
		}
	}
	return ""
}

// member changes a field or an element of a map. v can be set.
func (m merging) member(v reflect.Value, change any) bool {
	if !v.CanSet() {
		return false
	}
	changes, isObject := change.(map[string]any)
	switch t := v.Type(); {
	case change == nil:
		v.SetZero()
		return true
	case !isObject:
		return replace(v, change)
	case t.Kind() == reflect.Struct && !readsItself(t):
		return m.members(v, changes)
	case t.Kind() == reflect.Map && !readsItself(t):
		return m.entries(v, changes)
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct && !readsItself(t.Elem()):
		if v.IsNil() {
			v.Set(reflect.New(t.Elem()))
		}
		return m.members(v.Elem(), changes)
	}
	return false
}

// entries changes the map v.
func (m merging) entries(v reflect.Value, changes map[string]any) bool {
	t := v.Type()
	if t.Key().Kind() != reflect.String || readsItself(t.Key()) {
		return false
	}
	if m.strategic {
		for key := range changes {
			if strings.HasPrefix(key, "$") { // an order to the patch, not a key
				return false
			}
		}
	}
	if v.IsNil() {
		v.Set(reflect.MakeMapWithSize(t, len(changes)))
	}
	for key, change := range changes {
		k := reflect.ValueOf(key).Convert(t.Key())
		if change == nil {
			v.SetMapIndex(k, reflect.Value{})
			continue
		}
		e := reflect.New(t.Elem()).Elem()
		if old := v.MapIndex(k); old.IsValid() {
			e.Set(old)
		}
		if !m.member(e, change) {
			return false
		}
		v.SetMapIndex(k, e)
	}
	return true
}

// replace sets v to a value that is no object. What it was is gone.
func replace(v reflect.Value, to any) bool {
	if text, ok := to.(string); ok && v.Kind() == reflect.String && !readsItself(v.Type()) {
		v.SetString(text)
		return true
	}
	if !plainValue(to) {
		return false
	}
	data, err := json.Marshal(to)
	if err != nil {
		return false
	}
	fresh := reflect.New(v.Type())
	if strict, err := kjson.UnmarshalStrict(data, fresh.Interface()); err != nil || len(strict) > 0 {
		return false
	}
	v.Set(fresh.Elem())
	return true
}

// plainValue is false for what does not survive being written and read again
// unchanged, or means something of its own to a patch.
func plainValue(v any) bool {
	switch v := v.(type) {
	case nil, float64:
		return false
	case []any:
		for _, e := range v {
			if !plainValue(e) {
				return false
			}
		}
	case map[string]any:
		for key, e := range v {
			if strings.HasPrefix(key, "$") || !plainValue(e) {
				return false
			}
		}
	}
	return true
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// readsItself says whether values of t have a form of their own in JSON.
func readsItself(t reflect.Type) bool {
	return reflect.PointerTo(t).Implements(unmarshaler)
}
