// Package shape is the form in which the types of field ownership lie in the
// schema blob: what structured-merge-diff's schema says, as JSON that is small
// and quick to read. The generator writes it, package schema reads it.
package shape

import (
	"encoding/json"
	"slices"
	"strings"

	smd "sigs.k8s.io/structured-merge-diff/v6/schema"
)

// Atom is a type: at most one of its parts for structures, or several for a
// value of any type.
type Atom struct {
	Scalar string  `json:"s,omitempty"`
	List   *List   `json:"l,omitempty"`
	Fields []Field `json:"f,omitempty"`
	Values *Ref    `json:"v,omitempty"` // of a map's elements
	Rel    string  `json:"m,omitempty"` // relationship of a map's elements, or of a structure's fields
	IsMap  bool    `json:"o,omitempty"` // has Fields or Values, maybe empty
}

// List is a list: atomic, a set, or a map by the keys of its elements.
type List struct {
	Of   Ref      `json:"e"`
	Rel  string   `json:"r,omitempty"`
	Keys []string `json:"k,omitempty"`
}

// Ref is a type by its name, or the type itself.
type Ref struct {
	Name     string `json:"n,omitempty"`
	Atom     *Atom  `json:"a,omitempty"`
	Rel      string `json:"r,omitempty"` // overrides that of the type
	Nullable bool   `json:"z,omitempty"`
}

// Field is a field of a structure.
type Field struct {
	Name    string          `json:"n"`
	Type    Ref             `json:"t"`
	Default json.RawMessage `json:"d,omitempty"`
}

// Of turns a type of structured-merge-diff into an Atom.
func Of(a smd.Atom) (Atom, error) {
	var out Atom
	if a.Scalar != nil {
		out.Scalar = string(*a.Scalar)
	}
	if l := a.List; l != nil {
		of, err := refOf(l.ElementType)
		if err != nil {
			return out, err
		}
		out.List = &List{Of: of, Rel: string(l.ElementRelationship), Keys: l.Keys}
	}
	if m := a.Map; m != nil {
		out.IsMap, out.Rel = true, string(m.ElementRelationship)
		values, err := refOf(m.ElementType)
		if err != nil {
			return out, err
		}
		if values != (Ref{}) {
			out.Values = &values
		}
		for _, f := range m.Fields {
			t, err := refOf(f.Type)
			if err != nil {
				return out, err
			}
			field := Field{Name: f.Name, Type: t}
			if f.Default != nil {
				if field.Default, err = json.Marshal(f.Default); err != nil {
					return out, err
				}
			}
			out.Fields = append(out.Fields, field)
		}
		// They come out of a map; the blob is to be the same each time.
		slices.SortFunc(out.Fields, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
	}
	return out, nil
}

func refOf(r smd.TypeRef) (Ref, error) {
	out := Ref{Nullable: r.Nullable}
	if r.ElementRelationship != nil {
		out.Rel = string(*r.ElementRelationship)
	}
	if r.NamedType != nil {
		out.Name = *r.NamedType
		return out, nil
	}
	if r.Inlined != (smd.Atom{}) {
		a, err := Of(r.Inlined)
		out.Atom = &a
		return out, err
	}
	return out, nil
}

// Type is the reverse of Of. names is called with the names that the type
// refers to.
func (a *Atom) Type(names func(string)) (smd.Atom, error) {
	var out smd.Atom
	if a.Scalar != "" {
		s := smd.Scalar(a.Scalar)
		out.Scalar = &s
	}
	if a.List != nil {
		of, err := a.List.Of.typ(names)
		if err != nil {
			return out, err
		}
		out.List = &smd.List{ElementType: of, ElementRelationship: smd.ElementRelationship(a.List.Rel), Keys: a.List.Keys}
	}
	if a.IsMap {
		m := &smd.Map{ElementRelationship: smd.ElementRelationship(a.Rel)}
		if a.Values != nil {
			values, err := a.Values.typ(names)
			if err != nil {
				return out, err
			}
			m.ElementType = values
		}
		for i := range a.Fields {
			f := &a.Fields[i]
			t, err := f.Type.typ(names)
			if err != nil {
				return out, err
			}
			field := smd.StructField{Name: f.Name, Type: t}
			if f.Default != nil {
				if err := json.Unmarshal(f.Default, &field.Default); err != nil {
					return out, err
				}
			}
			m.Fields = append(m.Fields, field)
		}
		out.Map = m
	}
	return out, nil
}

func (r *Ref) typ(names func(string)) (smd.TypeRef, error) {
	out := smd.TypeRef{Nullable: r.Nullable}
	if r.Rel != "" {
		rel := smd.ElementRelationship(r.Rel)
		out.ElementRelationship = &rel
	}
	if r.Name != "" {
		name := r.Name
		out.NamedType = &name
		names(name)
		return out, nil
	}
	if r.Atom != nil {
		a, err := r.Atom.Type(names)
		out.Inlined = a
		return out, err
	}
	return out, nil
}
