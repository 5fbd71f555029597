package schema

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	smd "sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"

	"sampan/cluster/schema/shape"
	"sampan/internal/fault"
)

// podSpec is what makes a kind's types many: those of kinds that have it are
// kept once for all of them.
const podSpec = "io.k8s.api.core.v1.PodSpec"

// TypeConverter is the schema of gvk's type and of all types inside it, as
// field ownership needs it. The caller keeps it. Nil for kinds that have no
// schema.
func (s *Schemas) TypeConverter(gvk schema.GroupVersionKind) (managedfields.TypeConverter, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.kinds.ByGVK(gvk)
	if k != nil && k.Custom != nil {
		return customTypes(k)
	}
	t := &types{gvks: []schema.GroupVersionKind{gvk}, old: s.oldTypes}
	if k != nil {
		t.gvks = k.Current() // owners may have written in another version
	}
	if s.pods.has(t.gvks[0]) {
		return s.pods, nil
	}
	for _, g := range t.gvks {
		err := t.add(model(g))
		if fault.ClassOf(err) == fault.NotFound {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
	}
	if !t.seen[podSpec] {
		return t.ready(), nil
	}
	for _, k := range s.kinds.All() {
		for _, other := range k.Current() {
			// What was read of packages stays at hand in t: most kinds add nothing.
			one := &types{packages: t.packages}
			if !t.has(other) && one.add(model(other)) == nil && one.seen[podSpec] {
				if err := t.add(model(other)); err != nil {
					return nil, err
				}
				t.gvks = append(t.gvks, other)
			}
		}
	}
	s.pods = t.ready()
	return s.pods, nil
}

// oldTypes are the types of an old version, which nobody reads who does not use
// it; nil if gvk is none.
func (s *Schemas) oldTypes(gvk schema.GroupVersionKind) (managedfields.TypeConverter, error) {
	k := s.kinds.ByGVK(gvk)
	if k == nil {
		return nil, nil
	}
	if v := k.Version(gvk); v == nil || !v.Old {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t, ok := s.old[gvk]; ok {
		return t, nil
	}
	var made managedfields.TypeConverter
	t := &types{gvks: []schema.GroupVersionKind{gvk}}
	switch err := t.add(model(gvk)); {
	case fault.ClassOf(err) == fault.NotFound:
		made = managedfields.NewDeducedTypeConverter()
	case err != nil:
		return nil, err
	default:
		made = t.ready()
	}
	if s.old == nil {
		s.old = map[schema.GroupVersionKind]managedfields.TypeConverter{}
	}
	s.old[gvk] = made
	return made, nil
}

// types implements managedfields.TypeConverter for a few kinds. It is
// complete, and safe for concurrent use, after ready.
type types struct {
	gvks   []schema.GroupVersionKind
	custom bool // the names of their types are those of custom resources
	parser typed.Parser

	// old has the types of the kinds' old versions. Nil: there are none.
	old func(schema.GroupVersionKind) (managedfields.TypeConverter, error)

	// While types are added:
	packages map[string]map[string]*shape.Atom
	seen     map[string]bool
}

func (t *types) has(gvk schema.GroupVersionKind) bool {
	if t == nil {
		return false
	}
	for _, g := range t.gvks {
		if g == gvk {
			return true
		}
	}
	return false
}

// add adds a type and all that it refers to.
func (t *types) add(name string) error {
	if t.packages == nil {
		t.packages = map[string]map[string]*shape.Atom{}
	}
	if t.seen == nil {
		t.seen = map[string]bool{}
	}
	waiting := []string{name}
	for len(waiting) > 0 {
		name := waiting[len(waiting)-1]
		waiting = waiting[:len(waiting)-1]
		if t.seen[name] {
			continue
		}
		pkg := packageOf(name)
		if t.packages[pkg] == nil {
			atoms := map[string]*shape.Atom{}
			if err := readInto("shape/"+pkg, &atoms); err != nil {
				return err
			}
			t.packages[pkg] = atoms
		}
		atom := t.packages[pkg][name]
		if atom == nil {
			return &fault.Error{Class: fault.NotFound, Op: "read schema", On: name, Err: errNoEntry}
		}
		t.seen[name] = true
		full, err := atom.Type(func(n string) { waiting = append(waiting, n) })
		if err != nil {
			return &fault.Error{Op: "read schema", On: name, Err: err}
		}
		t.parser.Schema.Types = append(t.parser.Schema.Types, smd.TypeDef{Name: name, Atom: full})
	}
	return nil
}

func (t *types) ready() *types {
	t.packages, t.seen = nil, nil
	return t
}

// ObjectToTyped implements managedfields.TypeConverter.
func (t *types) ObjectToTyped(obj runtime.Object, opts ...typed.ValidationOptions) (*typed.TypedValue, error) {
	gvk := obj.GetObjectKind().GroupVersionKind()
	if !t.has(gvk) && t.old != nil {
		old, err := t.old(gvk)
		if err != nil {
			return nil, err
		}
		if old != nil {
			return old.ObjectToTyped(obj, opts...)
		}
	}
	if !t.has(gvk) {
		return nil, runtime.NewNotRegisteredErrForKind("the generated schemas", gvk)
	}
	name := model(gvk)
	if t.custom {
		name = customModel(gvk)
	}
	p := t.parser.Type(name)
	if u, ok := obj.(runtime.Unstructured); ok {
		return p.FromUnstructured(u.UnstructuredContent(), opts...)
	}
	return p.FromStructured(obj, opts...)
}

// TypedToObject implements managedfields.TypeConverter.
func (t *types) TypedToObject(v *typed.TypedValue) (runtime.Object, error) {
	content, ok := v.AsValue().Unstructured().(map[string]any)
	if !ok {
		return nil, fmt.Errorf("a merged object is no map but a %T", v.AsValue().Unstructured())
	}
	return &unstructured.Unstructured{Object: content}, nil
}

var _ managedfields.TypeConverter = (*types)(nil)
