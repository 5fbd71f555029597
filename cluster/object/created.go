package object

import (
	"reflect"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"sampan/cluster/kind"
)

// keeper keeps the owners of one version of a kind, for one subresource.
type keeper struct {
	*managedfields.FieldManager
	created *created // nil: an object that is made is a change like any other
	changed *changed // nil: a change is left to the library
	applied *applied // nil: so is a configuration
}

// created records who made an object: all that it has, and an empty one has
// not, is its maker's. As a change it would cost twice as much, for what there
// was before; a test of package verb holds both to upstream's outcome.
type created struct {
	gvk     schema.GroupVersionKind
	empty   *typed.TypedValue
	ignored fieldpath.Filter // nil: nothing is
	nobodys *fieldpath.Set
}

// record sets obj's managedFields. False: it is no case for it.
func (c *created) record(obj kind.Object, manager string) bool {
	if c == nil || len(obj.GetManagedFields()) > 0 || obj.GetObjectKind().GroupVersionKind() != c.gvk {
		return false
	}
	obj.SetManagedFields(nil)
	part := shallow(obj)
	unnamed(part.Elem())
	v, err := value.NewValueReflect(part.Interface())
	if err != nil {
		return false
	}
	diff, err := c.empty.Compare(typed.AsTypedUnvalidated(v, c.empty.Schema(), c.empty.TypeRef()))
	if err != nil {
		return false
	}
	set := diff.Modified.Union(diff.Added)
	if c.ignored != nil {
		set = c.ignored.Filter(set)
	}
	if set = set.Difference(c.nobodys); set.Empty() {
		return true
	}
	raw, err := set.ToJSON()
	if err != nil {
		return false
	}
	fields := &metav1.FieldsV1{}
	fields.SetRawBytes(raw)
	obj.SetManagedFields([]metav1.ManagedFieldsEntry{{
		Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: c.gvk.GroupVersion().String(),
		Time: &metav1.Time{Time: time.Now().UTC()}, FieldsType: "FieldsV1", FieldsV1: fields,
	}})
	return true
}

// unnamed empties fields of an object that nobody is said to own (see nobodys):
// to compare them is work for nothing.
func unnamed(v reflect.Value) {
	m, ok := metaOf(v).Addr().Interface().(*metav1.ObjectMeta)
	if ok {
		m.Name, m.Namespace, m.UID, m.Generation, m.ResourceVersion, m.SelfLink = "", "", "", 0, "", ""
		m.CreationTimestamp = metav1.Time{}
	}
}

// nobodys are the fields that nobody is said to own, of any kind (upstream:
// managedfields' stripmeta).
func nobodys() *fieldpath.Set {
	set := fieldpath.NewSet(fieldpath.MakePathOrDie("apiVersion"), fieldpath.MakePathOrDie("kind"), fieldpath.MakePathOrDie("metadata"))
	for _, name := range []string{"name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields", "resourceVersion"} {
		set.Insert(fieldpath.MakePathOrDie("metadata", name))
	}
	return set
}

// plain are the types of a version whose objects are Go values. Their schema
// was made from the Go type: to look whether they fit is work for nothing, a
// quarter of that of a change. What a type cannot say, such as elements without
// a key, is found when they are compared.
type plain struct {
	managedfields.TypeConverter
	gvk  schema.GroupVersionKind
	like *typed.TypedValue // one of them
}

// ObjectToTyped implements managedfields.TypeConverter.
func (p plain) ObjectToTyped(obj runtime.Object, opts ...typed.ValidationOptions) (*typed.TypedValue, error) {
	if _, ok := obj.(runtime.Unstructured); ok || obj.GetObjectKind().GroupVersionKind() != p.gvk || !slices.Contains(opts, typed.AllowDuplicates) {
		return p.TypeConverter.ObjectToTyped(obj, opts...)
	}
	v, err := value.NewValueReflect(obj)
	if err != nil {
		return nil, err
	}
	return typed.AsTypedUnvalidated(v, p.like.Schema(), p.like.TypeRef()), nil
}
