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
func (s *Schemas) HashV2(form Form) string {
	h := sha256.New()
	fmt.Fprintln(h, form)
	groups := s.groups()
	for _, gv := range sortedGroups(groups) {
		fmt.Fprintln(h, gv, digest(gv, groups[gv]))
	}
	return hex.EncodeToString(h.Sum(nil))
}

func sortedGroups(groups map[schema.GroupVersion][]one) []schema.GroupVersion {
	return slices.SortedFunc(maps.Keys(groups), func(a, b schema.GroupVersion) int { return strings.Compare(Path(a), Path(b)) })
}

// Form is how a document of version 2 is written.
type Form int

// JSON is what people read; Protobuf is what kubectl asks for.
const (
	JSON Form = iota
	Protobuf

	forms = iota
)

// older is the part of a document of version 2 that is made of generated
// schemas: what is inside "paths" and "definitions".
type older struct {
	of                 string // digest of the kinds that it is made of
	paths, definitions []byte
}

// OpenAPIV2 is the whole API in one document, OpenAPI version 2. Its larger
// part is kept as long as memory is not needed for something else.
func (s *Schemas) OpenAPIV2(form Form) ([]byte, error) {
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
	part, err := s.olderPart(form, hex.EncodeToString(h.Sum(nil)), generated)
	if err != nil {
		return nil, err
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
	rest, err := form.write(paths, schemas)
	if err != nil {
		return nil, err
	}
	if form == Protobuf {
		return wholeProtobuf(part, rest)
	}
	var doc bytes.Buffer
	doc.Grow(len(part.paths) + len(part.definitions) + len(rest.paths) + len(rest.definitions) + 1024)
	doc.WriteString(openingV2 + `,"paths":{`)
	join(&doc, part.paths, rest.paths)
	doc.WriteString(`},"definitions":{`)
	join(&doc, part.definitions, rest.definitions)
	doc.WriteString(`},` + closingV2 + "\n")
	return doc.Bytes(), nil
}

const (
	openingV2 = `{"swagger":"2.0","info":{"title":"Kubernetes","version":"` + Version + `"}`
	closingV2 = `"securityDefinitions":{"BearerToken":{"description":"Bearer Token authentication",` +
		`"type":"apiKey","name":"authorization","in":"header"}},"security":[{"BearerToken":[]}]}`
)

// olderPart is the part made of generated schemas, anew if nobody holds it any
// more. Who asks for it while another makes it waits, instead of needing the
// memory twice.
func (s *Schemas) olderPart(form Form, of string, kinds []one) (*older, error) {
	s.making.Lock()
	defer s.making.Unlock()
	if part := s.older[form].Value(); part != nil && part.of == of {
		return part, nil
	}
	paths, schemas, err := olderOf(kinds)
	if err != nil {
		return nil, err
	}
	part, err := form.write(paths, schemas)
	if err != nil {
		return nil, err
	}
	part.of = of
	s.older[form] = weak.Make(part)
	return part, nil
}

func (f Form) write(paths map[string]json.RawMessage, schemas definitions) (*older, error) {
	if f == Protobuf {
		return inProtobuf(paths, schemas)
	}
	return &older{paths: members(paths), definitions: members(schemas)}, nil
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
		addMember(&out, name, all[name])
	}
	return out.Bytes()
}

func addMember(out *bytes.Buffer, name string, text json.RawMessage) {
	if out.Len() > 0 {
		out.WriteByte(',')
	}
	fmt.Fprintf(out, "%q:", name)
	out.Write(text)
}

func olderOf(kinds []one) (paths map[string]json.RawMessage, schemas definitions, err error) {
	docs := packages{}
	names := []string{metaV1 + "Status", metaV1 + "DeleteOptions", metaV1 + "Patch", metaV1 + "WatchEvent", metaV1 + "APIResourceList",
		metaV1 + "ObjectMeta", metaV1 + "ListMeta", model(scaleGVK)}
	paths = map[string]json.RawMessage{}
	for _, k := range kinds {
		if err := k.olderPaths(paths); err != nil {
			return nil, nil, err
		}
		if d, err := docs.get(packageOf(model(k.gvk))); err != nil || d[model(k.gvk)] == nil {
			continue // not among the generated ones; a test finds it
		}
		names = append(names, k.models()...)
	}
	if schemas, err = closure(names, docs.get); err != nil {
		return nil, nil, err
	}
	for name, text := range schemas {
		var s any
		if err := json.Unmarshal(text, &s); err != nil {
			return nil, nil, err
		}
		if schemas[name], err = json.Marshal(olderSchema(s)); err != nil {
			return nil, nil, err
		}
	}
	return paths, schemas, nil
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
