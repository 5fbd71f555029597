package verb

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sampan/cluster/admission"
	"sampan/cluster/kind"
	"sampan/cluster/object"
	"sampan/cluster/request"
)

// Act posts a body of its own kind to a subresource: "binding", "token",
// "eviction". The answer is to be encoded as it is.
func (a *API) Act(ctx context.Context, r request.Request, b Body) (runtime.Object, error) {
	if err := a.Authorizer.Authorize(ctx, r); err != nil {
		return nil, err
	}
	action, ok := r.Kind.ActionsAs(r.GVK)[r.Subresource]
	if !ok {
		return nil, apierrors.NewMethodNotSupported(resource(r), r.Verb)
	}
	body := action.New()
	warnings, err := object.DecodeInto(body, object.Claimed(b.Data, b.MediaType, action.GVK, action.Also), b.Data, b.MediaType, object.Validation(r.FieldValidation))
	if err != nil {
		return nil, err
	}
	body.GetObjectKind().SetGroupVersionKind(action.GVK)
	warn(r, warnings...)
	return a.act(ctx, r, action, body)
}

// act is what follows once the caller may and the body is read.
func (a *API) act(ctx context.Context, r request.Request, action kind.ErasedAction, body runtime.Object) (runtime.Object, error) {
	if m, ok := body.(metav1.Object); ok {
		if name := m.GetName(); name != "" && name != r.Name {
			return nil, apierrors.NewBadRequest("name in URL does not match name in " + action.GVK.Kind + " object")
		}
		if ns := m.GetNamespace(); ns != "" && ns != r.Namespace {
			return nil, apierrors.NewBadRequest("namespace in URL does not match namespace in " + action.GVK.Kind + " object")
		}
	}
	if action.Check != nil {
		if err := action.Check(r.Name, body); err != nil {
			return nil, err
		}
	}
	if action.Do == nil {
		return a.actElsewhere(ctx, r, body)
	}
	// What an action changes has no owner, as upstream, whose storage does it
	// behind the back of field management.
	_, _, err := a.write(ctx, r, change{owned: true, body: body, next: func(current kind.Object) (kind.Object, error) {
		next := current.DeepCopyObject().(kind.Object)
		next.SetResourceVersion("")
		return next, action.Do(next, body)
	}})
	if err != nil {
		return nil, err
	}
	status := &metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status: metav1.StatusSuccess, Code: 201}
	if action.Said != nil {
		status.Message, status.Code = action.Said(r.Name), 200
	}
	return status, nil
}

// Bind gives a pod to a node, as its subresource binding does, for a caller
// who may and whose body is read.
func (a *API) Bind(ctx context.Context, r request.Request, body runtime.Object) error {
	action, ok := r.Kind.Actions[r.Subresource]
	if !ok {
		return apierrors.NewMethodNotSupported(resource(r), r.Verb)
	}
	_, err := a.act(ctx, r, action, body)
	return err
}

// actElsewhere runs the code that Config has for an action.
func (a *API) actElsewhere(ctx context.Context, r request.Request, body runtime.Object) (runtime.Object, error) {
	do := a.Actions[r.Kind.String()+"/"+r.Subresource]
	if do == nil {
		return nil, apierrors.NewMethodNotSupported(resource(r), r.Verb)
	}
	obj, ok := a.Store.Get(key(r, r.Name))
	if !ok {
		return nil, apierrors.NewNotFound(resource(r), r.Name)
	}
	attempt := &admission.Attempt{Request: r, Operation: admission.Create, Old: obj, Body: body}
	defer attempt.Done(false)
	if err := a.Admission.Mutate(ctx, attempt); err != nil {
		return nil, err
	}
	if err := a.Admission.Review(ctx, attempt); err != nil {
		return nil, err
	}
	return do(ctx, r, obj, body)
}
