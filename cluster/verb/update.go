package verb

import (
	"context"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sampan/cluster/kind"
	"sampan/cluster/object"
	"sampan/cluster/request"
)

// Update replaces an object, or the part that r.Subresource names. created is
// true where the kind lets a PUT create.
func (a *API) Update(ctx context.Context, r request.Request, b Body) (obj kind.Object, created bool, err error) {
	if err := a.Authorizer.Authorize(ctx, r); err != nil {
		return nil, false, err
	}
	if r.Subresource == "scale" && r.Kind.Scale != nil {
		s := &autoscalingv1.Scale{}
		warnings, err := object.DecodeInto(s, scaleGVK, b.Data, b.MediaType, object.Validation(r.FieldValidation))
		if err != nil {
			return nil, false, err
		}
		warn(r, warnings...)
		obj, err := a.scale(ctx, r, func(*autoscalingv1.Scale) (*autoscalingv1.Scale, error) { return s, nil })
		return obj, false, err
	}
	if err := part(r); err != nil {
		return nil, false, err
	}
	body, err := a.codec.Decode(r.Kind, r.GVK, b.Data, b.MediaType, object.Validation(r.FieldValidation))
	if err != nil {
		return nil, false, err
	}
	warn(r, body.Warnings...)
	return a.update(ctx, r, body.Object)
}

// update is what follows once the caller may and the body is read. want
// belongs to it.
func (a *API) update(ctx context.Context, r request.Request, want kind.Object) (kind.Object, bool, error) {
	if err := named(want, r); err != nil {
		return nil, false, err
	}
	first, version := true, want.GetResourceVersion()
	return a.write(ctx, r, change{
		create: r.Kind.CreateOnUpdate && r.Subresource == "",
		part:   r.Subresource,
		next: func(current kind.Object) (kind.Object, error) {
			if r.Subresource != "" {
				return taken(r, current, want), nil
			}
			if first && version != "" {
				first = false
				return want, nil // a copy is needed only where another writer was faster
			}
			next := want.DeepCopyObject().(kind.Object)
			next.SetResourceVersion(version) // the first try has taken it away
			return next, nil
		},
	})
}

// part refuses a subresource that is no part of the kind.
func part(r request.Request) error {
	if r.Subresource == "" {
		return nil
	}
	if _, ok := r.Kind.Parts[r.Subresource]; !ok {
		return apierrors.NewMethodNotSupported(resource(r), r.Verb)
	}
	return nil
}
