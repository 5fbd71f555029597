package schema

import (
	"encoding/json"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"sampan/internal/fault"
)

// TypeConverter is the schema of gvk's type and of all types inside it, as
// field ownership needs it. It is built anew by each call and is the caller's
// to keep. Nil for kinds that are not generated (custom resources).
func (s *Schemas) TypeConverter(gvk schema.GroupVersionKind) (managedfields.TypeConverter, error) {
	names := []string{model(gvk)}
	d, err := closure(names, s.shape)
	if fault.ClassOf(err) == fault.NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	types := make(map[string]*spec.Schema, len(d))
	for name, text := range d {
		one := &spec.Schema{}
		if err := json.Unmarshal(text, one); err != nil {
			return nil, &fault.Error{Op: "read schema", On: name, Err: err}
		}
		types[name] = one
	}
	return managedfields.NewTypeConverter(types, false)
}

// shape returns the shapes of a package. Those of the packages that all kinds
// share stay in memory, they are small.
func (s *Schemas) shape(pkg string) (definitions, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, ok := s.shapes[pkg]; ok {
		return d, nil
	}
	d, err := read("shape/" + pkg)
	if err == nil {
		s.shapes[pkg] = d
	}
	return d, err
}
