package schema

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// HashV2 changes whenever the document of OpenAPIV2 does. It makes no document.
func (s *Schemas) HashV2(form Form, others ...*Other) string {
	h := sha256.New()
	fmt.Fprintln(h, form, s.hashes().all)
	for _, o := range others {
		fmt.Fprintln(h, o.Group, o.Digest)
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

// older is a part of a document of version 2: what is inside "paths" and
// "definitions".
type older struct{ paths, definitions []byte }

// piece is such a part as it is kept.
type piece struct{ paths, definitions packed }

// OpenAPIV2 is the whole API in one document, OpenAPI version 2, with what
// others say of their part of it. What it is made of is kept, packed, for each
// custom kind and for all others together, so that a definition that comes or
// changes costs its own part alone.
func (s *Schemas) OpenAPIV2(form Form, others ...*Other) (*Document, error) {
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
	first, err := s.generatedPiece(form, hex.EncodeToString(h.Sum(nil)), generated)
	if err != nil {
		return nil, err
	}
	pieces, err := s.customPieces(form, custom)
	if err != nil {
		return nil, err
	}
	pieces = append([]*piece{first}, pieces...)
	if len(others) > 0 {
		more, err := s.otherPiece(form, first, custom, others)
		if err != nil {
			return nil, err
		}
		pieces = append(pieces, more)
	}
	if form == Protobuf {
		return wholeProtobuf(pieces)
	}
	doc := &Document{}
	doc.text(openingV2 + `,"paths":{`)
	doc.join(pieces, func(p *piece) packed { return p.paths })
	doc.text(`},"definitions":{`)
	doc.join(pieces, func(p *piece) packed { return p.definitions })
	doc.text(`},` + closingV2 + "\n")
	return doc, nil
}

const (
	openingV2 = `{"swagger":"2.0","info":{"title":"Kubernetes","version":"` + Version + `"}`
	closingV2 = `"securityDefinitions":{"BearerToken":{"description":"Bearer Token authentication",` +
		`"type":"apiKey","name":"authorization","in":"header"}},"security":[{"BearerToken":[]}]}`
)

// join adds the members of one object, with commas between them.
func (d *Document) join(pieces []*piece, of func(*piece) packed) {
	some := false
	for _, p := range pieces {
		if of(p).size == 0 {
			continue
		}
		if some {
			d.text(",")
		}
		d.add(of(p))
		some = true
	}
}

// generatedPiece is the part made of generated schemas, anew if the kinds have
// changed. Who asks for it while another makes it waits, instead of needing the
// memory twice.
func (s *Schemas) generatedPiece(form Form, of string, kinds []one) (*piece, error) {
	s.making.Lock()
	defer s.making.Unlock()
	if s.older[form] != nil && s.olderOf[form] == of {
		return s.older[form], nil
	}
	paths, schemas, err := olderOf(kinds)
	if err != nil {
		return nil, err
	}
	text, err := form.own(paths, schemas)
	if err != nil {
		return nil, err
	}
	made, err := text.pack(&packer{})
	if err != nil {
		return nil, err
	}
	s.older[form], s.olderOf[form] = made, of
	return made, nil
}

// pieceKey keeps what a document says of a custom kind with it.
type pieceKey struct {
	form Form
	gvk  schema.GroupVersionKind
}

// customPieces are the parts of custom kinds. Those that are not there yet are
// made side by side: after a start it may be all. Who comes meanwhile waits,
// instead of making them too.
func (s *Schemas) customPieces(form Form, kinds []one) ([]*piece, error) {
	all, errs := make([]*piece, len(kinds)), make([]error, len(kinds))
	look := func() (missing []int) {
		for i, k := range kinds {
			var ok bool
			if all[i], ok = k.told(form); !ok {
				missing = append(missing, i)
			}
		}
		return missing
	}
	if len(look()) == 0 {
		return all, nil
	}
	s.telling.Lock()
	defer s.telling.Unlock()
	missing := look()
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(len(missing), runtime.GOMAXPROCS(0)) {
		workers.Go(func() {
			p := &packer{}
			for {
				n := int(next.Add(1)) - 1
				if n >= len(missing) {
					return
				}
				i := missing[n]
				all[i], errs[i] = kinds[i].tell(form, p)
			}
		})
	}
	workers.Wait()
	return all, errors.Join(errs...)
}

func (k one) told(form Form) (*piece, bool) {
	if k.Custom.Told == nil {
		return nil, false
	}
	kept, ok := k.Custom.Told.Load(pieceKey{form, k.gvk})
	if !ok {
		return nil, false
	}
	return kept.(*piece), true
}

// tell makes the part of a custom kind.
func (k one) tell(form Form, p *packer) (*piece, error) {
	paths, schemas := map[string]json.RawMessage{}, definitions{}
	if err := k.olderPaths(paths); err != nil {
		return nil, err
	}
	if _, err := k.customSchemas(true, schemas); err != nil {
		return nil, err
	}
	text, err := form.own(paths, schemas)
	if err != nil {
		return nil, err
	}
	made, err := text.pack(p)
	if err == nil && k.Custom.Told != nil {
		k.Custom.Told.Store(pieceKey{form, k.gvk}, made)
	}
	return made, err
}

// own writes what this package says itself.
func (f Form) own(paths map[string]json.RawMessage, schemas definitions) (*older, error) {
	if f == Protobuf {
		return newWire().older(paths, schemas)
	}
	return &older{members(paths), members(schemas)}, nil
}

// pack makes a part of what may be anybody's.
func (f Form) pack(p *packer, paths map[string]json.RawMessage, schemas definitions) (*piece, error) {
	text := &older{members(paths), members(schemas)}
	if f == Protobuf {
		var err error
		if text, err = inProtobuf(paths, schemas); err != nil {
			return nil, err
		}
	}
	return text.pack(p)
}

func (o *older) pack(p *packer) (made *piece, err error) {
	made = &piece{}
	if made.paths, err = p.pack(o.paths); err != nil {
		return nil, err
	}
	made.definitions, err = p.pack(o.definitions)
	return made, err
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
		own, ok := clone(item).(object)
		if !ok {
			return fmt.Errorf("the path %s has no object", path)
		}
		for method, v := range own {
			if op, ok := v.(object); ok {
				own[method] = olderOperation(op)
			} else {
				own[method] = olderParameters(v)
			}
		}
		text, err := json.Marshal(own)
		if err != nil {
			return err
		}
		all[path] = text
	}
	return nil
}

// clone is a copy of what is shared between paths, to be changed.
func clone(v any) any {
	switch v := v.(type) {
	case object:
		own := make(object, len(v))
		for name, part := range v {
			own[name] = clone(part)
		}
		return own
	case []any:
		own := make([]any, len(v))
		for i, part := range v {
			own[i] = clone(part)
		}
		return own
	}
	return v
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
