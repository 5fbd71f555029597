package object

import (
	"reflect"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/merge"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"sampan/cluster/kind"
)

// applied merges configurations into those parts of an object that they are
// about: the fields at the top and in metadata that the configuration names, or
// that the one before it named. The library would turn the whole object into
// maps, and back, and read and write all that is known of its owners. A test of
// package verb holds it to the library's outcome.
type applied struct {
	*changed
	types   managedfields.TypeConverter
	updater merge.Updater
}

func newApplied(c *changed, types managedfields.TypeConverter) *applied {
	a := &applied{changed: c, types: types, updater: merge.Updater{Converter: oneVersion{}}}
	if c.ignored != nil {
		a.updater.IgnoreFilter = map[fieldpath.APIVersion]fieldpath.Filter{c.version(): c.ignored}
	}
	return a
}

// oneVersion is for objects all of whose owners speak of one version.
type oneVersion struct{}

// Convert implements merge.Converter.
func (oneVersion) Convert(v *typed.TypedValue, _ fieldpath.APIVersion) (*typed.TypedValue, error) {
	return v, nil
}

// IsMissingVersionError implements merge.Converter.
func (oneVersion) IsMissingVersionError(error) bool { return false }

// merge is Owners.Apply, without defaults: what is merged may not look like the
// whole. Nil: it is no case for it, or a mistake or a conflict, of which the
// library has to tell.
func (a *applied) merge(live kind.Object, config runtime.Object, manager string, force bool) kind.Object {
	if a == nil || live.GetObjectKind().GroupVersionKind() != a.gvk || config.GetObjectKind().GroupVersionKind() != a.gvk {
		return nil
	}
	u, ok := config.(*unstructured.Unstructured)
	if !ok || manager == "kubectl" && (annotated(live) || annotated(u)) {
		return nil // what was applied by the client is taken over
	}
	owners := a.owners(live.GetManagedFields())
	if owners == nil {
		return nil
	}
	named, ok := a.named(live, owners, u.Object, manager)
	if !ok {
		return nil
	}
	made, at := a.apply(named.part(live, a.loose), config, owners, manager, force)
	if at == nil {
		return nil
	}
	owners, ok = a.applied(owners, at, manager, made != nil)
	if !ok {
		return nil
	}
	next := named.into(live, made)
	next.SetManagedFields(written(owners))
	return next
}

func annotated(obj metav1.Object) bool {
	return obj.GetAnnotations()[corev1.LastAppliedConfigAnnotation] != ""
}

// apply merges config into a part of an object. made is nil if that changes
// nothing, at is nil if it cannot be done.
func (a *applied) apply(part kind.Object, config runtime.Object, owners []owner, manager string, force bool) (made kind.Object, at fieldpath.ManagedFields) {
	before, err := a.types.ObjectToTyped(part, typed.AllowDuplicates)
	if err != nil {
		return nil, nil
	}
	wanted, err := a.types.ObjectToTyped(config)
	if err != nil {
		return nil, nil
	}
	at = make(fieldpath.ManagedFields, len(owners)+1)
	for i := range owners {
		o := &owners[i]
		at[o.id()] = fieldpath.NewVersionedSet(o.set, a.version(), o.Operation == metav1.ManagedFieldsOperationApply)
	}
	after, at, err := a.updater.Apply(before, wanted, a.version(), at, a.applier(manager).id(), force)
	if err != nil {
		return nil, nil
	}
	if after == nil {
		return nil, at
	}
	content, ok := after.AsValue().Unstructured().(map[string]any)
	made, isObject := reflect.New(reflect.TypeOf(part).Elem()).Interface().(kind.Object)
	if !ok || !isObject || runtime.DefaultUnstructuredConverter.FromUnstructured(content, made) != nil {
		return nil, nil
	}
	return made, at
}

// applier is the entry of who applies.
func (a *applied) applier(manager string) *owner {
	return &owner{ManagedFieldsEntry: metav1.ManagedFieldsEntry{Manager: manager, Operation: metav1.ManagedFieldsOperationApply,
		APIVersion: string(a.version()), FieldsType: "FieldsV1", Subresource: a.sub}}
}

// applied are the owners after a configuration was merged; at has their fields.
func (a *applied) applied(owners []owner, at fieldpath.ManagedFields, manager string, changed bool) ([]owner, bool) {
	me := a.applier(manager)
	if !slices.ContainsFunc(owners, func(o owner) bool { return o.is(me.Operation, me.Manager, me.Subresource) }) {
		owners = append(owners, *me)
	}
	for i := range owners {
		o := &owners[i]
		mine := o.is(me.Operation, me.Manager, me.Subresource)
		set := &fieldpath.Set{}
		if now := at[o.id()]; now != nil {
			set = now.Set()
		}
		if mine {
			set = set.Difference(a.nobodys)
			if changed {
				now := metav1.NewTime(time.Now().UTC())
				o.Time = &now
			}
		}
		if o.owned == nil || o.set != set && !o.set.Equals(set) {
			o.owned = &owned{set: set}
		}
	}
	return listed(owners)
}

// fieldNames are names of fields at the top of an object and in its metadata.
type fieldNames struct {
	top, meta map[string]*value.FieldCacheEntry
}

// named finds the fields that config is about. False: some are not the kind's.
func (a *applied) named(live kind.Object, owners []owner, config map[string]any, manager string) (fieldNames, bool) {
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
		if !owners[i].is(metav1.ManagedFieldsOperationApply, manager, a.sub) {
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

// part is live with nothing but these fields and what can hold a
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
	from, to := metaOf(whole), metaOf(v)
	to.SetZero()
	for _, f := range n.meta {
		f.GetFrom(to).Set(f.GetFrom(from))
	}
	return copied.Interface().(kind.Object)
}

// into is a copy of live with these fields of from, which belongs to the caller;
// nil: they are the same. Nobody owns anything of it.
func (n fieldNames) into(live, from kind.Object) kind.Object {
	rest := shallow(live)
	rest.Interface().(kind.Object).SetManagedFields(nil)
	if from == nil {
		return rest.Interface().(kind.Object).DeepCopyObject().(kind.Object)
	}
	for _, f := range n.top {
		f.GetFrom(rest.Elem()).SetZero() // no copy of what is replaced
	}
	next := rest.Interface().(kind.Object).DeepCopyObject().(kind.Object)
	to, v := reflect.ValueOf(next).Elem(), reflect.ValueOf(from).Elem()
	for _, f := range n.top {
		f.GetFrom(to).Set(f.GetFrom(v))
	}
	for _, f := range n.meta {
		f.GetFrom(metaOf(to)).Set(f.GetFrom(metaOf(v)))
	}
	return next
}

// metaOf is the metadata of an object's struct.
func metaOf(v reflect.Value) reflect.Value { return v.FieldByName("ObjectMeta") }
