package verb

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
	"sampan/cluster/object"
	"sampan/cluster/request"
)

// scaleGVK is the kind of every scale subresource's body.
var scaleGVK = autoscalingv1.SchemeGroupVersion.WithKind("Scale")

// unset are the replicas, upstream's number, that a change of a scale sees where
// the object has none: it may set them, and may not leave them so.
const unset = math.MinInt32

// scaled is what a client reads as the scale of obj.
func scaled(k *kind.Kind, obj kind.Object) (*autoscalingv1.Scale, error) {
	if k.Scale.Check != nil {
		if err := k.Scale.Check(obj); err != nil {
			return nil, apierrors.NewInternalError(err)
		}
	}
	return scaleOf(k, obj), nil
}

// scaleOf is the scale of obj.
func scaleOf(k *kind.Kind, obj kind.Object) *autoscalingv1.Scale {
	s := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{
		Name: obj.GetName(), Namespace: obj.GetNamespace(), UID: obj.GetUID(),
		ResourceVersion: obj.GetResourceVersion(), CreationTimestamp: obj.GetCreationTimestamp(),
	}}
	s.SetGroupVersionKind(scaleGVK)
	s.Spec, s.Status = k.Scale.Get(obj)
	return s
}

// scale sets the replicas of an object to those of the scale that wanted
// makes of the current one, and returns the new one.
func (a *API) scale(ctx context.Context, r request.Request, wanted func(*autoscalingv1.Scale) (*autoscalingv1.Scale, error)) (kind.Object, error) {
	obj, _, err := a.write(ctx, r, change{next: func(current kind.Object) (kind.Object, error) {
		was := scaleOf(r.Kind, current)
		if r.Kind.Scale.Check != nil && r.Kind.Scale.Check(current) != nil {
			was.Spec.Replicas = unset
		}
		want, err := wanted(was)
		if err != nil {
			return nil, err
		}
		if want.Spec.Replicas == unset {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("the spec replicas field %q cannot be empty", "."+strings.Join(replicasPath(r.Kind), ".")))
		}
		if err := named(want, r); err != nil {
			return nil, err
		}
		if err := countable(want, r); err != nil {
			return nil, err
		}
		if uid := want.UID; uid != "" && uid != current.GetUID() {
			return nil, precondition(r, want, current)
		}
		if rv := want.ResourceVersion; rv != "" && rv != current.GetResourceVersion() {
			return nil, apierrors.NewConflict(resource(r), r.Name, errors.New(modified))
		}
		next := current.DeepCopyObject().(kind.Object)
		r.Kind.Scale.Set(next, want.Spec.Replicas)
		return next, nil
	}})
	if err != nil {
		return nil, err
	}
	return scaleOf(r.Kind, obj), nil
}

// countable refuses a scale that wants less than nothing.
func countable(want *autoscalingv1.Scale, r request.Request) error {
	if n := want.Spec.Replicas; n < 0 {
		return apierrors.NewInvalid(scaleGVK.GroupKind(), r.Name, field.ErrorList{field.Invalid(
			field.NewPath("spec", "replicas"), n, "must be greater than or equal to 0").WithOrigin("minimum")})
	}
	return nil
}

// replicasPath is where objects of k have their replicas.
func replicasPath(k *kind.Kind) []string {
	if k.Scale.Path == nil {
		return []string{"spec", "replicas"}
	}
	return k.Scale.Path
}

// applyScale applies a configuration of a Scale. Only spec.replicas can be
// set; it is a conflict if another manager owns the object's replicas and
// wants another number.
func (a *API) applyScale(ctx context.Context, r request.Request, data []byte) (kind.Object, bool, error) {
	config, warnings, err := object.Applied(scaleGVK, data, object.Validation(r.FieldValidation))
	if err != nil {
		return nil, false, err
	}
	warn(r, warnings...)
	want := &autoscalingv1.Scale{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(config.Object, want); err != nil {
		return nil, false, apierrors.NewBadRequest(err.Error())
	}
	if want.Name == "" {
		want.Name = r.Name
	}
	obj, _, err := a.write(ctx, r, change{owned: true, next: func(current kind.Object) (kind.Object, error) {
		if err := named(want, r); err != nil {
			return nil, err
		}
		// The same as applying a configuration of the object with nothing but
		// its replicas.
		only := &unstructured.Unstructured{Object: map[string]any{
			"metadata": map[string]any{"name": r.Name, "namespace": r.Namespace},
		}}
		if err := unstructured.SetNestedField(only.Object, int64(want.Spec.Replicas), replicasPath(r.Kind)...); err != nil {
			return nil, err
		}
		only.SetGroupVersionKind(r.GVK)
		next, err := a.owners.Apply(r.Kind, r.GVK, r.Subresource, current, only, r.FieldManager, r.Force)
		if err != nil {
			return nil, err
		}
		if err := countable(want, r); err != nil {
			return nil, err
		}
		// After a conflict of owners, as upstream, whose storage compares it.
		if rv := want.ResourceVersion; rv != "" && rv != current.GetResourceVersion() {
			return nil, apierrors.NewConflict(resource(r), r.Name, errors.New(modified))
		}
		next.SetResourceVersion("")
		return next, nil
	}})
	if err != nil {
		return nil, false, err
	}
	return scaleOf(r.Kind, obj), false, nil
}
