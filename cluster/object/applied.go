package object

import (
	"reflect"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"sampan/cluster/kind"
)

// applied merges configurations into those parts of an object that they are
// about: the fields at the top and in metadata that the configuration names, or
// that the one before it named. The library would turn the whole object into
// maps, and back. A test of package verb holds it to the library's outcome.
type applied struct {
	*managedfields.FieldManager // leaves out defaults: a part may not look like the whole
	changed                     *changed
}

// merge is Owners.Apply. False: it is no case for it.
func (a *applied) merge(live kind.Object, config runtime.Object, manager string, force bool) (merged kind.Object, done bool, err error) {
	u, ok := config.(*unstructured.Unstructured)
	if a == nil || !ok || live.GetObjectKind().GroupVersionKind() != a.changed.gvk {
		return nil, false, nil
	}
	if manager == "kubectl" && live.GetAnnotations()[corev1.LastAppliedConfigAnnotation] != "" {
		return nil, false, nil // the library looks at all of the object
	}
	named, ok := a.named(live, u.Object, manager)
	if !ok {
		return nil, false, nil
	}
	part := named.part(live, a.changed.loose)
	out, err := a.Apply(part, config, manager, force)
	if err != nil {
		return nil, true, err
	}
	from, ok := out.(kind.Object)
	if !ok || reflect.TypeOf(from) != reflect.TypeOf(live) {
		return nil, false, nil
	}
	return named.into(live, from), true, nil
}

// fieldNames are names of fields at the top of an object and in its metadata.
type fieldNames struct {
	top, meta map[string]*value.FieldCacheEntry
}

// named finds the fields that config is about. False: some are not the kind's,
// or the owners of live are a matter for the library.
func (a *applied) named(live kind.Object, config map[string]any, manager string) (fieldNames, bool) {
	entries := live.GetManagedFields()
	owners := a.changed.owners(entries)
	if owners == nil {
		return fieldNames{}, false
	}
	n := fieldNames{map[string]*value.FieldCacheEntry{}, map[string]*value.FieldCacheEntry{}}
	for name := range config {
		if !n.add(live, name) {
			return fieldNames{}, false
		}
	}
	if meta, ok := config["metadata"].(map[string]any); ok {
		for name := range meta {
			if !n.addMeta(name) {
				return fieldNames{}, false
			}
		}
	} else if config["metadata"] != nil {
		return fieldNames{}, false
	}
	for i := range owners {
		if !owners[i].is(metav1.ManagedFieldsOperationApply, manager, a.changed.sub) {
			continue
		}
		if !n.addSet(live, owners[i].set) {
			return fieldNames{}, false
		}
	}
	return n, true
}

func (n fieldNames) add(live kind.Object, name string) bool {
	switch name {
	case "apiVersion", "kind", "metadata":
		return true
	}
	f := value.TypeReflectEntryOf(reflect.TypeOf(live).Elem()).Fields()[name]
	n.top[name] = f
	return f != nil
}

func (n fieldNames) addMeta(name string) bool {
	f := value.TypeReflectEntryOf(reflect.TypeFor[metav1.ObjectMeta]()).Fields()[name]
	n.meta[name] = f
	return f != nil && name != "managedFields"
}

func (n fieldNames) addSet(live kind.Object, set *fieldpath.Set) bool {
	ok := true
	top := func(pe fieldpath.PathElement) { ok = ok && pe.FieldName != nil && n.add(live, *pe.FieldName) }
	set.Members.Iterate(top)
	set.Children.Iterate(top)
	name := "metadata"
	if meta, has := set.Children.Get(fieldpath.PathElement{FieldName: &name}); has {
		each := func(pe fieldpath.PathElement) { ok = ok && pe.FieldName != nil && n.addMeta(*pe.FieldName) }
		meta.Members.Iterate(each)
		meta.Children.Iterate(each)
	}
	return ok
}

// part is live with nothing but these fields, who owns them, and what can hold a
// mistake (see loose). It shares what is in them.
func (n fieldNames) part(live kind.Object, loose []int) kind.Object {
	copied := shallow(live)
	whole, v := reflect.ValueOf(live).Elem(), copied.Elem()
	for _, i := range loose {
		if v.Type().Field(i).Name == "TypeMeta" {
			continue
		}
		v.Field(i).SetZero()
	}
	for _, f := range n.top {
		f.GetFrom(v).Set(f.GetFrom(whole))
	}
	part := copied.Interface().(kind.Object)
	from, to := metaOf(whole), metaOf(v)
	to.SetZero()
	for _, f := range n.meta {
		f.GetFrom(to).Set(f.GetFrom(from))
	}
	part.SetName(live.GetName()) // errors name it
	part.SetNamespace(live.GetNamespace())
	part.SetManagedFields(live.GetManagedFields())
	return part
}

// into is a copy of live with these fields and the owners of from, which belongs
// to the caller.
func (n fieldNames) into(live, from kind.Object) kind.Object {
	rest := shallow(live)
	for _, f := range n.top {
		f.GetFrom(rest.Elem()).SetZero() // no copy of what is replaced
	}
	rest.Interface().(kind.Object).SetManagedFields(nil)
	next := rest.Interface().(kind.Object).DeepCopyObject().(kind.Object)
	to, v := reflect.ValueOf(next).Elem(), reflect.ValueOf(from).Elem()
	for _, f := range n.top {
		f.GetFrom(to).Set(f.GetFrom(v))
	}
	for _, f := range n.meta {
		f.GetFrom(metaOf(to)).Set(f.GetFrom(metaOf(v)))
	}
	next.SetManagedFields(from.GetManagedFields())
	return next
}

// metaOf is the metadata of an object's struct.
func metaOf(v reflect.Value) reflect.Value { return v.FieldByName("ObjectMeta") }

// bare leaves out defaults, which come once the object is whole again.
type bare struct{ bridge }

// Default implements runtime.ObjectDefaulter.
func (bare) Default(runtime.Object) {}

// ownerless are types whose objects are merged without the record of their
// owners, which is kept apart.
type ownerless struct{ plain }

// ObjectToTyped implements managedfields.TypeConverter.
func (o ownerless) ObjectToTyped(obj runtime.Object, opts ...typed.ValidationOptions) (*typed.TypedValue, error) {
	if whole, ok := obj.(kind.Object); ok && len(whole.GetManagedFields()) > 0 {
		if _, ok := obj.(runtime.Unstructured); !ok {
			part := shallow(whole).Interface().(kind.Object)
			part.SetManagedFields(nil)
			obj = part
		}
	}
	return o.plain.ObjectToTyped(obj, opts...)
}
