package verb

import (
	"context"
	"encoding/json"
	"net/http"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
	"sampan/cluster/object"
	"sampan/cluster/request"
)

// Patch changes an object by a document of type pt (JSON, merge, strategic
// merge, or apply), or a part of it by r.Subresource. A patch that names no
// resourceVersion is made again when another writer was faster. created is
// true after an apply of a new object.
func (a *API) Patch(ctx context.Context, r request.Request, pt types.PatchType, data []byte) (obj kind.Object, created bool, err error) {
	if err := a.Authorizer.Authorize(ctx, r); err != nil {
		return nil, false, err
	}
	if pt == types.ApplyYAMLPatchType {
		return a.apply(ctx, r, data)
	}
	if r.Force {
		return nil, false, invalidOptions("PatchOptions",
			field.Forbidden(field.NewPath("force"), "may not be specified for non-apply patch"))
	}
	if !json.Valid(data) {
		return nil, false, apierrors.NewBadRequest("invalid JSON patch")
	}
	validation := object.Validation(r.FieldValidation)
	if r.Subresource == "scale" && r.Kind.Scale != nil {
		obj, err := a.scale(ctx, r, func(current *autoscalingv1.Scale) (*autoscalingv1.Scale, error) {
			next := &autoscalingv1.Scale{}
			warnings, err := object.PatchInto(next, scaleGVK, current, pt, data, validation)
			warn(r, warnings...)
			return next, err
		})
		return obj, false, err
	}
	if err := part(r); err != nil {
		return nil, false, err
	}
	warned := false
	return a.write(ctx, r, change{
		part: r.Subresource,
		next: func(current kind.Object) (kind.Object, error) {
			next, warnings, err := a.codec.Patch(r.Kind, r.GVK, current, pt, data, validation)
			if err != nil {
				return nil, err
			}
			if !warned {
				warned = true
				warn(r, warnings...)
			}
			if next.GetResourceVersion() == "" && next.GetName() != "" && r.Kind.Conditional {
				return nil, unconditional(r)
			}
			if next.GetResourceVersion() == current.GetResourceVersion() {
				next.SetResourceVersion("")
			}
			if r.Subresource != "" {
				if err := named(next, r); err != nil {
					return nil, err
				}
				next = taken(r, current, next)
			}
			return next, nil
		},
	})
}

// apply merges a configuration by field ownership, and creates the object if
// there is none.
func (a *API) apply(ctx context.Context, r request.Request, data []byte) (kind.Object, bool, error) {
	if r.FieldManager == "" {
		return nil, false, invalidOptions("PatchOptions",
			field.Required(field.NewPath("fieldManager"), "is required for apply patch"))
	}
	if errs := metav1validation.ValidateFieldManager(r.FieldManager, field.NewPath("fieldManager")); len(errs) > 0 {
		return nil, false, invalidOptions("PatchOptions", errs...)
	}
	if r.Subresource == "scale" && r.Kind.Scale != nil {
		return a.applyScale(ctx, r, data)
	}
	if err := part(r); err != nil {
		return nil, false, err
	}
	config, warnings, err := object.Applied(r.GVK, data, object.Validation(r.FieldValidation))
	if err != nil {
		return nil, false, err
	}
	warn(r, warnings...)
	return a.write(ctx, r, change{
		create: r.Subresource == "",
		owned:  true,
		part:   r.Subresource,
		next: func(current kind.Object) (kind.Object, error) {
			config := config
			if r.Kind.Custom != nil {
				config = config.DeepCopy() // what is merged has parts of it, and is changed
			}
			next, err := a.owners.Apply(r.Kind, r.GVK, r.Subresource, current, config, r.FieldManager, r.Force)
			if err != nil {
				return nil, unmerged(err)
			}
			if next.GetNamespace() == "" && !r.Kind.Cluster {
				next.SetNamespace(r.Namespace)
			}
			if current == nil && next.GetName() == "" {
				return nil, named(next, r)
			}
			if current == nil {
				return next, nil
			}
			rv, said, _ := unstructured.NestedString(config.Object, "metadata", "resourceVersion")
			if said && rv == "" && r.Kind.Conditional {
				return nil, unconditional(r)
			}
			if rv != "" {
				next.SetResourceVersion(rv)
			} else {
				next.SetResourceVersion("")
			}
			if r.Subresource != "" {
				owners := next.GetManagedFields()
				next = taken(r, current, next)
				next.SetManagedFields(owners)
			}
			return next, nil
		},
	})
}

// unmerged is upstream's answer to a configuration that does not fit the
// schema: an error of the server's, without a reason.
func unmerged(err error) error {
	if _, ok := err.(apierrors.APIStatus); ok {
		return err
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure,
		Code: http.StatusInternalServerError, Message: err.Error()}}
}
