// Package garbage deletes what has lost its owners. The graph that it works on
// is the cache itself, by the index of owners that every kind has: nothing is
// copied, and nothing is listed to find out what changed. What to do with one
// object is decided in decide.go; this file finds the objects and carries it
// out.
//
// It knows no kind of object.
package garbage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/controller/loop"
	"sampan/cluster/kind"
)

// Name is this controller's.
const Name = "generic-garbage-collector"

// Config is what the controller needs.
type Config struct {
	Client  client.Client
	Log     *slog.Logger
	Workers int // objects worked on at once; default 8
}

// Controller collects. See the package comment.
type Controller struct {
	cfg  Config
	loop loop.Loop[object]
}

// object names what is looked at. It has no UID: what is there now is what
// counts, whoever had the name when the key was made.
type object struct {
	kind            schema.GroupResource
	namespace, name string
}

func (o object) String() string { return o.kind.String() + " " + o.namespace + "/" + o.name }

// New returns a controller.
func New(cfg Config) *Controller {
	if cfg.Workers == 0 {
		cfg.Workers = 8
	}
	c := &Controller{cfg: cfg}
	c.loop = loop.Loop[object]{Name: "garbage", Workers: cfg.Workers, Log: cfg.Log, Sync: c.sync}
	return c
}

// Run works until ctx ends. It returns when nothing of it runs any more.
func (c *Controller) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	failed := make(chan error, 1)
	followed := map[*kind.Kind]context.CancelFunc{}
	follow := func(k *kind.Kind) {
		ctx, stop := context.WithCancel(ctx)
		followed[k] = stop
		all.Go(func() {
			if err := c.follow(ctx, k); err != nil && c.kindNamed(k.GroupResource()) != nil {
				select {
				case failed <- fmt.Errorf("follow %s: %w", k, err):
				default: // one is enough to end Run
				}
			}
		})
	}
	all.Go(func() { c.loop.Run(ctx) })
	for {
		changed := c.cfg.Client.Kinds().Changed()
		there := map[*kind.Kind]bool{}
		for _, k := range c.cfg.Client.Kinds().All() {
			there[k] = true
			if followed[k] == nil && !passing(k) {
				follow(k)
			}
		}
		for k, stop := range followed {
			if !there[k] {
				stop()
				delete(followed, k)
			}
		}
		select {
		case <-changed:
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// passing is true for kinds that go by themselves and own nothing: upstream's
// ignored resources.
func passing(k *kind.Kind) bool { return k.GVK.Kind == "Event" }

// follow wakes the loop for what changes in k until ctx ends.
func (c *Controller) follow(ctx context.Context, k *kind.Kind) error {
	w, err := c.cfg.Client.Watch(ctx, k, client.Query{})
	if err != nil {
		return err
	}
	atStart := true
	for {
		events, err := w.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		for _, e := range events {
			switch {
			case e.Type == client.Synced:
				atStart = false
			case e.Type == client.Deleted:
				c.gone(ctx, k, e.Object)
			case !concerns(e.Old, e.Object):
			case atStart:
				c.loop.Seed(keyOf(k, e.Object))
			default:
				c.loop.Add(keyOf(k, e.Object))
				if e.Old != nil {
					c.owners(k, e.Object.GetNamespace(), released(e.Old.GetOwnerReferences(), e.Object.GetOwnerReferences()))
				}
			}
		}
	}
}

// gone wakes what an object that is gone owned, and owners that waited for it.
func (c *Controller) gone(ctx context.Context, k *kind.Kind, obj kind.Object) {
	dependents, err := c.dependents(ctx, obj)
	if err != nil {
		return // ctx has ended; nothing else makes a read of memory fail
	}
	for _, dep := range dependents {
		c.loop.Add(dep.key)
	}
	c.owners(k, obj.GetNamespace(), obj.GetOwnerReferences())
}

// owners wakes those of an object's owners that may wait for it.
func (c *Controller) owners(k *kind.Kind, namespace string, refs []metav1.OwnerReference) {
	for _, ref := range refs {
		if !blocking(ref) {
			continue
		}
		if k := c.kindOf(ref); k != nil {
			key := object{k.GroupResource(), namespace, ref.Name}
			if k.Cluster {
				key.namespace = ""
			}
			c.loop.Add(key)
		}
	}
}

// sync looks at one object.
func (c *Controller) sync(ctx context.Context, key object) (again time.Duration, err error) {
	k := c.kindNamed(key.kind)
	if k == nil {
		return 0, nil // the kind is gone, and its objects with it
	}
	obj, err := c.cfg.Client.Get(ctx, k, key.namespace, key.name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if obj.GetDeletionTimestamp() == nil && len(obj.GetOwnerReferences()) == 0 {
		return 0, nil
	}
	owners, err := c.standings(ctx, k, obj)
	if err != nil {
		return 0, err
	}
	var dependents []dependent
	if obj.GetDeletionTimestamp() != nil || slices.ContainsFunc(owners, func(o owner) bool { return o.state == waiting }) {
		if dependents, err = c.dependents(ctx, obj); err != nil {
			return 0, err
		}
	}
	found := make([]kind.Object, len(dependents))
	byUID := make(map[types.UID]dependent, len(dependents))
	for i, dep := range dependents {
		found[i], byUID[dep.obj.GetUID()] = dep.obj, dep
	}
	return 0, c.carryOut(ctx, k, obj, decide(obj, owners, found), byUID)
}

// standings reads what obj's owner references refer to. The cache is the truth
// here: it has every owner that was there when obj was seen.
func (c *Controller) standings(ctx context.Context, k *kind.Kind, obj kind.Object) ([]owner, error) {
	refs := obj.GetOwnerReferences()
	all := make([]owner, len(refs))
	for i, ref := range refs {
		all[i] = owner{uid: ref.UID}
		ok := c.kindOf(ref)
		if ok == nil || !ok.Cluster && k.Cluster {
			// A kind that is not served may come back, and an object without a
			// namespace cannot say in which one its owner is: upstream deletes
			// neither.
			c.cfg.Log.Debug("owner cannot be looked up", "key", keyOf(k, obj).String(), "owner", ref.Kind+" "+ref.Name)
			continue
		}
		namespace := obj.GetNamespace()
		if ok.Cluster {
			namespace = ""
		}
		have, err := c.cfg.Client.Get(ctx, ok, namespace, ref.Name)
		switch {
		case apierrors.IsNotFound(err), err == nil && have.GetUID() != ref.UID:
			all[i].state = absent
		case err != nil:
			return nil, err
		case awaits(have):
			all[i].state = waiting
		}
	}
	return all, nil
}

type dependent struct {
	kind *kind.Kind
	key  object
	obj  kind.Object
}

// dependents are the objects of all kinds that refer to obj as an owner. An
// object in a namespace owns nothing outside of it.
func (c *Controller) dependents(ctx context.Context, obj kind.Object) (all []dependent, err error) {
	for _, k := range c.cfg.Client.Kinds().All() {
		if passing(k) || k.Cluster && obj.GetNamespace() != "" {
			continue
		}
		objs, err := c.cfg.Client.List(ctx, k, client.Query{
			Namespace: obj.GetNamespace(), Index: kind.OwnerIndex, Value: string(obj.GetUID())})
		if apierrors.IsNotFound(err) {
			continue // the kind has gone meanwhile, and its objects with it
		}
		if err != nil {
			return nil, err
		}
		for _, o := range objs {
			all = append(all, dependent{k, keyOf(k, o), o})
		}
	}
	return all, nil
}

// carryOut writes. That something is gone, or was changed by somebody else, is
// no fault: the change wakes the loop if it matters.
func (c *Controller) carryOut(ctx context.Context, k *kind.Kind, obj kind.Object, d decision, dependents map[types.UID]dependent) error {
	var errs []error
	for _, o := range d.orphan {
		dep := dependents[o.GetUID()]
		errs = append(errs, c.disown(ctx, dep.kind, dep.obj, obj.GetUID()))
	}
	if err := errors.Join(errs...); err != nil {
		return err // the finalizer stays until all are let go
	}
	for _, o := range d.look {
		c.loop.Add(dependents[o.GetUID()].key)
	}
	switch {
	case d.free != "":
		return ignoreGone(c.free(ctx, k, obj, d.free))
	case len(d.drop) > 0:
		return c.disown(ctx, k, obj, d.drop...)
	case d.unblock:
		if err := c.unblock(ctx, k, obj); err != nil {
			return err
		}
	}
	if d.delete == "" {
		return nil
	}
	// The revision makes sure that the owner references are still those that
	// were judged. Unblocking has made a new one.
	uid, revision := obj.GetUID(), obj.GetResourceVersion()
	o := &metav1.DeleteOptions{PropagationPolicy: &d.delete, Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &revision}}
	if d.unblock {
		o.Preconditions.ResourceVersion = nil
	}
	return ignoreGone(c.cfg.Client.Delete(ctx, k, obj.GetNamespace(), obj.GetName(), o))
}

// disown takes owner references out of obj.
func (c *Controller) disown(ctx context.Context, k *kind.Kind, obj kind.Object, owners ...types.UID) error {
	lost := map[types.UID]bool{}
	for _, uid := range owners {
		lost[uid] = true
	}
	kept := []metav1.OwnerReference{}
	for _, ref := range obj.GetOwnerReferences() {
		if !lost[ref.UID] {
			kept = append(kept, ref)
		}
	}
	return ignoreGone(c.patch(ctx, k, obj, map[string]any{"ownerReferences": kept}))
}

// unblock has obj's owners not wait for it.
func (c *Controller) unblock(ctx context.Context, k *kind.Kind, obj kind.Object) error {
	no := false
	refs := []metav1.OwnerReference{}
	for _, ref := range obj.GetOwnerReferences() {
		ref.BlockOwnerDeletion = &no
		refs = append(refs, ref)
	}
	return ignoreGone(c.patch(ctx, k, obj, map[string]any{"ownerReferences": refs}))
}

// free takes a finalizer from obj.
func (c *Controller) free(ctx context.Context, k *kind.Kind, obj kind.Object, finalizer string) error {
	kept := []string{}
	for _, f := range obj.GetFinalizers() {
		if f != finalizer {
			kept = append(kept, f)
		}
	}
	return c.patch(ctx, k, obj, map[string]any{"finalizers": kept})
}

// patch changes metadata of obj as it was seen: a merge patch, which kinds of
// all sorts know, with the revision to make sure.
func (c *Controller) patch(ctx context.Context, k *kind.Kind, obj kind.Object, metadata map[string]any) error {
	metadata["uid"], metadata["resourceVersion"] = obj.GetUID(), obj.GetResourceVersion()
	data, err := json.Marshal(map[string]any{"metadata": metadata})
	if err != nil {
		return err
	}
	_, err = c.cfg.Client.Patch(ctx, k, client.Patch{
		Namespace: obj.GetNamespace(), Name: obj.GetName(), Type: types.MergePatchType, Data: data})
	return err
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (c *Controller) kindOf(ref metav1.OwnerReference) *kind.Kind {
	gv, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return nil
	}
	return c.cfg.Client.Kinds().ByGVK(gv.WithKind(ref.Kind))
}

func (c *Controller) kindNamed(r schema.GroupResource) *kind.Kind {
	for _, k := range c.cfg.Client.Kinds().All() {
		if k.GroupResource() == r {
			return k
		}
	}
	return nil
}

func keyOf(k *kind.Kind, obj kind.Object) object {
	return object{k.GroupResource(), obj.GetNamespace(), obj.GetName()}
}
