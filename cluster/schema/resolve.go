package schema

import (
	"encoding/json"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"sampan/internal/fault"
)

// Resolve returns the schema of a kind in a version with all that it refers to
// put in its place, for those who walk through it. Where a schema contains
// itself there is an object of which nothing is known. It is made anew by each
// call. A fault of class NotFound if there is none. (Upstream:
// apiserver/pkg/cel/openapi/resolver.)
func (s *Schemas) Resolve(gvk schema.GroupVersionKind) (*spec.Schema, error) {
	k := s.kinds.ByGVK(gvk)
	if k == nil {
		return nil, &fault.Error{Class: fault.NotFound, Op: "read schema", On: gvk.String()}
	}
	own, docs := definitions{}, packages{}
	o := one{Kind: k, kind: k, gvk: gvk}
	names := []string{o.model()}
	if k.Custom != nil {
		for _, f := range k.Faces() {
			if f.GVK == gvk {
				o.Kind = f.Kind
			}
		}
		more, err := o.customSchemas(false, own)
		if err != nil {
			return nil, err
		}
		names = more
	}
	all, err := closure(names, docs.get)
	if err != nil {
		return nil, err
	}
	for name, text := range own {
		all[name] = text
	}
	return resolver{all, map[string]*spec.Schema{}}.named(o.model(), nil)
}

// resolver puts schemas in the place of references to them.
type resolver struct {
	texts  definitions
	parsed map[string]*spec.Schema
}

// named is the schema of a name. within are the names of those around it.
func (r resolver) named(name string, within []string) (*spec.Schema, error) {
	if slices.Contains(within, name) {
		return &spec.Schema{SchemaProps: spec.SchemaProps{Type: []string{"object"}}}, nil
	}
	s, ok := r.parsed[name]
	if !ok {
		text, ok := r.texts[name]
		if !ok {
			return nil, &fault.Error{Class: fault.NotFound, Op: "read schema", On: name, Err: errNoEntry}
		}
		s = &spec.Schema{}
		if err := json.Unmarshal(text, s); err != nil {
			return nil, &fault.Error{Op: "read schema", On: name, Err: err}
		}
		r.parsed[name] = s
	}
	return r.whole(s, append(slices.Clip(within), name))
}

// whole is s without references. s stays as it is.
func (r resolver) whole(s *spec.Schema, within []string) (_ *spec.Schema, err error) {
	if name, ok := referred(s); ok {
		return r.named(name, within)
	}
	next := *s
	if len(s.Properties) > 0 {
		next.Properties = make(map[string]spec.Schema, len(s.Properties))
		for name, p := range s.Properties {
			whole, err := r.whole(&p, within)
			if err != nil {
				return nil, err
			}
			next.Properties[name] = *whole
		}
	}
	if s.Items != nil && s.Items.Schema != nil {
		items := *s.Items
		if items.Schema, err = r.whole(s.Items.Schema, within); err != nil {
			return nil, err
		}
		next.Items = &items
	}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Schema != nil {
		values := *s.AdditionalProperties
		if values.Schema, err = r.whole(s.AdditionalProperties.Schema, within); err != nil {
			return nil, err
		}
		next.AdditionalProperties = &values
	}
	return &next, nil
}

// referred is the name that s refers to. What has a description of its own
// refers by way of allOf, which is used for nothing else.
func referred(s *spec.Schema) (string, bool) {
	if ref := s.Ref.String(); ref != "" {
		return ref[strings.LastIndexByte(ref, '/')+1:], true
	}
	for i := range s.AllOf {
		if name, ok := referred(&s.AllOf[i]); ok {
			return name, true
		}
	}
	return "", false
}
