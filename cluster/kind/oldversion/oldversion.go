// Package oldversion has the versions of kinds that manifests from before 2021
// still carry and that upstream serves no more: extensions/v1beta1 Deployment
// and its like. They are read and written as they were, with the defaults that
// they had, and stored in the current version.
//
// A version is a line in a table. Fields of the same name are taken over between
// a version and the hub; what differs, defaults and faults that a version does
// not have are beside it, in a file per idea.
//
// oldversion knows no request: who serves the versions warns of them.
package oldversion

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// Serve adds the old versions to the kinds that they are versions of. It is
// called before the kinds are put into a table.
func Serve(kinds []*kind.Kind) {
	all := versions()
	for _, k := range kinds {
		k.Versions = append(k.Versions, all[k.GVK]...)
	}
}

// Read lets objects be read from the store that were stored in an old version,
// and serves none.
func Read(kinds []*kind.Kind) {
	all := versions()
	for _, k := range kinds {
		k.Stored = append(k.Stored, all[k.GVK]...)
	}
}

// versions are all old versions by their kind's hub.
func versions() map[schema.GroupVersionKind][]kind.Version {
	all := map[schema.GroupVersionKind][]kind.Version{}
	for _, add := range []func(table){
		workloads, cronJobs, ingresses, networkPolicies, budgets, roles, webhooks, definitions, priorities,
		volumes, leases, servers, requests, endpointSlices, happenings, autoscalers, runtimes, flows,
	} {
		add(all)
	}
	return all
}

// table collects versions by the hub of their kind.
type table map[schema.GroupVersionKind][]kind.Version

// object is what a pointer to T can do if T is the Go type of a kind.
type object[T any] interface {
	*T
	kind.Object
}

// differs is what a version does otherwise than its hub. All may be nil.
type differs[Old, Hub any] struct {
	old     func(*Old)                                                  // defaults
	up      func(hub *Hub, old *Old)                                    // after fields were taken over from old
	down    func(old *Old, hub *Hub)                                    // after fields were taken over from hub
	parts   func(up, down *copier)                                      // the same for types within
	forgive func(errs field.ErrorList, obj kind.Object) field.ErrorList // faults of the hub less those that are none here
	fields  map[string]func(hub kind.Object) string                     // to select by, if they are not the hub's
	actions map[string]kind.ErasedAction                                // if they are not the hub's
}

// add puts a version into the table. Its kind is called like the Go type.
func add[Old, Hub any, O object[Old], H object[Hub]](t table, of, gv schema.GroupVersion, d differs[Old, Hub]) {
	name := reflect.TypeFor[Hub]().Name()
	gvk := gv.WithKind(name)
	addAs[Old, Hub, O, H](t, of.WithKind(name), gvk, instead(kind.Deprecation(gvk, O(new(Old))), of.WithKind(name)), d)
}

// instead names in a warning what is served today. Some Go types name nothing
// that replaces them, or what has been removed since.
func instead(text string, use schema.GroupVersionKind) string {
	text, _, _ = strings.Cut(text, "; use ")
	return fmt.Sprintf("%s; use %s %s", text, use.GroupVersion(), use.Kind)
}

// addDeprecated is add for Go types that do not know since when they are
// deprecated and until when they were served.
func addDeprecated[Old, Hub any, O object[Old], H object[Hub]](t table, of, gv schema.GroupVersion, since, until string, d differs[Old, Hub]) {
	name := reflect.TypeFor[Hub]().Name()
	text := fmt.Sprintf("%s %s is deprecated in %s+, unavailable in %s+; use %s %s", gv, name, since, until, of, name)
	addAs[Old, Hub, O, H](t, of.WithKind(name), gv.WithKind(name), text, d)
}

func addAs[Old, Hub any, O object[Old], H object[Hub]](t table, hub, gvk schema.GroupVersionKind, deprecated string, d differs[Old, Hub]) {
	var up, down copier
	if d.parts != nil {
		d.parts(&up, &down)
	}
	v := kind.Version{
		GVK: gvk, Old: true, Deprecated: deprecated,
		New: func() kind.Object { return O(new(Old)) },
		Default: func(obj kind.Object) {
			if d.old != nil {
				d.old((*Old)(obj.(O)))
			}
		},
		Forgive: d.forgive, Fields: d.fields, Actions: d.actions,
	}
	v.ToHub = func(obj kind.Object) (kind.Object, error) {
		old, ok := obj.(O)
		if !ok {
			return nil, fmt.Errorf("%s: cannot convert a %T to %s", gvk.Kind, obj, hub.GroupVersion())
		}
		out := new(Hub)
		up.copy(reflect.ValueOf(out).Elem(), reflect.ValueOf(old).Elem())
		if d.up != nil {
			d.up(out, (*Old)(old))
		}
		H(out).GetObjectKind().SetGroupVersionKind(hub)
		return H(out), nil
	}
	v.FromHub = func(obj kind.Object) (kind.Object, error) {
		from, ok := obj.(H)
		if !ok {
			return nil, fmt.Errorf("%s: cannot convert a %T to %s", gvk.Kind, obj, gvk.GroupVersion())
		}
		// A copy, because what is made shares parts of it.
		from, out := from.DeepCopyObject().(H), new(Old)
		down.copy(reflect.ValueOf(out).Elem(), reflect.ValueOf(from).Elem())
		if d.down != nil {
			d.down(out, (*Hub)(from))
		}
		O(out).GetObjectKind().SetGroupVersionKind(gvk)
		return O(out), nil
	}
	t[hub] = append(t[hub], v)
}

// forgive drops the faults that is is true for.
func forgive(is func(*field.Error) bool) func(field.ErrorList, kind.Object) field.ErrorList {
	return func(errs field.ErrorList, _ kind.Object) field.ErrorList { return slices.DeleteFunc(errs, is) }
}

// fill sets a field that was left out.
func fill[T any](field **T, v T) {
	if *field == nil {
		*field = &v
	}
}

// fillEmpty sets a field that has no value.
func fillEmpty[T comparable](field *T, v T) {
	var none T
	if *field == none {
		*field = v
	}
}
