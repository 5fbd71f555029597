package object

import (
	"cmp"
	"maps"
	"reflect"
	"slices"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"sampan/cluster/kind"
)

// maxManagers is how many managers that update are told apart, upstream's
// (managedfields' DefaultMaxUpdateManagers).
const maxManagers = 10

// changed records who changed an object, where all that is known of its owners
// is of one version: what the library does, without writing and reading again
// what has not changed. A test of package verb holds it to the library's
// outcome.
type changed struct {
	gvk     schema.GroupVersionKind
	sub     string
	loose   []int             // see there
	like    *typed.TypedValue // an object of the version, for its schema
	ignored fieldpath.Filter  // nil: nothing is
	nobodys *fieldpath.Set
	sets    *sets
}

// owner is an entry of managedFields.
type owner struct {
	metav1.ManagedFieldsEntry
	*owned
}

// record sets obj's managedFields. False: it is no case for it, and obj is as it
// was.
func (c *changed) record(live, obj kind.Object, manager string) bool {
	if c == nil || live.GetObjectKind().GroupVersionKind() != c.gvk || obj.GetObjectKind().GroupVersionKind() != c.gvk {
		return false
	}
	said := obj.GetManagedFields()
	entries := said
	switch {
	case c.sub != "" || said == nil:
		entries = live.GetManagedFields() // who writes a part has no say in it
	case len(said) == 0:
		return false // they are to be forgotten
	}
	owners := c.owners(entries)
	if owners == nil {
		return false
	}
	obj.SetManagedFields(nil)
	modified, removed, ok := c.compare(live, obj)
	if ok {
		owners, ok = c.settle(owners, modified, removed, manager)
	}
	if !ok {
		obj.SetManagedFields(said)
		return false
	}
	obj.SetManagedFields(written(owners))
	return true
}

// owners reads entries. Nil: there are none, or some that are not of this
// version, or that the library has an opinion of.
func (c *changed) owners(entries []metav1.ManagedFieldsEntry) []owner {
	owners := make([]owner, 0, len(entries)+1)
	for _, e := range entries {
		update := e.Operation == metav1.ManagedFieldsOperationUpdate
		if !update && e.Operation != metav1.ManagedFieldsOperationApply || e.APIVersion != string(c.version()) ||
			e.FieldsType != "FieldsV1" || !utf8.ValidString(e.Manager) || !utf8.ValidString(e.Subresource) {
			return nil
		}
		for i := range owners {
			if owners[i].is(e.Operation, e.Manager, e.Subresource) {
				return nil
			}
		}
		o := owner{e, c.sets.read(e.FieldsV1)}
		if o.owned == nil {
			return nil
		}
		owners = append(owners, o)
	}
	if len(owners) == 0 {
		return nil
	}
	return owners
}

func (o *owner) is(operation metav1.ManagedFieldsOperationType, manager, sub string) bool {
	return o.Operation == operation && o.Manager == manager && o.Subresource == sub
}

// id tells an owner from others. (Who applies is one, whatever the version.)
func (o *owner) id() string {
	return string(o.Operation) + "\x00" + o.Manager + "\x00" + o.Subresource
}

func (c *changed) version() fieldpath.APIVersion {
	return fieldpath.APIVersion(c.gvk.GroupVersion().String())
}

// compare says which fields of live have another value in obj, or are new, and
// which are gone.
func (c *changed) compare(live, obj kind.Object) (modified, removed *fieldpath.Set, ok bool) {
	from, to := c.apart(live, obj)
	before, err := value.NewValueReflect(from)
	if err != nil {
		return nil, nil, false
	}
	after, err := value.NewValueReflect(to)
	if err != nil {
		return nil, nil, false
	}
	diff, err := typed.AsTypedUnvalidated(before, c.like.Schema(), c.like.TypeRef()).
		Compare(typed.AsTypedUnvalidated(after, c.like.Schema(), c.like.TypeRef()))
	if err != nil {
		return nil, nil, false
	}
	diff = diff.FilterFields(c.ignored)
	return diff.Modified.Union(diff.Added), diff.Removed, true
}

// settle gives manager what it has modified, and takes it from others. False:
// there are too many managers.
func (c *changed) settle(owners []owner, modified, removed *fieldpath.Set, manager string) ([]owner, bool) {
	own := modified.Difference(c.nobodys)
	at := -1
	for i := range owners {
		o := &owners[i]
		before, set := o.owned, o.set
		if o.is(metav1.ManagedFieldsOperationUpdate, manager, c.sub) {
			at = i
		}
		if cut := set.Intersection(modified); !cut.Empty() {
			set = set.Difference(cut)
		}
		if !removed.Empty() {
			set = set.Difference(removed)
		}
		if i == at && !own.Empty() {
			now := metav1.NewTime(time.Now().UTC())
			o.Time = &now
			set = own.Union(set)
		}
		if !set.Equals(before.set) {
			o.owned = &owned{set: set}
		}
	}
	if at < 0 && !own.Empty() {
		now := metav1.NewTime(time.Now().UTC())
		owners = append(owners, owner{metav1.ManagedFieldsEntry{Manager: manager, Operation: metav1.ManagedFieldsOperationUpdate,
			APIVersion: string(c.version()), Time: &now, FieldsType: "FieldsV1", Subresource: c.sub}, &owned{set: own}})
	}
	owners, ok := listed(owners)
	updates := 0
	for i := range owners {
		if owners[i].Operation == metav1.ManagedFieldsOperationUpdate {
			updates++
		}
	}
	return owners, ok && updates <= maxManagers
}

// listed are those who own something, and what they own as entries have it.
func listed(owners []owner) ([]owner, bool) {
	owners = slices.DeleteFunc(owners, func(o owner) bool { return o.set.Empty() })
	for i := range owners {
		o := &owners[i]
		if o.fields == nil {
			text, err := o.set.ToJSON()
			if err != nil {
				return nil, false
			}
			o.fields = &metav1.FieldsV1{}
			o.fields.SetRawBytes(text)
		}
		o.FieldsV1 = o.fields
	}
	return owners, true
}

// written are entries in upstream's order.
func written(owners []owner) []metav1.ManagedFieldsEntry {
	if len(owners) == 0 {
		return nil
	}
	entries := make([]metav1.ManagedFieldsEntry, len(owners))
	for i := range owners {
		entries[i] = owners[i].ManagedFieldsEntry
	}
	second := func(t *metav1.Time) int64 {
		if t == nil {
			return 0
		}
		return t.Unix()
	}
	slices.SortFunc(entries, func(a, b metav1.ManagedFieldsEntry) int {
		return cmp.Or(cmp.Compare(a.Operation, b.Operation), cmp.Compare(second(a.Time), second(b.Time)),
			cmp.Compare(a.Manager, b.Manager), cmp.Compare(a.Subresource, b.Subresource))
	})
	return entries
}

// apart are copies of two objects without what is the same in both, as far as
// that is in metadata or in the fields at the top that c.loose names. They share
// what is in them.
func (c *changed) apart(live, obj kind.Object) (from, to any) {
	a, b := shallow(live), shallow(obj)
	va, vb := a.Elem(), b.Elem()
	for _, i := range c.loose {
		fa, fb := va.Field(i), vb.Field(i)
		if m, ok := fa.Addr().Interface().(*metav1.ObjectMeta); ok {
			metaApart(m, fb.Addr().Interface().(*metav1.ObjectMeta))
		} else if reflect.DeepEqual(fa.Interface(), fb.Interface()) {
			fa.SetZero()
			fb.SetZero()
		}
	}
	return a.Interface(), b.Interface()
}

func metaApart(a, b *metav1.ObjectMeta) {
	drop(&a.Name, &b.Name)
	drop(&a.GenerateName, &b.GenerateName)
	drop(&a.Namespace, &b.Namespace)
	drop(&a.SelfLink, &b.SelfLink)
	drop(&a.UID, &b.UID)
	drop(&a.ResourceVersion, &b.ResourceVersion)
	drop(&a.Generation, &b.Generation)
	drop(&a.CreationTimestamp, &b.CreationTimestamp)
	if maps.Equal(a.Labels, b.Labels) && (a.Labels == nil) == (b.Labels == nil) {
		a.Labels, b.Labels = nil, nil
	}
	if maps.Equal(a.Annotations, b.Annotations) && (a.Annotations == nil) == (b.Annotations == nil) {
		a.Annotations, b.Annotations = nil, nil
	}
}

func drop[T comparable](a, b *T) {
	if *a == *b {
		var none T
		*a, *b = none, none
	}
}

// shallow is a copy of an object that shares all that is behind pointers.
func shallow(obj kind.Object) reflect.Value {
	v := reflect.ValueOf(obj).Elem()
	c := reflect.New(v.Type())
	c.Elem().Set(v)
	return c
}

// loose are the fields of a kind's type that can be left out of a comparison
// where they are the same: metadata, and what has no lists whose elements have
// keys. An element without one is a mistake that is to be found.
func loose(t reflect.Type) (all []int) {
	for i := range t.NumField() {
		if f := t.Field(i).Type; f == reflect.TypeFor[metav1.ObjectMeta]() || keyless(f, 0) {
			all = append(all, i)
		}
	}
	return all
}

// keyless says whether no list in values of t has elements with keys. Types that
// are deeper than any plain one are taken to have some.
func keyless(t reflect.Type, depth int) bool {
	switch t.Kind() {
	case reflect.Slice:
		e := t.Elem().Kind()
		return e != reflect.Struct && e != reflect.Pointer && e != reflect.Interface && e != reflect.Slice
	case reflect.Map, reflect.Pointer:
		return keyless(t.Elem(), depth+1)
	case reflect.Struct:
		for i := range t.NumField() {
			if depth == 6 || !keyless(t.Field(i).Type, depth+1) {
				return false
			}
		}
	case reflect.Interface, reflect.Array:
		return false
	}
	return true
}
