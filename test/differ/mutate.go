package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// mutator changes valid objects in one place, mostly for the worse.
type mutator struct {
	api  *api
	rand *rand.Rand
}

func pick[T any](r *rand.Rand, all ...T) T { return all[r.IntN(len(all))] }

// chance is true once in n times.
func (m mutator) chance(n int) bool { return m.rand.IntN(n) == 0 }

// object changes one place of an object, and says which.
func (m mutator) object(obj map[string]any, s *schema) string {
	s = m.api.resolve(s)
	for {
		var name string
		switch n := m.rand.IntN(20); {
		case n == 0:
			return m.field(obj, "metadata", s.Properties["metadata"], "metadata")
		case n == 1:
			return m.metadata(obj)
		case n == 2:
			name = pick(m.rand, "status", "apiVersion", "kind")
		case n == 3:
			obj["bogus"] = pick[any](m.rand, json1(), "x", nil)
			return "unknown field bogus"
		default:
			names := slices.Sorted(maps.Keys(s.Properties))
			name = pick(m.rand, names...)
			if name == "metadata" || name == "status" || name == "apiVersion" || name == "kind" {
				continue
			}
			if _, ok := obj[name]; !ok && !m.chance(3) {
				continue
			}
		}
		if name == "" || s.Properties[name] == nil {
			continue
		}
		return m.field(obj, name, s.Properties[name], name)
	}
}

func json1() map[string]any { return map[string]any{"a": 1} }

// metadata sets a field of the metadata to something odd.
func (m mutator) metadata(obj map[string]any) string {
	meta, ok := obj["metadata"].(map[string]any)
	if !ok {
		return "nothing"
	}
	name := pick(m.rand, "name", "generateName", "namespace", "labels", "annotations", "finalizers", "ownerReferences", "deletionTimestamp",
		"deletionGracePeriodSeconds", "uid", "resourceVersion", "generation", "selfLink", "managedFields", "creationTimestamp")
	odd := map[string][]any{
		"name":         {"", "UPPER", "a_b", "a..b", strings.Repeat("a", 254), strings.Repeat("a", 64), "a/b", "..", "%", nil, 5, "1-2.3", "ü", "a:b"},
		"generateName": {"gen-", "GEN", strings.Repeat("a", 260), "a/b"},
		"namespace":    {"other", "", "UPPER", 5},
		"labels":       {map[string]any{"a b": "c"}, map[string]any{"a": "b c"}, map[string]any{"a": strings.Repeat("v", 64)}, map[string]any{"x/y/z": ""}, map[string]any{"a": 1}, map[string]any{"A.b/c": "d"}, map[string]any{"": "x"}, []any{}},
		"annotations":  {map[string]any{"a b": "c"}, map[string]any{"a": strings.Repeat("v", 263000)}, map[string]any{"UP.per/X": "c"}, map[string]any{"a": nil}, map[string]any{"": ""}},
		"finalizers":   {[]any{"a"}, []any{"example.com/a"}, []any{"a/b/c"}, []any{""}, []any{"foregroundDeletion", "orphan"}, []any{"example.com/a", "example.com/a"}, "x", []any{"kubernetes"}},
		"ownerReferences": {[]any{map[string]any{}}, []any{map[string]any{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}},
			[]any{map[string]any{"apiVersion": "v1", "kind": "Event", "name": "p", "uid": "u"}},
			[]any{map[string]any{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}, map[string]any{"apiVersion": "v1", "kind": "Pod", "name": "q", "uid": "v", "controller": true}},
			[]any{map[string]any{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}, map[string]any{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}},
			[]any{map[string]any{"apiVersion": "a/b/c", "kind": "Pod", "name": "p", "uid": "u", "blockOwnerDeletion": true}}},
		"deletionTimestamp": {"2020-01-01T00:00:00Z", "x"}, "deletionGracePeriodSeconds": {0, -1, "x"},
		"uid": {"abc", "", 5}, "resourceVersion": {"1", "x", "", "0", 5}, "generation": {7, -1}, "selfLink": {"/x"},
		"managedFields": {[]any{}, []any{map[string]any{}}, nil, []any{map[string]any{"manager": "m", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": map[string]any{"f:data": map[string]any{}}}},
			[]any{map[string]any{"manager": "m", "operation": "Odd", "apiVersion": "v1", "fieldsType": "FieldsV1"}}, []any{map[string]any{"manager": "m", "operation": "Apply", "apiVersion": "v1", "fieldsType": "X"}}},
		"creationTimestamp": {"2020-01-01T00:00:00Z", "yesterday", nil},
	}
	meta[name] = pick(m.rand, odd[name]...)
	if name == "generateName" && !m.chance(4) {
		delete(meta, "name")
	}
	return fmt.Sprintf("metadata.%s = %.60s", name, show(meta[name]))
}

// field changes a field of an object, or something below it.
func (m mutator) field(obj map[string]any, name string, s *schema, at string) string {
	v, ok := obj[name]
	switch {
	case !ok:
		obj[name] = m.make(s, name, 2)
	case m.chance(9):
		delete(obj, name)
		return at + " removed"
	case m.chance(30):
		obj[name] = nil
	default:
		below := ""
		obj[name], below = m.value(v, s, name, at)
		return below
	}
	return fmt.Sprintf("%s = %.80s", at, show(obj[name]))
}

// value changes a value, or something below it.
func (m mutator) value(v any, of *schema, name, at string) (any, string) {
	s := m.api.resolve(of)
	said := func(v any) (any, string) { return v, fmt.Sprintf("%s = %.80s", at, show(v)) }
	switch v := v.(type) {
	case map[string]any:
		if m.chance(25) {
			return said(pick[any](m.rand, "x", []any{}, 1, map[string]any{}, map[string]any{"bogus": 1}))
		}
		if len(s.Properties) > 0 {
			names := slices.Sorted(maps.Keys(s.Properties))
			if have := slices.Sorted(maps.Keys(v)); len(have) > 0 && !m.chance(3) {
				names = have
			}
			field := pick(m.rand, names...)
			return v, m.field(v, field, s.Properties[field], at+"."+field)
		}
		if m.chance(2) && len(v) > 0 {
			key := pick(m.rand, slices.Sorted(maps.Keys(v))...)
			var below string
			v[key], below = m.value(v[key], s.Additional, key, at+"."+key)
			return v, below
		}
		v[pick(m.rand, "new", "a b", "", "UP", "a/b/c", strings.Repeat("k", 64), "kubernetes.io/x", "..", "cpu", "example.com/x")] = m.make(s.Additional, "", 1)
		return said(v)
	case []any:
		switch n := m.rand.IntN(10); {
		case n == 0:
			return said([]any{})
		case n == 1 && len(v) > 0:
			return said(append(v, clone(v[0])))
		case n == 2:
			return said(append(v, m.make(s.Items, strings.TrimSuffix(name, "s"), 2)))
		case n == 3:
			return said(append(v, pick[any](m.rand, nil, "x", 5, map[string]any{})))
		case n == 4:
			return said(pick[any](m.rand, "x", map[string]any{}, 3))
		case len(v) > 0:
			i := m.rand.IntN(len(v))
			var below string
			v[i], below = m.value(v[i], s.Items, name, fmt.Sprintf("%s[%d]", at, i))
			return v, below
		}
		return said([]any{m.make(s.Items, name, 2)})
	}
	return said(m.odd(of, name))
}

// odd is a value for a field that is a leaf: of the wrong type, out of range,
// misspelt, or plausible.
func (m mutator) odd(of *schema, name string) any {
	s := m.api.resolve(of)
	if m.chance(10) {
		return pick[any](m.rand, "x", 5, true, []any{}, map[string]any{}, 1.5)
	}
	switch {
	case refersTo(of, ".Quantity"):
		return pick[any](m.rand, "-1", "0", "abc", "1.5", "100m", "1e3", "1Ei", "1Pi", 3, "", "9999999999999999999Ei", "0.1m", "1Gi")
	case refersTo(of, ".IntOrString"):
		return pick[any](m.rand, -1, 0, 1, 65536, "x", "50%", "150%", "-5%", "", "http", strings.Repeat("a", 16), "a_b")
	case s.Type == "boolean":
		return pick[any](m.rand, true, false, true, false, "true", nil)
	case s.Type == "integer" || s.Type == "number":
		return pick[any](m.rand, -1, 0, 1, 2, 100, 65536, 2147483647, 2147483648, int64(1)<<62, 1.5, "7", 86401)
	case len(s.Enum) > 0 && m.chance(2):
		return pick(m.rand, s.Enum...)
	case s.Format == "date-time":
		return pick[any](m.rand, "2026-01-01T00:00:00Z", "2026-01-01", "x", "", "2026-01-01T00:00:00.123456Z", "2026-01-01T02:00:00+02:00")
	case s.Format == "byte":
		return pick[any](m.rand, "dg==", "%", "", "d")
	}
	return m.word(name)
}

func (m mutator) word(name string) string {
	return pick(m.rand, "", "x", "Bad_Name!", "UPPER", "a..b", "-a", "a/b", "a/b/c", strings.Repeat("a", 64), strings.Repeat("a", 254), "ü", " ", "a b", "1", "10.0.0.1", "::1", "fe80::1", "127.0.0.1",
		"10.0.0.0/8", "2001:db8::/32", "https://a.example.com/p", "/abs/path", "../up", "a.b.c", "example.com/x", "metadata.name", "status.podIP", "0", "None", "Always", "v1", name)
}

// make makes a value for a field that was not set.
func (m mutator) make(of *schema, name string, depth int) any {
	s := m.api.resolve(of)
	switch {
	case refersTo(of, ".Quantity"), refersTo(of, ".IntOrString"), s.Type == "boolean", s.Type == "integer", s.Type == "number":
		return m.odd(of, name)
	case s.Type == "string" && len(s.Enum) > 0 && !m.chance(8):
		return pick(m.rand, s.Enum...)
	case s.Type == "string":
		return m.odd(of, name)
	case s.Type == "array":
		if m.chance(8) {
			return []any{}
		}
		list := []any{}
		for range 1 + m.rand.IntN(2) {
			list = append(list, m.make(s.Items, strings.TrimSuffix(name, "s"), depth))
		}
		return list
	case len(s.Properties) > 0:
		obj := map[string]any{}
		names := slices.Sorted(maps.Keys(s.Properties))
		for _, field := range names {
			needed := slices.Contains(s.Required, field)
			if needed && !m.chance(12) || depth > 0 && !needed && m.rand.IntN(len(names)) < 2 {
				obj[field] = m.make(s.Properties[field], field, depth-1)
			}
		}
		return obj
	case s.Additional != nil:
		return map[string]any{pick(m.rand, "a", "b", "a b", "cpu", "memory", "example.com/x"): m.make(s.Additional, "", depth-1)}
	}
	return pick[any](m.rand, "x", 1, map[string]any{"a": 1})
}

// clone copies a JSON value.
func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, field := range v {
			out[name] = clone(field)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = clone(v[i])
		}
		return out
	}
	return v
}
