package object

import (
	"fmt"
	"reflect"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/typed"

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
	managers map[managerKey]*keeper
}

type managerKey struct {
	gvk schema.GroupVersionKind
	sub string
}

// NewOwners returns the keeper of managed fields.
func NewOwners(types Types) *Owners {
	return &Owners{types: types, managers: map[managerKey]*keeper{}}
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
		if m.created.record(obj, manager) {
			return nil
		}
		live = stamped(k.New(), k.GVK)
	} else if m.changed.record(live, obj, manager) {
		return nil
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
	} else if obj := m.applied.merge(live, applied, manager, force); obj != nil {
		return obj, nil
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

func (o *Owners) manager(k *kind.Kind, gvk schema.GroupVersionKind, sub string) (*keeper, error) {
	key := managerKey{gvk, sub}
	if k.Custom != nil {
		// It lasts as long as the kind, which may be declared anew at any time.
		if kept, ok := k.Custom.Kept.Load(key); ok {
			return kept.(*keeper), nil
		}
		m, err := o.build(k, key)
		if err != nil {
			return nil, err
		}
		kept, _ := k.Custom.Kept.LoadOrStore(key, m)
		return kept.(*keeper), nil
	}
	o.mu.RLock()
	m := o.managers[key]
	o.mu.RUnlock()
	if m != nil {
		return m, nil
	}
	m, err := o.build(k, key)
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

func (o *Owners) build(k *kind.Kind, key managerKey) (*keeper, error) {
	types, err := o.types(key.gvk)
	if err != nil {
		return nil, err
	}
	b := bridge{k}
	build := managedfields.NewDefaultFieldManager
	if k.Custom != nil {
		build = managedfields.NewDefaultCRDFieldManager
	}
	if types == nil {
		types, build = managedfields.NewDeducedTypeConverter(), managedfields.NewDefaultCRDFieldManager
	}
	ignored := notOwned(k, key.sub)
	made := &keeper{}
	if k.Type != nil {
		empty, err := types.ObjectToTyped(stamped(blank(k, key.gvk), key.gvk), typed.AllowDuplicates)
		if err != nil {
			return nil, err
		}
		types = plain{TypeConverter: types, gvk: key.gvk, like: empty}
		if key.gvk == k.GVK {
			ignored := ignored[fieldpath.APIVersion(key.gvk.GroupVersion().String())]
			if key.sub == "" {
				made.created = &created{gvk: key.gvk, empty: empty, ignored: ignored, nobodys: nobodys()}
			}
			made.changed = &changed{gvk: key.gvk, sub: key.sub, loose: loose(reflect.TypeOf(k.New()).Elem()), like: empty,
				ignored: ignored, nobodys: nobodys(), sets: &sets{like: empty}}
			made.applied = newApplied(made.changed, types)
		}
	}
	made.FieldManager, err = build(types, b, b, b, key.gvk, k.GVK.GroupVersion(), key.sub, ignored)
	return made, err
}

// notOwned are the fields that a write through sub does not change, so that
// nobody comes to own them by sending them.
func notOwned(k *kind.Kind, sub string) map[fieldpath.APIVersion]fieldpath.Filter {
	set := &fieldpath.Set{}
	for _, name := range k.Unowned {
		set.Insert(fieldpath.MakePathOrDie(name))
	}
	switch part, ok := k.Parts[sub]; {
	case sub == "":
		if p, ok := k.Parts["status"]; ok && !p.Writable {
			set.Insert(fieldpath.MakePathOrDie("status"))
		}
	case sub == "status" && ok:
		set.Insert(fieldpath.MakePathOrDie("spec"))
		if k.Custom != nil || !part.WithMetadata {
			set.Insert(fieldpath.MakePathOrDie("metadata"))
		}
		for _, name := range part.Keeps {
			set.Insert(fieldpath.MakePathOrDie("metadata", name))
		}
	}
	if set.Empty() {
		return nil
	}
	all := map[fieldpath.APIVersion]fieldpath.Filter{}
	for _, gvk := range versions(k) {
		all[fieldpath.APIVersion(gvk.GroupVersion().String())] = fieldpath.NewExcludeSetFilter(set)
	}
	return all
}

// versions are those that a kind's objects can be in.
func versions(k *kind.Kind) []schema.GroupVersionKind {
	if k.Custom != nil {
		return k.Custom.Versions
	}
	return k.GVKs()
}

// bridge lets managedfields convert, default and make the objects of one kind.
type bridge struct{ k *kind.Kind }

func (b bridge) ConvertToVersion(in runtime.Object, target runtime.GroupVersioner) (runtime.Object, error) {
	want, ok := target.KindForGroupVersionKinds(versions(b.k))
	if !ok || !slices.Contains(versions(b.k), want) { // a version of the same group that is not served
		return nil, runtime.NewNotRegisteredErrForTarget("the table of kinds", b.k.Type, target)
	}
	from := in.GetObjectKind().GroupVersionKind()
	if u, ok := in.(runtime.Unstructured); ok && b.k.Type != nil {
		obj := blank(b.k, from)
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.UnstructuredContent(), obj); err != nil {
			return nil, fmt.Errorf("unable to convert unstructured object to %v: %w", from, err)
		}
		in = stamped(obj, from)
	}
	if from == want {
		return in, nil
	}
	obj, ok := in.(kind.Object)
	if !ok {
		return nil, fmt.Errorf("convert %T: it is no %s", in, b.k)
	}
	if b.k.Custom != nil {
		return As(b.k, obj, want)
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

// Default fills in defaults of the object's version. Those of the hub, which a
// merged object of another version lacks, come after its conversion, by the verb.
func (b bridge) Default(in runtime.Object) {
	if obj, ok := in.(kind.Object); ok && b.k.Custom != nil {
		b.k.Default(obj)
		return
	}
	obj, ok := in.(kind.Object)
	if !ok {
		return
	}
	gvk := in.GetObjectKind().GroupVersionKind()
	if v := b.k.Version(gvk); v != nil && v.Default != nil {
		v.Default(obj)
	} else if gvk == b.k.GVK {
		b.k.Default(obj)
	}
}

func (b bridge) New(gvk schema.GroupVersionKind) (runtime.Object, error) {
	return stamped(blank(b.k, gvk), gvk), nil
}
