package schema

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/internal/fault"
)

// Other is what another server says of a group version in its document of
// OpenAPI version 2. It does not change.
type Other struct {
	Group  schema.GroupVersion
	Digest string // changes with the rest

	paths   map[string]json.RawMessage
	schemas definitions
}

// ReadOther reads what a document of another server, with a digest, says of gv:
// the paths of that, and the schemas that they refer to. (Upstream: kube-openapi's
// FilterSpecByPaths, in kube-aggregator/pkg/controllers/openapi/aggregator.)
func ReadOther(gv schema.GroupVersion, digest string, document []byte) (*Other, error) {
	var doc struct {
		Swagger     string
		Paths       map[string]json.RawMessage
		Definitions definitions
	}
	if err := json.Unmarshal(document, &doc); err != nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "read OpenAPI of another server", On: gv.String(), Err: err}
	}
	if doc.Swagger != "2.0" {
		return nil, &fault.Error{Class: fault.Invalid, Op: "read OpenAPI of another server", On: gv.String(),
			Err: fmt.Errorf("it is of version %q, not 2.0", doc.Swagger)}
	}
	o := &Other{Group: gv, Digest: digest, paths: map[string]json.RawMessage{}, schemas: definitions{}}
	var refer []string
	below := "/" + Path(gv) + "/"
	for path, item := range doc.Paths {
		if strings.HasPrefix(path, below) {
			names, err := referredIn(item)
			if err != nil {
				return nil, &fault.Error{Class: fault.Invalid, Op: "read OpenAPI of another server", On: path, Err: err}
			}
			o.paths[path] = item
			refer = append(refer, names...)
		}
	}
	for len(refer) > 0 {
		name := refer[len(refer)-1]
		refer = refer[:len(refer)-1]
		text, ok := doc.Definitions[name]
		if _, seen := o.schemas[name]; seen || !ok {
			continue // a reference that leads nowhere is its author's
		}
		names, err := referredIn(text)
		if err != nil {
			return nil, &fault.Error{Class: fault.Invalid, Op: "read OpenAPI of another server", On: name, Err: err}
		}
		o.schemas[name] = text
		refer = append(refer, names...)
	}
	return o, nil
}

const refV2 = "#/definitions/"

// referredIn are the names that a text refers to.
func referredIn(text json.RawMessage) (names []string, err error) {
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, err
	}
	renamed(v, func(name string) string {
		names = append(names, name)
		return name
	})
	return names, nil
}

// renamed changes, in place, the names that v refers to.
func renamed(v any, to func(string) string) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			renamed(e, to)
		}
	case map[string]any:
		for key, e := range v {
			if text, ok := e.(string); ok && key == "$ref" {
				if name, ok := strings.CutPrefix(text, refV2); ok {
					v[key] = refV2 + to(name)
				}
				continue
			}
			renamed(e, to)
		}
	}
}

// others is what all other servers say, put together.
type others struct {
	of   string // digest of what it was made of
	made *piece
}

// otherPiece is the part of other servers. Who of them was there before, and
// this server, are in first place: what others call the same and describe
// differently gets another name, as upstream does it.
func (s *Schemas) otherPiece(form Form, first *piece, custom []one, all []*Other) (*piece, error) {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b *Other) int { return strings.Compare(Path(a.Group), Path(b.Group)) })
	h := sha256.New()
	fmt.Fprintln(h, first.definitions.sum, first.definitions.size)
	for _, o := range all {
		fmt.Fprintln(h, o.Group, o.Digest)
	}
	for _, k := range custom {
		fmt.Fprintln(h, k.model(), k.listModel())
	}
	of := hex.EncodeToString(h.Sum(nil))
	s.making.Lock()
	defer s.making.Unlock()
	if have := s.others[form]; have != nil && have.of == of {
		return have.made, nil
	}
	own, err := s.generatedSchemas()
	if err != nil {
		return nil, err
	}
	for _, k := range custom {
		own[k.model()], own[k.listModel()] = nil, nil // nobody describes these as we do
	}
	paths, schemas := map[string]json.RawMessage{}, definitions{}
	for _, o := range all {
		if err := o.addTo(own, paths, schemas); err != nil {
			return nil, err
		}
	}
	made, err := form.pack(&packer{}, paths, schemas)
	if err != nil {
		return nil, err
	}
	s.others[form] = &others{of, made}
	return made, nil
}

// generatedSchemas are those of this program's own kinds, as version 2 has them.
func (s *Schemas) generatedSchemas() (definitions, error) {
	var kinds []one
	for _, all := range s.groups() {
		for _, k := range all {
			if k.Custom == nil {
				kinds = append(kinds, k)
			}
		}
	}
	_, all, err := olderOf(kinds)
	return all, err
}

// addTo adds what o says to paths and schemas, under names that own and
// schemas have not for something else.
func (o *Other) addTo(own definitions, paths map[string]json.RawMessage, schemas definitions) error {
	names := map[string]string{}
	for name, text := range o.schemas {
		names[name] = name
		for n := 2; ; n++ {
			have, taken := own[names[name]]
			if !taken {
				have, taken = schemas[names[name]]
			}
			if !taken || alike(have, text) {
				break
			}
			names[name] = fmt.Sprintf("%s_v%d", name, n)
		}
	}
	rename := func(text json.RawMessage) (json.RawMessage, error) {
		var v any
		if err := json.Unmarshal(text, &v); err != nil {
			return nil, err
		}
		renamed(v, func(name string) string {
			if to, ok := names[name]; ok {
				return to
			}
			return name
		})
		return json.Marshal(v)
	}
	for name, text := range o.schemas {
		if _, ours := own[names[name]]; ours {
			continue
		}
		text, err := rename(text)
		if err != nil {
			return err
		}
		schemas[names[name]] = text
	}
	for path, item := range o.paths {
		item, err := rename(item)
		if err != nil {
			return err
		}
		paths[path] = item
	}
	return nil
}

// alike says whether two schemas say the same, but for their descriptions.
func alike(a, b json.RawMessage) bool {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	return reflect.DeepEqual(withoutText(x), withoutText(y))
}

func withoutText(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = withoutText(v[i])
		}
	case map[string]any:
		if _, text := v["description"].(string); text {
			delete(v, "description")
		}
		for key := range v {
			v[key] = withoutText(v[key])
		}
	}
	return v
}
