package verb

import (
	"context"
	"errors"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/admission"
	"sampan/cluster/kind"
	"sampan/cluster/object"
	"sampan/cluster/request"
	"sampan/cluster/store"
)

// change is what one request makes of one object. next is called with what is
// stored, shared, again after a lost race; it returns an object of its own.
// Without an object it is called with nil if create is true.
type change struct {
	next   func(current kind.Object) (kind.Object, error)
	create bool           // a missing object is created
	owned  bool           // next has recorded the owners of fields already
	part   string         // the part that next may change; empty: all but the parts
	body   runtime.Object // of an action, for admission
}

// finished ends a transaction whose object has nothing left to wait for: it is
// to be removed, not written.
type finished struct{ seen, last kind.Object }

func (*finished) Error() string { return "the object's last finalizer was removed" }

// write brings an object from one state to the next: update, patch, apply,
// their parts, scale and actions all come through here.
func (a *API) write(ctx context.Context, r request.Request, c change) (obj kind.Object, created bool, err error) {
	if err := keyed(r); err != nil {
		return nil, false, err
	}
	for {
		obj, created, err = a.writeOnce(ctx, r, c)
		var done *finished
		if !errors.As(err, &done) {
			return obj, created, failure(r, err)
		}
		if r.DryRun {
			return done.last, false, nil
		}
		moved := errors.New("changed meanwhile")
		_, err = a.Store.Delete(ctx, key(r, r.Name), func(current kind.Object) error {
			if current.GetUID() != done.seen.GetUID() || current.GetResourceVersion() != done.seen.GetResourceVersion() {
				return moved
			}
			return nil
		})
		switch {
		case err == nil:
			return done.last, false, nil
		case !errors.Is(err, moved):
			return nil, false, failure(r, err)
		}
	}
}

func (a *API) writeOnce(ctx context.Context, r request.Request, c change) (obj kind.Object, created bool, err error) {
	var attempt *admission.Attempt
	defer func() {
		if attempt != nil {
			attempt.Done(err == nil && !r.DryRun)
		}
	}()
	decide := func(current kind.Object) (kind.Object, []store.Op, error) {
		if attempt != nil {
			attempt.Done(false) // the race before was lost
		}
		attempt = &admission.Attempt{Request: r, Body: c.body}
		created = current == nil
		here, err := inside(r, current)
		if err != nil {
			return nil, nil, err
		}
		next, err := a.decide(ctx, r, c, attempt, here)
		switch {
		case err != nil || r.DryRun:
			return next, nil, err
		case next == here && next != nil && storedRight(r.Kind, current):
			return current, nil, nil
		}
		next, err = object.ToStore(r.Kind, next)
		return next, nil, err
	}
	if r.DryRun {
		current, _ := a.Store.Get(key(r, r.Name))
		obj, _, err = decide(current)
		return obj, created, err
	}
	obj, err = a.Store.Transact(ctx, key(r, r.Name), decide)
	if err == nil {
		obj, err = inside(r, obj)
	}
	return obj, created, err
}

// storedRight is false for an object in a version that is stored no more: a
// write that changes nothing brings it into the present one. (That is how
// objects are migrated.)
func storedRight(k *kind.Kind, obj kind.Object) bool {
	return k.Custom == nil || obj.GetObjectKind().GroupVersionKind() == k.Custom.Storage
}

// inside is a stored object in the version that r asks for. Only the objects of
// kinds declared at run time may be in another: verbs work in the version of
// the request, as upstream's do.
func inside(r request.Request, obj kind.Object) (kind.Object, error) {
	if obj == nil || r.Kind.Custom == nil {
		return obj, nil
	}
	return object.As(r.Kind, obj, r.GVK)
}

// decide returns the next state of current, current itself if nothing changes.
func (a *API) decide(ctx context.Context, r request.Request, c change, attempt *admission.Attempt, current kind.Object) (kind.Object, error) {
	if current == nil && !c.create {
		return nil, apierrors.NewNotFound(resource(r), r.Name)
	}
	next, err := c.next(current)
	if err != nil || next == current {
		return next, err
	}
	if err := named(next, r); err != nil {
		return nil, err
	}
	attempt.Object, attempt.Old = next, current
	if current == nil {
		attempt.Operation = admission.Create
		may := r
		may.Verb = "create"
		if err := a.Authorizer.Authorize(ctx, may); err != nil {
			return nil, err
		}
		if next.GetUID() != "" {
			return nil, apierrors.NewConflict(resource(r), r.Name, errors.New(
				"uid mismatch: the provided object specified uid "+string(next.GetUID())+", and no existing object was found"))
		}
		next.SetResourceVersion("")
		if !r.Kind.Cluster {
			next.SetNamespace(r.Namespace)
		}
		return next, a.settleNew(ctx, r, attempt, !c.owned)
	}
	attempt.Operation = admission.Update
	if err := a.current(r, next, current); err != nil {
		return nil, err
	}
	if err := a.settle(ctx, r, c, attempt); err != nil {
		return nil, err
	}
	return a.outcome(r, next, current)
}

// current checks that next was made from the state there is.
func (a *API) current(r request.Request, next, current kind.Object) error {
	// What a patch says of the UID is a change of a field, as upstream has it.
	if uid := next.GetUID(); uid != "" && uid != current.GetUID() && r.Verb != "patch" {
		return precondition(r, next, current)
	}
	switch rv := next.GetResourceVersion(); {
	case rv == "" || rv == "0":
		if r.Kind.Conditional && r.Subresource != "scale" && r.Verb == "update" {
			return unconditional(r)
		}
		next.SetResourceVersion(current.GetResourceVersion())
	case rv != current.GetResourceVersion():
		return apierrors.NewConflict(resource(r), r.Name, errors.New(modified))
	}
	return nil
}

// settle brings the next state of an object into the form in which it is
// stored, or refuses it.
func (a *API) settle(ctx context.Context, r request.Request, c change, attempt *admission.Attempt) error {
	next, old, k := attempt.Object, attempt.Old, r.Kind
	k.Default(next)
	oneOwnerEach(next, r, false)
	carry(next, old)
	if !c.owned {
		if err := a.owners.Update(k, r.GVK, r.Subresource, old, next, manager(r)); err != nil {
			return err
		}
	}
	if err := a.Admission.Mutate(ctx, attempt); err != nil {
		return err
	}
	oneOwnerEach(next, r, true)
	var errs field.ErrorList
	if part, ok := k.Parts[c.part]; ok {
		part.Prepare(next, old)
		counted(k, next, old)
		errs = append(validChange(next, old, r), k.Forgiven(r.GVK, part.Validate(next, old), next)...)
	} else if c.body != nil {
		counted(k, next, old)
		errs = validChange(next, old, r)
	} else {
		for _, p := range k.Parts {
			if !p.Writable {
				p.Take(next, old)
			}
		}
		k.PrepareAs(r.GVK, next, old)
		if err := a.Admission.Allocate(ctx, attempt); err != nil {
			return err
		}
		counted(k, next, old)
		errs = append(validChange(next, old, r), k.ValidateAs(r.GVK, next, old)...)
		if len(errs) == 0 {
			advise(r, next, old)
		}
	}
	if len(errs) > 0 {
		return invalid(r, next.GetName(), errs)
	}
	return a.Admission.Review(ctx, attempt)
}

// outcome tells apart a change, no change, and the end of an object.
func (a *API) outcome(r request.Request, next, current kind.Object) (kind.Object, error) {
	next.SetResourceVersion("")
	if grace := next.GetDeletionGracePeriodSeconds(); next.GetDeletionTimestamp() != nil && (grace == nil || *grace == 0) &&
		len(next.GetFinalizers()) == 0 && !r.Kind.Held(next) {
		next.SetResourceVersion(current.GetResourceVersion())
		return nil, &finished{seen: current, last: next}
	}
	if unchanged(next, current) {
		return current, nil
	}
	if r.DryRun {
		next.SetResourceVersion(current.GetResourceVersion())
	}
	return next, nil
}

// unchanged says whether next differs from current at most in the times of
// its managed fields: then nothing is written, so that applying the same twice
// is for free.
func unchanged(next, current kind.Object) bool {
	mine, theirs := next.GetManagedFields(), current.GetManagedFields()
	if len(mine) != len(theirs) {
		return false
	}
	for i := range mine {
		a, b := mine[i], theirs[i]
		a.Time, b.Time = nil, nil
		if !equality.Semantic.DeepEqual(a, b) {
			return false
		}
	}
	next.SetManagedFields(theirs)
	next.SetResourceVersion(current.GetResourceVersion())
	if equality.Semantic.DeepEqual(next, current) {
		return true
	}
	next.SetManagedFields(mine)
	next.SetResourceVersion("")
	return false
}

// taken returns a copy of current with the part of r.Subresource taken from
// src, and with src's metadata as far as the part lets it through. What of it
// may not be changed is refused later. (Upstream: ResetObjectMetaForStatus.)
func taken(r request.Request, current, src kind.Object) kind.Object {
	next := current.DeepCopyObject().(kind.Object)
	r.Kind.Parts[r.Subresource].Put(next, src)
	next.SetUID(src.GetUID())
	next.SetName(src.GetName())
	next.SetNamespace(src.GetNamespace())
	next.SetResourceVersion(src.GetResourceVersion())
	next.SetManagedFields(src.GetManagedFields())
	return next
}

// manager is who is said to own the fields that r writes.
func manager(r request.Request) string {
	if r.FieldManager != "" {
		return r.FieldManager
	}
	return "unknown"
}
