package schema

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"weak"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// HashV2 changes whenever the document of OpenAPIV2 does. It makes no document.
func (s *Schemas) HashV2() string {
	h := sha256.New()
	groups := s.groups()
	for _, gv := range sortedGroups(groups) {
		fmt.Fprintln(h, gv, digest(gv, groups[gv]))
	}
	return hex.EncodeToString(h.Sum(nil))
}

func sortedGroups(groups map[schema.GroupVersion][]one) []schema.GroupVersion {
	return slices.SortedFunc(maps.Keys(groups), func(a, b schema.GroupVersion) int { return strings.Compare(Path(a), Path(b)) })
}

// older is the part of a document of version 2 that is made of generated
// schemas: what is in braces behind "paths" and "definitions".
type older struct {
	of                 string // digest of the kinds that it is made of
	paths, definitions []byte
}

// OpenAPIV2 is the whole API in one document, OpenAPI version 2, as JSON. Its
// larger part is kept as long as memory is not needed for something else.
func (s *Schemas) OpenAPIV2() ([]byte, error) {
	groups := s.groups()
	var generated, custom []one
	h := sha256.New()
	for _, gv := range sortedGroups(groups) {
		var own []one
		for _, k := range groups[gv] {
			if k.Custom != nil {
				custom = append(custom, k)
			} else {
				own = append(own, k)
			}
		}
		generated = append(generated, own...)
		fmt.Fprintln(h, gv, digest(gv, own))
	}
	of := hex.EncodeToString(h.Sum(nil))
	s.mu.Lock()
	part := s.older.Value()
	s.mu.Unlock()
	if part == nil || part.of != of {
		var err error
		if part, err = makeOlder(of, generated); err != nil {
			return nil, err
		}
		s.mu.Lock()
		s.older = weak.Make(part)
		s.mu.Unlock()
	}

	paths, schemas := map[string]json.RawMessage{}, definitions{}
	for _, k := range custom {
		if err := k.olderPaths(paths); err != nil {
			return nil, err
		}
		if _, err := k.customSchemas(true, schemas); err != nil {
			return nil, err
		}
	}
	var doc bytes.Buffer
	doc.Grow(len(part.paths) + len(part.definitions) + 4096)
	fmt.Fprintf(&doc, `{"swagger":"2.0","info":{"title":"Kubernetes","version":%q},"paths":{`, Version)
	join(&doc, part.paths, members(paths))
	doc.WriteString(`},"definitions":{`)
	join(&doc, part.definitions, members(schemas))
	doc.WriteString(`},"securityDefinitions":{"BearerToken":{"description":"Bearer Token authentication",` +
		`"type":"apiKey","name":"authorization","in":"header"}},"security":[{"BearerToken":[]}]}`)
	doc.WriteByte('\n')
	return doc.Bytes(), nil
}

func join(doc *bytes.Buffer, a, b []byte) {
	doc.Write(a)
	if len(a) > 0 && len(b) > 0 {
		doc.WriteByte(',')
	}
	doc.Write(b)
}

// members are the members of an object, in the order of their names.
func members[M ~map[string]json.RawMessage](all M) []byte {
	var out bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if out.Len() > 0 {
			out.WriteByte(',')
		}
		fmt.Fprintf(&out, "%q:", name)
		out.Write(all[name])
	}
	return out.Bytes()
}

func makeOlder(of string, kinds []one) (*older, error) {
	docs := packages{}
	names := []string{metaV1 + "Status", metaV1 + "DeleteOptions", metaV1 + "Patch", metaV1 + "WatchEvent", metaV1 + "APIResourceList",
		metaV1 + "ObjectMeta", metaV1 + "ListMeta", model(scaleGVK)}
	paths := map[string]json.RawMessage{}
	for _, k := range kinds {
		if err := k.olderPaths(paths); err != nil {
			return nil, err
		}
		if d, err := docs.get(packageOf(model(k.gvk))); err != nil || d[model(k.gvk)] == nil {
			continue // not among the generated ones; a test finds it
		}
		names = append(names, k.model(), k.listModel())
		for _, action := range k.kind.Actions {
			names = append(names, model(action.GVK))
		}
	}
	schemas, err := closure(names, docs.get)
	if err != nil {
		return nil, err
	}
	for name, text := range schemas {
		var s any
		if err := json.Unmarshal(text, &s); err != nil {
			return nil, err
		}
		if schemas[name], err = json.Marshal(olderSchema(s)); err != nil {
			return nil, err
		}
	}
	return &older{of: of, paths: members(paths), definitions: members(schemas)}, nil
}

// olderSchema says in version 2 what a schema of version 3 says: references
// have siblings, there are no defaults, and what may be a number or a string is
// a string of a format.
func olderSchema(s any) any {
	switch s := s.(type) {
	case []any:
		for i := range s {
			s[i] = olderSchema(s[i])
		}
		return s
	case map[string]any:
		out := make(map[string]any, len(s))
		for name, v := range s {
			switch name {
			case "properties":
				all, ok := v.(map[string]any)
				if !ok {
					continue
				}
				fields := make(map[string]any, len(all))
				for field, p := range all {
					fields[field] = olderSchema(p)
				}
				out[name] = fields
			case "default", "nullable":
			case "oneOf", "anyOf":
				if s["type"] == nil {
					out["type"] = "string"
				}
			case "$ref":
				text, _ := v.(string)
				out[name] = strings.Replace(text, "#/components/schemas/", "#/definitions/", 1)
			case "allOf":
				all, _ := v.([]any)
				for _, one := range all {
					if one, ok := olderSchema(one).(map[string]any); ok {
						maps.Copy(out, one)
					}
				}
			case "enum", "required", "x-kubernetes-group-version-kind", "x-kubernetes-list-map-keys", "x-kubernetes-validations":
				out[name] = v
			default:
				out[name] = olderSchema(v)
			}
		}
		return out
	}
	return s
}

// olderPaths adds the paths of a kind as version 2 has them: bodies are
// parameters, and media types are beside the schemas.
func (k one) olderPaths(all map[string]json.RawMessage) error {
	for path, item := range k.paths() {
		// By way of JSON, so that what is shared between paths is not changed.
		text, err := json.Marshal(item)
		if err != nil {
			return err
		}
		var own object
		if err := json.Unmarshal(text, &own); err != nil {
			return err
		}
		for method, v := range own {
			if op, ok := v.(object); ok {
				own[method] = olderOperation(op)
			} else {
				own[method] = olderParameters(v)
			}
		}
		if all[path], err = json.Marshal(own); err != nil {
			return err
		}
	}
	return nil
}

func olderOperation(op object) object {
	parameters, _ := olderParameters(op["parameters"]).([]any)
	if body, ok := op["requestBody"].(object); ok {
		content, _ := body["content"].(object)
		op["consumes"] = slices.Sorted(maps.Keys(content))
		parameters = append([]any{object{"name": "body", "in": "body", "required": body["required"], "schema": schemaIn(content)}}, parameters...)
	}
	delete(op, "requestBody")
	if len(parameters) > 0 {
		op["parameters"] = parameters
	}
	responses, _ := op["responses"].(object)
	for code, v := range responses {
		answer, _ := v.(object)
		content, ok := answer["content"].(object)
		if !ok {
			continue
		}
		op["produces"] = slices.Sorted(maps.Keys(content))
		responses[code] = object{"description": answer["description"], "schema": schemaIn(content)}
	}
	op["schemes"] = []string{"https"}
	return op
}

// schemaIn is the schema of a body, the same for all media types.
func schemaIn(content object) any {
	for _, t := range content {
		if t, ok := t.(object); ok {
			return olderSchema(t["schema"])
		}
	}
	return object{}
}

func olderParameters(v any) any {
	all, ok := v.([]any)
	if !ok {
		return v
	}
	for _, p := range all {
		p, ok := p.(object)
		if !ok {
			continue
		}
		if s, ok := p["schema"].(object); ok {
			maps.Copy(p, s)
			delete(p, "schema")
		}
	}
	return all
}
