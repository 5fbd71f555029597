package object

import (
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"

	"sampan/cluster/kind"
)

// Types gives the schema of a version's types, or nil if there is none: then
// fields are owned as far as they can be told apart without one.
type Types func(gvk schema.GroupVersionKind) (managedfields.TypeConverter, error)

// Owners keeps metadata.managedFields: which client wrote which field, and
// server-side apply on top of it. It is safe for concurrent use; the schema of
// a kind is read when it is first written.
type Owners struct {
	types Types

	mu       sync.RWMutex // guards all below
	managers map[managerKey]*managedfields.FieldManager
}

type managerKey struct {
	kind *kind.Kind
	gvk  schema.GroupVersionKind
	sub  string
}

// NewOwners returns the keeper of managed fields.
func NewOwners(types Types) *Owners {
	return &Owners{types: types, managers: map[managerKey]*managedfields.FieldManager{}}
}

// Update records that manager, writing the version gvk, made obj out of live
// (nil: it did not exist). obj's managedFields are set; live is shared and not
// written to. What cannot be recorded is not an error of the write: then obj
// keeps what live had, as upstream does it.
func (o *Owners) Update(k *kind.Kind, gvk schema.GroupVersionKind, sub string, live, obj kind.Object, manager string) error {
	m, err := o.manager(k, gvk, sub)
	if err != nil {
		return err
	}
	if live == nil {
		live = stamped(k.New(), k.GVK)
	}
	m.UpdateNoErrors(live, obj, manager)
	return nil
}

// Apply merges an applied configuration (of version gvk) into live, or makes
// a new object if live is nil. Fields of others that would change are a
// conflict unless force. live is shared; the result is a hub of its own.
func (o *Owners) Apply(k *kind.Kind, gvk schema.GroupVersionKind, sub string, live kind.Object, applied runtime.Object, manager string, force bool) (kind.Object, error) {
	m, err := o.manager(k, gvk, sub)
	if err != nil {
		return nil, err
	}
	if live == nil {
		live = stamped(k.New(), k.GVK)
	}
	merged, err := m.Apply(live, applied, manager, force)
	if err != nil {
		return nil, err
	}
	obj, ok := merged.(kind.Object)
	if !ok {
		return nil, fmt.Errorf("apply %s: the merge returned a %T", k, merged)
	}
	return Hub(k, obj, obj.GetObjectKind().GroupVersionKind())
}

func (o *Owners) manager(k *kind.Kind, gvk schema.GroupVersionKind, sub string) (*managedfields.FieldManager, error) {
	key := managerKey{k, gvk, sub}
	o.mu.RLock()
	m := o.managers[key]
	o.mu.RUnlock()
	if m != nil {
		return m, nil
	}
	types, err := o.types(gvk)
	if err != nil {
		return nil, err
	}
	b := bridge{k}
	build := managedfields.NewDefaultFieldManager
	if types == nil {
		types, build = managedfields.NewDeducedTypeConverter(), managedfields.NewDefaultCRDFieldManager
	}
	m, err = build(types, b, b, b, gvk, k.GVK.GroupVersion(), sub, notOwned(k, sub))
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if made := o.managers[key]; made != nil {
		return made, nil
	}
	o.managers[key] = m
	return m, nil
}

// Forget drops what is kept for a kind that was removed.
func (o *Owners) Forget(k *kind.Kind) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key := range o.managers {
		if key.kind == k {
			delete(o.managers, key)
		}
	}
}

// notOwned are the fields that a write through sub does not change, so that
// nobody comes to own them by sending them.
func notOwned(k *kind.Kind, sub string) map[fieldpath.APIVersion]fieldpath.Filter {
	set := &fieldpath.Set{}
	switch part, ok := k.Parts[sub]; {
	case sub == "":
		if p, ok := k.Parts["status"]; ok && !p.Writable {
			set.Insert(fieldpath.MakePathOrDie("status"))
		}
	case sub == "status" && ok:
		set.Insert(fieldpath.MakePathOrDie("spec"))
		if !part.WithMetadata {
			set.Insert(fieldpath.MakePathOrDie("metadata", "labels"))
		}
	}
	if set.Empty() {
		return nil
	}
	all := map[fieldpath.APIVersion]fieldpath.Filter{}
	for _, gvk := range k.GVKs() {
		all[fieldpath.APIVersion(gvk.GroupVersion().String())] = fieldpath.NewExcludeSetFilter(set)
	}
	return all
}

// bridge lets managedfields convert, default and make the objects of one kind.
type bridge struct{ k *kind.Kind }

func (b bridge) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	want, ok := target.KindForGroupVersionKinds(b.k.GVKs())
	if !ok {
		return nil, runtime.NewNotRegisteredErrForTarget("the table of kinds", b.k.Type, target)
	}
	from := in.GetObjectKind().GroupVersionKind()
	if u, ok := in.(runtime.Unstructured); ok && b.k.Type != nil {
		typed := blank(b.k, from)
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.UnstructuredContent(), typed); err != nil {
			return nil, err
		}
		in = stamped(typed, from)
	}
	if from == want {
		return in, nil
	}
	obj, ok := in.(kind.Object)
	if !ok {
		return nil, fmt.Errorf("convert %T: it is no %s", in, b.k)
	}
	if from != b.k.GVK {
		// ToHub may keep its argument, and that may be shared.
		hub, err := Hub(b.k, obj.DeepCopyObject().(kind.Object), from)
		if err != nil {
			return nil, err
		}
		obj = hub
	}
	return As(b.k, obj, want)
}

func (b bridge) Convert(in, out, _ any) error {
	return fmt.Errorf("convert %T to %T: not needed here", in, out)
}

func (b bridge) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

// Default fills in defaults. They are those of the hub; a merged object of
// another version is defaulted after its conversion, by the verb.
func (b bridge) Default(in runtime.Object) {
	if obj, ok := in.(kind.Object); ok && in.GetObjectKind().GroupVersionKind() == b.k.GVK {
		b.k.Default(obj)
	}
}

func (b bridge) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	return stamped(blank(b.k, gvk), gvk), nil
}
