package main

import (
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

const (
	jsonType   = "application/json"
	yamlType   = "application/yaml"
	jsonPatch  = "application/json-patch+json"
	mergePatch = "application/merge-patch+json"
	strategic  = "application/strategic-merge-patch+json"
	applyPatch = "application/apply-patch+yaml"
	tableType  = "application/json;as=Table;v=v1;g=meta.k8s.io"
	partial    = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
	partials   = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
)

// scenario is a way to make a case of a valid object.
type scenario struct {
	name   string
	weight int // how many of all cases
	make   func(*maker)
}

// maker makes one case.
type maker struct {
	mutator
	*trial
	seed      *seed
	namespace string
	obj       map[string]any
	name      string
}

// wary is true for kinds whose objects change how a server answers to all
// others: they are only tried, not kept, once they are changed.
func (m *maker) wary() bool {
	switch m.seed.resource.group {
	case "admissionregistration.k8s.io", "flowcontrol.apiserver.k8s.io", "apiregistration.k8s.io", "apiextensions.k8s.io":
		return true
	}
	return m.seed.resource.kind == "ServiceCIDR"
}

// list is the path of all objects of the kind (in the case's namespace).
func (m *maker) list() string {
	r := m.seed.resource
	if !r.namespaced {
		return r.base() + "/" + r.plural
	}
	return r.base() + "/namespaces/" + m.namespace + "/" + r.plural
}

func (m *maker) path() string { return m.list() + "/" + url.PathEscape(m.name) }

func (m *maker) add(needs bool, q request) {
	on := q.method
	if m.seed != nil {
		on += " " + m.seed.resource.plural
		if rest, ok := strings.CutPrefix(q.path, m.path()+"/"); ok {
			on += "/" + rest
		}
		if m.seed.resource.group == "events.k8s.io" || m.seed.resource.version == "v1" && m.seed.resource.group == "autoscaling" {
			on += "." + m.seed.resource.group
		}
	}
	m.steps = append(m.steps, step{q, on, needs})
}

func encode(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // it was made of JSON
	}
	return string(data)
}

func contentType(t string) map[string]string { return map[string]string{"Content-Type": t} }

// create is the valid object.
func (m *maker) create() {
	m.made = append(m.made, m.path())
	m.add(true, request{method: "POST", path: m.list(), body: encode(m.obj), header: contentType(jsonType)})
}

func (m *maker) read(accept string) {
	m.add(false, request{method: "GET", path: m.path(), header: map[string]string{"Accept": accept}})
}

// query joins parameters, of which empty ones are left out.
func query(all ...string) string {
	return strings.Join(slices.DeleteFunc(all, func(s string) bool { return s == "" }), "&")
}

func (m *maker) strictness() string {
	return pick(m.rand, "", "", "fieldValidation=Strict", "fieldValidation=Warn", "fieldValidation=Ignore")
}

func (m *maker) dry() string {
	if m.wary() || m.chance(8) {
		return "dryRun=All"
	}
	return ""
}

// change changes the object in one place or two.
func (m *maker) change() {
	said := m.object(m.obj, m.seed.schema)
	if m.chance(4) {
		said += "; " + m.object(m.obj, m.seed.schema)
	}
	m.title += ": " + said
}

func scenarios() []scenario {
	return []scenario{
		{"create changed", 40, func(m *maker) {
			m.change()
			m.made = append(m.made, m.path(), m.list()+"/$NAME")
			q := request{method: "POST", path: m.list(), query: query(m.strictness(), m.dry()), body: encode(m.obj), header: contentType(jsonType)}
			if m.chance(10) {
				text, err := yaml.Marshal(m.obj)
				if err == nil {
					q.body, q.header = string(text), contentType(yamlType)
				}
			}
			m.add(true, q)
			if meta, ok := m.obj["metadata"].(map[string]any); ok && meta["name"] == m.name {
				m.read(tableType)
			}
		}},
		{"update", 25, func(m *maker) {
			m.create()
			m.change()
			if meta, ok := m.obj["metadata"].(map[string]any); ok && !m.chance(4) {
				if _, ok := meta["resourceVersion"]; !ok {
					meta["resourceVersion"] = pick(m.rand, "$RV", "$RV", "$RV", "$RV", "1")
				}
			}
			m.add(false, request{method: "PUT", path: m.path(), query: query(m.strictness(), m.dry()), body: encode(m.obj), header: contentType(jsonType)})
			m.read(pick(m.rand, tableType, partial, jsonType))
		}},
		{"merge patch", 12, func(m *maker) {
			m.create()
			m.change()
			m.add(false, request{method: "PATCH", path: m.path(), query: query(m.strictness(), m.dry()), body: encode(m.obj),
				header: contentType(pick(m.rand, mergePatch, strategic))})
		}},
		{"JSON patch", 6, func(m *maker) {
			m.create()
			m.add(false, request{method: "PATCH", path: m.path(), query: query(m.strictness(), m.dry()), body: m.operations(), header: contentType(jsonPatch)})
		}},
		{"apply", 14, func(m *maker) {
			m.made = append(m.made, m.path())
			m.applied("one", "")
			m.change()
			m.applied(pick(m.rand, "one", "two", "two"), pick(m.rand, "", "force=true", "force=false"))
			m.read(jsonType)
		}},
		{"apply over create", 5, func(m *maker) {
			m.create()
			m.change()
			m.applied("two", pick(m.rand, "", "force=true"))
		}},
		{"delete", 8, func(m *maker) { m.deletes() }},
		{"list", 8, func(m *maker) { m.lists() }},
		{"watch", 3, func(m *maker) { m.watches() }},
		{"subresource", 14, func(m *maker) { m.subresources() }},
		{"odd request", 10, func(m *maker) { m.odds() }},
	}
}

// applied is a server-side apply of the object.
func (m *maker) applied(manager, force string) {
	dry := ""
	if m.wary() && len(m.steps) > 0 {
		dry = "dryRun=All"
	}
	m.add(len(m.steps) == 0, request{method: "PATCH", path: m.path(), query: query("fieldManager="+manager, force, dry), body: encode(m.obj), header: contentType(applyPatch)})
}

// operations is a JSON patch, mostly a possible one.
func (m *maker) operations() string {
	at := m.somewhere()
	value := pick[any](m.rand, "x", 1, nil, map[string]any{}, []any{})
	op := pick(m.rand,
		map[string]any{"op": "add", "path": at, "value": value},
		map[string]any{"op": "replace", "path": at, "value": value},
		map[string]any{"op": "remove", "path": at},
		map[string]any{"op": "test", "path": at, "value": value},
		map[string]any{"op": "copy", "from": at, "path": "/metadata/annotations"},
		map[string]any{"op": "move", "from": at, "path": "/metadata/labels/moved"},
		map[string]any{"op": "add", "path": "/metadata/labels/new", "value": "v"},
		map[string]any{"op": "add", "path": "/metadata/labels/case", "value": "v v"},
		map[string]any{"op": "odd", "path": at},
		map[string]any{"op": "add", "path": "nowhere", "value": 1},
		map[string]any{"op": "replace", "path": "/metadata/nothing/here", "value": 1},
		map[string]any{"op": "remove", "path": "/metadata/nothing"},
		map[string]any{"op": "test", "path": "/metadata/name", "value": m.name},
		map[string]any{"path": at})
	if m.chance(12) {
		return pick(m.rand, "{}", "[]", "x", "null", `[{"op":"add"}]`, `[1]`)
	}
	return encode([]any{op})
}

// somewhere is a JSON pointer to a place in the object.
func (m *maker) somewhere() string {
	at, v := "", any(m.obj)
	for range 1 + m.rand.IntN(5) {
		switch x := v.(type) {
		case map[string]any:
			if len(x) == 0 {
				return at
			}
			key := pick(m.rand, slices.Sorted(maps.Keys(x))...)
			at += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
			v = x[key]
		case []any:
			if len(x) == 0 || m.chance(4) {
				return at + pick(m.rand, "/-", "/7", "/x")
			}
			at += "/0"
			v = x[0]
		default:
			return at
		}
	}
	return at
}
