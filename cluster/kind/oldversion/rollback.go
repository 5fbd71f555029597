package oldversion

import (
	"fmt"
	"maps"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// wish is what a DeploymentRollback says, in every version of it: that a
// deployment is to go back to an earlier revision, 0 for the last one.
type wish struct {
	name        string
	annotations map[string]string
	revision    int64
}

// rollback is the subresource by which clients up to 1.9 had a deployment
// rolled back. It notes the wish in the deployment's annotations; whether there
// is such a revision is the controller's to say. (RollbackREST and
// ValidateDeploymentRollback of Kubernetes 1.15.)
func rollback[T any, P interface {
	*T
	runtime.Object
}](gv schema.GroupVersion, read func(*T) wish) map[string]kind.ErasedAction {
	of := func(body runtime.Object) wish { return read((*T)(body.(P))) }
	return map[string]kind.ErasedAction{"rollback": {
		GVK: gv.WithKind("DeploymentRollback"),
		New: func() runtime.Object { return P(new(T)) },
		Check: func(name string, body runtime.Object) error {
			w := of(body)
			if errs := w.validate(); len(errs) > 0 {
				return apierrors.NewInvalid(schema.GroupKind{Group: appsv1.GroupName, Kind: "DeploymentRollback"}, w.name, errs)
			}
			if w.name != name {
				return apierrors.NewBadRequest("name in URL does not match name in DeploymentRollback object")
			}
			return nil
		},
		Do: func(obj kind.Object, body runtime.Object) error {
			w, d := of(body), obj.(*appsv1.Deployment)
			d.Annotations = maps.Clone(d.Annotations)
			if d.Annotations == nil {
				d.Annotations = map[string]string{}
			}
			maps.Copy(d.Annotations, w.annotations)
			number(&d.ObjectMeta, appsv1.DeprecatedRollbackTo, &w.revision)
			return nil
		},
		Said: func(name string) string { return fmt.Sprintf("rollback request for deployment %q succeeded", name) },
	}}
}

func (w wish) validate() field.ErrorList {
	errs := validation.ValidateAnnotations(w.annotations, field.NewPath("updatedAnnotations"))
	if w.name == "" {
		errs = append(errs, field.Required(field.NewPath("name"), "name is required"))
	}
	return append(errs, validation.ValidateNonnegativeField(w.revision, field.NewPath("rollback", "version"))...)
}
