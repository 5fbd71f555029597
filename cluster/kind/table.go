package kind

import (
	"cmp"
	"reflect"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Table is the set of kinds that an API server serves. It is safe for
// concurrent use; the zero value is empty and ready.
type Table struct {
	mu      sync.RWMutex // guards all below
	byGVK   map[schema.GroupVersionKind]*Kind
	byGVR   map[schema.GroupVersionResource]*Kind
	byType  map[reflect.Type]*Kind
	ordered []*Kind       // by group, then plural
	changed chan struct{} // closed at the next change; nil if nobody waits
	number  uint64        // of changes
}

// NewTable returns a table of the kinds given.
func NewTable(groups ...[]*Kind) *Table {
	t := &Table{}
	for _, g := range groups {
		for _, k := range g {
			t.Add(k)
		}
	}
	return t
}

// Add puts k into the table under its hub and all its further versions. A
// kind of the same group and plural is replaced.
func (t *Table) Add(k *Kind) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byGVK == nil {
		t.byGVK = map[schema.GroupVersionKind]*Kind{}
		t.byGVR = map[schema.GroupVersionResource]*Kind{}
		t.byType = map[reflect.Type]*Kind{}
	}
	t.removeLocked(k.GroupResource())
	for _, f := range k.Faces() {
		t.byGVK[f.GVK] = f.Kind
		t.byGVR[f.GVK.GroupVersion().WithResource(k.Plural)] = f.Kind
	}
	if k.Type != nil {
		t.byType[k.Type] = k
	}
	t.ordered = append(slices.Clone(t.ordered), k)
	slices.SortFunc(t.ordered, func(a, b *Kind) int {
		return cmp.Or(cmp.Compare(a.GVK.Group, b.GVK.Group), cmp.Compare(a.Plural, b.Plural))
	})
	t.tellLocked()
}

// Changed returns a channel that is closed when a kind is next added, replaced
// or removed. Who calls it before All misses nothing.
func (t *Table) Changed() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return t.changed
}

// Number is another one after each change. Who has made something of All knows
// by it, read before, whether that still holds.
func (t *Table) Number() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.number
}

func (t *Table) tellLocked() {
	t.number++
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// Remove takes a kind out of the table; nothing happens if it is not there.
func (t *Table) Remove(r schema.GroupResource) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removeLocked(r)
	t.tellLocked()
}

func (t *Table) removeLocked(r schema.GroupResource) {
	i := slices.IndexFunc(t.ordered, func(k *Kind) bool { return k.GroupResource() == r })
	if i < 0 {
		return
	}
	k := t.ordered[i]
	for _, f := range k.Faces() {
		delete(t.byGVK, f.GVK)
		delete(t.byGVR, f.GVK.GroupVersion().WithResource(k.Plural))
	}
	if k.Type != nil {
		delete(t.byType, k.Type)
	}
	t.ordered = slices.Delete(slices.Clone(t.ordered), i, i+1)
}

// All returns the kinds, ordered by group and plural. Do not write to it.
func (t *Table) All() []*Kind {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.ordered
}

// ByGVK returns the kind served as gvk, or nil.
func (t *Table) ByGVK(gvk schema.GroupVersionKind) *Kind {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byGVK[gvk]
}

// ByGVR returns the kind served at gvr, or nil.
func (t *Table) ByGVR(gvr schema.GroupVersionResource) *Kind {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byGVR[gvr]
}

// ByType returns the kind whose hub is the pointer type given, or nil.
func (t *Table) ByType(typ reflect.Type) *Kind {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byType[typ]
}

// ValidateAs reports the faults of an object that a request brought as gvk: the
// kind's, and those only that version looks for. obj and old are of the hub.
func (k *Kind) ValidateAs(gvk schema.GroupVersionKind, obj, old Object) field.ErrorList {
	errs := k.Forgiven(gvk, k.Validate(obj, old), obj)
	if v := k.Version(gvk); v != nil && v.Validate != nil {
		errs = append(errs, v.Validate(obj, old)...)
	}
	return errs
}

// PrepareAs settles what belongs to the server in an object that a request
// brought as gvk.
func (k *Kind) PrepareAs(gvk schema.GroupVersionKind, obj, old Object) {
	k.Prepare(obj, old)
	if gvk == k.GVK && k.Drop != nil {
		k.Drop(obj, old)
	}
}

// Forgiven are those of errs, faults of obj, that are faults in the version gvk
// too.
func (k *Kind) Forgiven(gvk schema.GroupVersionKind, errs field.ErrorList, obj Object) field.ErrorList {
	if v := k.Version(gvk); v != nil && v.Forgive != nil && len(errs) > 0 {
		return v.Forgive(errs, obj)
	}
	return errs
}

// Version returns the further version of k named gvk, or nil for the hub.
func (k *Kind) Version(gvk schema.GroupVersionKind) *Version {
	for i := range k.Versions {
		if k.Versions[i].GVK == gvk {
			return &k.Versions[i]
		}
	}
	return nil
}

// Current are the group versions that upstream serves too, the hub first.
func (k *Kind) Current() []schema.GroupVersionKind {
	all := []schema.GroupVersionKind{k.GVK}
	for _, v := range k.Versions {
		if !v.Old {
			all = append(all, v.GVK)
		}
	}
	return all
}

// GVKs are all group versions that serve the kind, the hub first.
func (k *Kind) GVKs() []schema.GroupVersionKind {
	all := []schema.GroupVersionKind{k.GVK}
	for _, v := range k.Versions {
		all = append(all, v.GVK)
	}
	return all
}
