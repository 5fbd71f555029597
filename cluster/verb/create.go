package verb

import (
	"context"
	"errors"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sampan/cluster/admission"
	"sampan/cluster/kind"
	"sampan/cluster/object"
	"sampan/cluster/request"
)

// attempts is how often a generated name is chosen, upstream's.
const attempts = 8

// Create makes a new object from body and returns it as stored. The order is
// upstream's and is part of the API: permission before the body is looked at;
// defaults before admission, so that a webhook sees the full object;
// validation after it, so that a webhook cannot make an object invalid.
func (a *API) Create(ctx context.Context, r request.Request, b Body) (kind.Object, error) {
	if err := a.Authorizer.Authorize(ctx, r); err != nil {
		return nil, err
	}
	body, err := a.codec.Decode(r.Kind, r.GVK, b.Data, b.MediaType, object.Validation(r.FieldValidation))
	if err != nil {
		return nil, err
	}
	warn(r, body.Warnings...)
	return a.create(ctx, r, body.Object)
}

// create is what follows once the caller may and the body is read. obj belongs
// to it.
func (a *API) create(ctx context.Context, r request.Request, obj kind.Object) (kind.Object, error) {
	if r.Kind.Custom != nil && r.Kind.Custom.Ending {
		return nil, apierrors.NewForbidden(resource(r), obj.GetName(),
			errors.New("create not allowed while custom resource definition is terminating"))
	}
	if err := placed(obj, r); err != nil {
		return nil, err
	}
	choose := obj.GetName() == "" && obj.GetGenerateName() != ""
	for try := 1; ; try++ {
		next := obj
		if choose {
			if next = obj.DeepCopyObject().(kind.Object); try == attempts {
				next = obj
			}
			next.SetName(generated(obj.GetGenerateName()))
		}
		made, err := a.createOnce(ctx, r, next)
		if choose && apierrors.IsAlreadyExists(err) {
			if try < attempts {
				continue
			}
			return nil, apierrors.NewGenerateNameConflict(resource(r), next.GetName(), 1)
		}
		return made, err
	}
}

func (a *API) createOnce(ctx context.Context, r request.Request, obj kind.Object) (kind.Object, error) {
	attempt := &admission.Attempt{Request: r, Operation: admission.Create, Object: obj}
	attempt.Request.Name = obj.GetName()
	defer attempt.Done(false)
	if err := a.settleNew(ctx, r, attempt, true); err != nil {
		return nil, err
	}
	if r.DryRun {
		if current, exists := a.Store.Get(key(r, obj.GetName())); exists {
			return nil, there(attempt.Request, current)
		}
		return obj, nil
	}
	// Last, as upstream's store says it. One that is no number says nothing
	// (storage.APIObjectVersioner).
	if rv, err := strconv.ParseUint(obj.GetResourceVersion(), 10, 64); err == nil && rv != 0 {
		return nil, apierrors.NewBadRequest("resourceVersion should not be set on objects to be created")
	}
	obj, err := object.ToStore(r.Kind, obj)
	if err != nil {
		return nil, err
	}
	stored, err := a.Store.Create(ctx, key(r, obj.GetName()), obj)
	if err != nil {
		if err = failure(attempt.Request, err); apierrors.IsAlreadyExists(err) {
			if current, ok := a.Store.Get(key(r, obj.GetName())); ok {
				err = there(attempt.Request, current)
			}
		}
		return nil, err
	}
	attempt.Done(true)
	return inside(r, stored)
}

// settleNew brings a new object into the state in which it is stored, or
// refuses it. An applied object has its owners already (own is false).
func (a *API) settleNew(ctx context.Context, r request.Request, attempt *admission.Attempt, own bool) error {
	obj, k := attempt.Object, r.Kind
	k.Default(obj)
	oneOwnerEach(obj, r, false)
	a.stamp(obj, r)
	if own {
		if err := a.owners.Update(k, r.GVK, "", nil, obj, manager(r)); err != nil {
			return err
		}
	}
	if err := a.Admission.Mutate(ctx, attempt); err != nil {
		return err
	}
	oneOwnerEach(obj, r, true)
	for _, p := range k.Parts {
		if !p.Writable && !p.KeepOnCreate {
			p.Take(obj, k.New())
		}
	}
	k.Default(obj) // admission and what was taken away may have left gaps
	k.PrepareAs(r.GVK, obj, nil)
	if obj.GetName() != "" { // what has none is refused below, and nothing can belong to it
		if err := a.Admission.Allocate(ctx, attempt); err != nil {
			return err
		}
	}
	errs := append(validMetadata(obj, r), k.ValidateAs(r.GVK, obj, nil)...)
	if len(errs) == 0 {
		errs = validName(obj)
	}
	if len(errs) > 0 {
		return invalid(r, obj.GetName(), errs)
	}
	advise(r, obj, nil)
	return a.Admission.Review(ctx, attempt)
}
