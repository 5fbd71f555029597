// Package claim settles what a controller's object controls: it takes the
// orphans that its selector matches, and lets go of what it matches no more.
// Replica sets claim pods, deployments claim replica sets.
//
// It knows nothing of what an owner does with what it owns.
package claim

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/controller/loop"
	"sampan/cluster/kind"
)

// Verdict says what belongs to an owner.
type Verdict[T kind.Object] struct {
	Mine    []T // those to be adopted included
	Adopt   []T
	Release []T
}

// Decide sorts candidates, which may contain anything of the owner's
// namespace. An owner that is being deleted neither takes nor gives. member may
// be nil; else it says who may belong to owner at all, whatever its labels.
func Decide[T kind.Object](owner metav1.Object, selector labels.Selector, member func(owner metav1.Object, obj T) bool, candidates []T) (v Verdict[T]) {
	leaving := owner.GetDeletionTimestamp() != nil
	for _, obj := range candidates {
		matches := selector.Matches(labels.Set(obj.GetLabels())) && (member == nil || member(owner, obj))
		switch ref := metav1.GetControllerOfNoCopy(obj); {
		case ref != nil && ref.UID != owner.GetUID():
		case ref != nil && matches:
			v.Mine = append(v.Mine, obj)
		case ref != nil && !leaving:
			v.Release = append(v.Release, obj)
		case ref == nil && matches && !leaving && obj.GetDeletionTimestamp() == nil:
			v.Mine = append(v.Mine, obj)
			v.Adopt = append(v.Adopt, obj)
		}
	}
	return v
}

// Claims is one kind of owner and one kind of what it owns. Note must be
// called for every event of a watch of the latter; the rest reads the cache.
type Claims[T client.Typed] struct {
	Client client.Client
	Owner  *kind.Kind

	// Finalizer, if set, comes and goes with the ownership: what is adopted
	// gets it, what is let go loses it.
	Finalizer string
	Member    func(owner metav1.Object, obj T) bool // who may belong to an owner at all; nil: whoever matches its selector

	mu      sync.Mutex // guards orphans
	orphans map[string]map[string]struct{}
}

// Note remembers objects without a controller, so that looking for them is no
// scan of a namespace.
func (c *Claims[T]) Note(e client.Change[T]) {
	if e.Type == client.Synced {
		return
	}
	namespace, name := e.Object.GetNamespace(), e.Object.GetName()
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.Type != client.Deleted && metav1.GetControllerOfNoCopy(e.Object) == nil {
		if c.orphans == nil {
			c.orphans = map[string]map[string]struct{}{}
		}
		if c.orphans[namespace] == nil {
			c.orphans[namespace] = map[string]struct{}{}
		}
		c.orphans[namespace][name] = struct{}{}
		return
	}
	delete(c.orphans[namespace], name)
	if len(c.orphans[namespace]) == 0 {
		delete(c.orphans, namespace)
	}
}

// Of returns what owner controls, after taking and letting go what Decide
// says. The objects are the cache's, by name.
func (c *Claims[T]) Of(ctx context.Context, owner kind.Object, selector labels.Selector) ([]T, error) {
	candidates, err := c.candidates(ctx, owner)
	if err != nil {
		return nil, err
	}
	v := Decide(owner, selector, c.Member, candidates)
	if len(v.Adopt)+len(v.Release) == 0 {
		return v.Mine, nil
	}
	for _, obj := range v.Adopt {
		if err := c.patch(ctx, obj, "finalizers", *metav1.NewControllerRef(owner, c.Owner.GVK)); err != nil {
			return nil, err
		}
	}
	for _, obj := range v.Release {
		if err := c.patch(ctx, obj, "$deleteFromPrimitiveList/finalizers", map[string]any{"$patch": "delete", "uid": owner.GetUID()}); err != nil {
			return nil, err
		}
	}
	// What was adopted has changed; the cache shows our own writes.
	if candidates, err = c.candidates(ctx, owner); err != nil {
		return nil, err
	}
	mine := Decide(owner, selector, c.Member, candidates)
	return slices.DeleteFunc(mine.Mine, func(obj T) bool { return metav1.GetControllerOfNoCopy(obj) == nil }), nil
}

// Owners returns the owners of a namespace that would adopt obj. selector
// returns an owner's.
func Owners[O client.Typed](ctx context.Context, r client.Reader, obj kind.Object, selector func(O) *metav1.LabelSelector) []O {
	all, err := client.List[O](ctx, r, client.Query{Namespace: obj.GetNamespace()})
	if err != nil {
		return nil // the watch's context has ended; nothing else makes a read of memory fail
	}
	return slices.DeleteFunc(all, func(o O) bool {
		s, err := metav1.LabelSelectorAsSelector(selector(o))
		return err != nil || s.Empty() || !s.Matches(labels.Set(obj.GetLabels()))
	})
}

// Concerned are the owners of kind O that a change of an object concerns: who
// controls it, who did before, and if nobody does, who would adopt it.
func Concerned[O client.Typed, T kind.Object](ctx context.Context, r client.Reader, e client.Change[T], selector func(O) *metav1.LabelSelector) (all []types.NamespacedName) {
	add := func(name string) {
		all = append(all, types.NamespacedName{Namespace: e.Object.GetNamespace(), Name: name})
	}
	k := client.KindOf[O](r)
	now, none := Controller(e.Object, k), *new(T)
	if any(e.Old) != any(none) {
		if old := Controller(e.Old, k); old != "" && old != now {
			add(old)
		}
	}
	switch {
	case now != "":
		add(now)
	case metav1.GetControllerOfNoCopy(e.Object) == nil && e.Type != client.Deleted:
		for _, o := range Owners(ctx, r, e.Object, selector) {
			add(o.GetName())
		}
	}
	return all
}

// Wake notes a change of an object, and calls add for the owners that it
// concerns.
func Wake[O, T client.Typed](ctx context.Context, c *Claims[T], e client.Change[T], selector func(O) *metav1.LabelSelector, add func(types.NamespacedName)) {
	c.Note(e)
	for _, key := range Concerned(ctx, c.Client, e, selector) {
		add(key)
	}
}

// Watch does what Wake does, for all changes of objects of type T.
func Watch[O, T client.Typed](c *Claims[T], selector func(O) *metav1.LabelSelector, add func(types.NamespacedName)) loop.Source {
	return client.Changes(c.Client, client.Query{}, func(ctx context.Context, e client.Change[T]) {
		Wake(ctx, c, e, selector, add)
	})
}

// Owner is the owner of this name, and what it selects. matches is nil if
// there is nothing to be done for it: it is gone, or what it selects cannot be,
// which goes to the log.
func Owner[O client.Typed](ctx context.Context, r client.Reader, key types.NamespacedName, selector func(O) *metav1.LabelSelector, log *slog.Logger) (owner O, matches labels.Selector, err error) {
	owner, err = client.Get[O](ctx, r, key.Namespace, key.Name)
	if apierrors.IsNotFound(err) {
		return owner, nil, nil
	}
	if err != nil {
		return owner, nil, err
	}
	matches, err = metav1.LabelSelectorAsSelector(selector(owner))
	if err != nil {
		log.Warn("object has a selector that cannot be", "kind", client.KindOf[O](r).GVK.Kind, "key", key, "err", err)
		return owner, nil, nil // a change of it wakes us
	}
	return owner, matches, nil
}

// Controller is the name of the object of kind k that controls obj, or "".
func Controller(obj kind.Object, k *kind.Kind) string {
	ref := metav1.GetControllerOfNoCopy(obj)
	if ref == nil || ref.Kind != k.GVK.Kind || ref.APIVersion != k.GVK.GroupVersion().String() {
		return ""
	}
	return ref.Name
}

func (c *Claims[T]) candidates(ctx context.Context, owner kind.Object) ([]T, error) {
	all, err := client.List[T](ctx, c.Client, client.Query{
		Namespace: owner.GetNamespace(), Index: kind.OwnerIndex, Value: string(owner.GetUID())})
	if err != nil {
		return nil, err
	}
	for _, name := range c.names(owner.GetNamespace()) {
		obj, err := client.Get[T](ctx, c.Client, owner.GetNamespace(), name)
		switch {
		case apierrors.IsNotFound(err):
		case err != nil:
			return nil, err
		case !slices.ContainsFunc(all, func(have T) bool { return have.GetName() == name }):
			all = append(all, obj)
		}
	}
	return all, nil
}

func (c *Claims[T]) names(namespace string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := make([]string, 0, len(c.orphans[namespace]))
	for name := range c.orphans[namespace] {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// patch changes one owner reference of obj, and the finalizer under the
// directive given. That obj is gone, or is another by now, is no error: the
// watch tells.
func (c *Claims[T]) patch(ctx context.Context, obj T, finalizers string, ref any) error {
	metadata := map[string]any{"uid": obj.GetUID(), "ownerReferences": []any{ref}}
	if c.Finalizer != "" {
		metadata[finalizers] = []string{c.Finalizer}
	}
	data, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return err
	}
	_, err = c.Client.Patch(ctx, client.KindOf[T](c.Client), client.Patch{
		Namespace: obj.GetNamespace(), Name: obj.GetName(), Type: types.StrategicMergePatchType, Data: data})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
