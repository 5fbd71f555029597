package verb

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"sampan/cluster/admission"
	"sampan/cluster/kind"
	"sampan/cluster/request"
	"sampan/cluster/store"
)

// Delete removes an object, or marks it for removal. done is false while it
// still exists, for its grace period or its finalizers: then the answer is the
// object. With done the answer is a Status, or the object's last state for
// kinds with ReturnDeleted. Nil o: the kind's defaults.
func (a *API) Delete(ctx context.Context, r request.Request, o *metav1.DeleteOptions) (answer runtime.Object, done bool, err error) {
	if err := a.Authorizer.Authorize(ctx, r); err != nil {
		return nil, false, err
	}
	if o == nil {
		o = &metav1.DeleteOptions{}
	}
	if errs := metav1validation.ValidateDeleteOptions(o); len(errs) > 0 {
		return nil, false, invalidOptions("DeleteOptions", errs...)
	}
	r.DryRun = r.DryRun || len(o.DryRun) > 0
	if ptr.Deref(o.IgnoreStoreReadErrorWithClusterBreakingPotential, false) {
		return a.discard(ctx, r)
	}
	foretell(r, o)
	return a.delete(ctx, r, o)
}

// foretell warns of what a delete leaves behind that its author may not expect.
func foretell(r request.Request, o *metav1.DeleteOptions) {
	if text := r.Kind.Orphaning; text != "" && o.PropagationPolicy == nil && o.OrphanDependents == nil {
		warn(r, text)
	}
}

func (a *API) delete(ctx context.Context, r request.Request, o *metav1.DeleteOptions) (runtime.Object, bool, error) {
	if err := keyed(r); err != nil {
		return nil, false, err
	}
	obj, gone, err := a.remove(ctx, r, o)
	if err != nil {
		return nil, false, failure(r, err)
	}
	if !gone || r.Kind.ReturnDeleted {
		return obj, gone, nil
	}
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusSuccess,
		Details: &metav1.StatusDetails{
			Name: obj.GetName(), Group: r.GVK.Group, Kind: r.Kind.Plural, UID: obj.GetUID()},
	}, true, nil
}

// errGone ends a transaction that finds the object free to be removed.
var errGone = errors.New("nothing holds the object")

// remove marks the object or removes it, and returns its last state.
func (a *API) remove(ctx context.Context, r request.Request, o *metav1.DeleteOptions) (obj kind.Object, gone bool, err error) {
	for {
		var seen, last kind.Object
		decide := func(current kind.Object) (kind.Object, []store.Op, error) {
			if current == nil {
				return nil, nil, apierrors.NewNotFound(resource(r), r.Name)
			}
			seen = current
			opts := o.DeepCopy()
			attempt := &admission.Attempt{Request: r, Operation: admission.Delete, Old: current, Options: opts}
			defer attempt.Done(false)
			if err := a.Admission.Mutate(ctx, attempt); err != nil {
				return nil, nil, err
			}
			if err := a.Admission.Review(ctx, attempt); err != nil {
				return nil, nil, err
			}
			next, err := leave(r, current, opts, a.Now())
			if last = nil; errors.Is(err, errGone) {
				last, next = next, nil
			}
			return next, nil, err
		}
		if r.DryRun {
			current, _ := a.Store.Get(key(r, r.Name))
			obj, _, err = decide(current)
			if errors.Is(err, errGone) {
				return parting(last, seen), true, nil
			}
			return parting(obj, seen), false, err
		}
		obj, err = a.Store.Transact(ctx, key(r, r.Name), decide)
		if !errors.Is(err, errGone) {
			return obj, false, err
		}
		moved := errors.New("changed meanwhile")
		obj, err = a.Store.Delete(ctx, key(r, r.Name), func(current kind.Object) error {
			if current.GetUID() != seen.GetUID() || current.GetResourceVersion() != seen.GetResourceVersion() {
				return moved
			}
			return nil
		})
		if !errors.Is(err, moved) {
			if err == nil {
				obj = parting(last, obj)
			}
			return obj, err == nil, err
		}
	}
}

// parting is the answer to a delete: last if there is such a state, which was
// never stored, with the revision of stored.
func parting(last, stored kind.Object) kind.Object {
	if last == nil || last == stored {
		return stored
	}
	last.SetResourceVersion(stored.GetResourceVersion())
	return last
}

// leave decides how current leaves: it returns the state in which it stays for
// a while, current if it already is in that, or errGone; with it the state in
// which it left, if that is another one. It is upstream's
// rest.BeforeDelete and the store's part in it.
func leave(r request.Request, current kind.Object, o *metav1.DeleteOptions, now time.Time) (kind.Object, error) {
	if err := foreseen(r, current, o); err != nil {
		return nil, err
	}
	next := current.DeepCopyObject().(kind.Object)
	graceful, pending := grace(r.Kind, next, o, now)
	if pending {
		return current, nil
	}
	switch {
	case r.Kind.Uncollected:
		next.SetFinalizers(withoutCollection(next))
	case next.GetDeletionTimestamp() == nil && r.Kind.String() == "customresourcedefinitions.apiextensions.k8s.io":
		// Its first delete is its own, in upstream's, and knows no dependents.
	default:
		next.SetFinalizers(finalizers(r.Kind, next, o))
	}
	held := len(next.GetFinalizers()) > 0 || r.Kind.Held(next)
	if !graceful {
		if !held {
			return nil, errGone
		}
		mark(r.Kind, next, now)
	} else if *next.GetDeletionGracePeriodSeconds() == 0 && !held {
		return next, errGone
	}
	if current.GetDeletionTimestamp() == nil {
		r.Kind.Leaving(next)
	}
	next.SetResourceVersion("")
	if unchanged(next, current) {
		return current, nil
	}
	return next, nil
}

// foreseen checks the preconditions of a delete.
func foreseen(r request.Request, current kind.Object, o *metav1.DeleteOptions) error {
	p := o.Preconditions
	if p == nil {
		return nil
	}
	of := schema.GroupResource{Group: r.Kind.GVK.Group, Resource: r.Kind.GVK.Kind} // upstream says the kind here
	failed := ""
	switch of.String() { // whose deletes are their own, in upstream's
	case "Namespace":
		failed, of = "Precondition", resource(r)
	case "CustomResourceDefinition.apiextensions.k8s.io":
		failed, of = "precondition", resource(r)
	}
	switch {
	case failed != "" && p.UID != nil && *p.UID != current.GetUID():
		return apierrors.NewConflict(of, r.Name, fmt.Errorf("%s failed: UID in precondition: %v, UID in object meta: %v",
			failed, *p.UID, current.GetUID()))
	case failed != "" && p.ResourceVersion != nil && *p.ResourceVersion != current.GetResourceVersion():
		return apierrors.NewConflict(of, r.Name, fmt.Errorf("%s failed: ResourceVersion in precondition: %v, ResourceVersion in object meta: %v",
			failed, *p.ResourceVersion, current.GetResourceVersion()))
	}
	if p.UID != nil && *p.UID != current.GetUID() {
		return apierrors.NewConflict(of, r.Name, fmt.Errorf(
			"the UID in the precondition (%s) does not match the UID in record (%s). "+
				"The object might have been deleted and then recreated", *p.UID, current.GetUID()))
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != current.GetResourceVersion() {
		return apierrors.NewConflict(of, r.Name, fmt.Errorf(
			"the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). "+
				"The object might have been modified", *p.ResourceVersion, current.GetResourceVersion()))
	}
	return nil
}

// grace marks obj if its kind deletes gracefully. pending is true if it is on
// its way already and this request does not make it shorter.
func grace(k *kind.Kind, obj kind.Object, o *metav1.DeleteOptions, now time.Time) (graceful, pending bool) {
	if leaving := obj.GetDeletionTimestamp(); leaving != nil {
		was := obj.GetDeletionGracePeriodSeconds()
		switch {
		case was == nil || *was == 0:
			return false, false
		case o.GracePeriodSeconds == nil || *o.GracePeriodSeconds >= *was:
			return false, true
		}
		wanted := max(*o.GracePeriodSeconds, 0)
		since := leaving.Add(-time.Duration(*was) * time.Second)
		sooner := metav1.NewTime(since.Add(time.Duration(wanted) * time.Second))
		if at := now.Truncate(time.Second); sooner.Time.Before(at) {
			// Who was asked to stop it gracefully still ends it.
			sooner, wanted = metav1.NewTime(at), min(wanted, 1)
		}
		obj.SetDeletionTimestamp(&sooner)
		obj.SetDeletionGracePeriodSeconds(&wanted)
		return true, false
	}
	if !k.Grace(obj, o) || o.GracePeriodSeconds == nil {
		return false, false
	}
	at := metav1.NewTime(now.Add(time.Duration(*o.GracePeriodSeconds) * time.Second).Truncate(time.Second))
	obj.SetDeletionTimestamp(&at)
	obj.SetDeletionGracePeriodSeconds(o.GracePeriodSeconds)
	if obj.GetGeneration() > 0 {
		obj.SetGeneration(obj.GetGeneration() + 1)
	}
	return true, false
}

// mark says that obj is being deleted and waits for nothing but finalizers. What
// was marked without a grace period, a namespace or a definition, comes to have
// one when it is deleted again, unless its kind holds it.
func mark(k *kind.Kind, obj kind.Object, now time.Time) {
	at := metav1.NewTime(now.Truncate(time.Second))
	first := obj.GetDeletionTimestamp() == nil
	if first && obj.GetGeneration() > 0 {
		obj.SetGeneration(obj.GetGeneration() + 1)
	}
	if was := obj.GetDeletionTimestamp(); was == nil || was.After(at.Time) {
		obj.SetDeletionTimestamp(&at)
	}
	if first || !k.Held(obj) || obj.GetDeletionGracePeriodSeconds() != nil {
		var none int64
		obj.SetDeletionGracePeriodSeconds(&none)
	}
}

// finalizers are obj's with those of garbage collection as the options, the
// object, or the kind want them, in this order.
func finalizers(k *kind.Kind, obj kind.Object, o *metav1.DeleteOptions) []string {
	had, all := obj.GetFinalizers(), withoutCollection(obj)
	wanted := ""
	switch {
	case o.OrphanDependents != nil:
		if *o.OrphanDependents {
			wanted = metav1.FinalizerOrphanDependents
		}
	case o.PropagationPolicy != nil:
		switch *o.PropagationPolicy {
		case metav1.DeletePropagationOrphan:
			wanted = metav1.FinalizerOrphanDependents
		case metav1.DeletePropagationForeground:
			wanted = metav1.FinalizerDeleteDependents
		}
	case slices.Contains(had, metav1.FinalizerOrphanDependents):
		wanted = metav1.FinalizerOrphanDependents
	case slices.Contains(had, metav1.FinalizerDeleteDependents):
		wanted = metav1.FinalizerDeleteDependents
	case k.Orphan:
		wanted = metav1.FinalizerOrphanDependents
	}
	if wanted != "" {
		all = append(all, wanted)
	}
	return all
}

// withoutCollection are obj's finalizers but for those of garbage collection.
func withoutCollection(obj kind.Object) (all []string) {
	for _, f := range obj.GetFinalizers() {
		if f != metav1.FinalizerOrphanDependents && f != metav1.FinalizerDeleteDependents {
			all = append(all, f)
		}
	}
	return all
}

// DeleteCollection deletes what l selects, and returns the objects. An object
// that somebody else deleted meanwhile is not an error; the first other error
// ends it.
func (a *API) DeleteCollection(ctx context.Context, r request.Request, o *metav1.DeleteOptions, l metav1.ListOptions) (*List, error) {
	r = narrowed(r, l)
	if err := a.Authorizer.Authorize(ctx, r); err != nil {
		return nil, err
	}
	if o == nil {
		o = &metav1.DeleteOptions{}
	}
	if errs := metav1validation.ValidateDeleteOptions(o); len(errs) > 0 {
		return nil, invalidOptions("DeleteOptions", errs...)
	}
	if ptr.Deref(o.IgnoreStoreReadErrorWithClusterBreakingPotential, false) {
		return nil, invalidOptions("DeleteOptions", field.Invalid(field.NewPath("ignoreStoreReadErrorWithClusterBreakingPotential"), true,
			"is not allowed with DELETECOLLECTION, try again after removing the option"))
	}
	foretell(r, o)
	r.DryRun = r.DryRun || len(o.DryRun) > 0
	list, err := a.list(ctx, r, l)
	if err != nil {
		return nil, err
	}
	gone := make([]bool, len(list.Objects))
	err = each(len(list.Objects), func(i int) error {
		one := r
		one.Name, one.Namespace = list.Objects[i].GetName(), list.Objects[i].GetNamespace()
		_, _, err := a.delete(ctx, one, o)
		if apierrors.IsNotFound(err) {
			return nil
		}
		gone[i] = err == nil
		return err
	})
	if err != nil {
		return nil, err
	}
	deleted := &List{ResourceVersion: list.ResourceVersion, Continue: list.Continue, Remaining: list.Remaining}
	for i, obj := range list.Objects {
		if gone[i] {
			deleted.Objects = append(deleted.Objects, obj)
		}
	}
	return deleted, nil
}

// sweepers is how many objects of a collection are deleted at a time: writes
// that wait for the disk together wait once.
const sweepers = 16

// each calls do for 0 to n-1, several at a time, until one fails, and returns
// an error of those there were.
func each(n int, do func(i int) error) error {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var wait sync.WaitGroup
	for range min(n, sweepers) {
		wait.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && failed.Load() == nil; i = int(next.Add(1)) - 1 {
				if err := survived(func() error { return do(i) }); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	wait.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// survived calls do and turns a panic into an error: it must not end the
// program because it happened in a goroutine.
func survived(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return do()
}
