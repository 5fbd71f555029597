package admission

import (
	"context"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/utils/ptr"

	"sampan/cluster/kind"
)

// OwnerReferences lets only those say who owns an object that may delete it,
// and only those keep an owner from being deleted that may finalize the owner:
// upstream's OwnerReferencesPermissionEnforcement.
type OwnerReferences struct {
	May   authorizer.UnconditionalAuthorizer
	Kinds *kind.Table
}

// Review implements Reviewer.
func (o OwnerReferences) Review(ctx context.Context, a *Attempt) error {
	r := a.Request
	if a.Operation != Create && a.Operation != Update || a.Object == nil || a.Body != nil || r.Subresource == "status" && r.Kind.Plural == "pods" {
		return nil
	}
	now, was := a.Object.GetOwnerReferences(), []metav1.OwnerReference(nil)
	if a.Old != nil {
		was = a.Old.GetOwnerReferences()
	}
	if kind.Equal(now, was) || len(now) == 0 && len(was) == 0 {
		return nil
	}
	who := &user.DefaultInfo{Name: r.User.Name, UID: r.User.UID, Groups: r.User.Groups, Extra: r.User.Extra}
	if a.Operation != Create {
		d, why, err := o.May.Authorize(ctx, authorizer.AttributesRecord{User: who, Verb: "delete", Namespace: r.Namespace, APIGroup: r.GVK.Group,
			APIVersion: r.GVK.Version, Resource: r.Kind.Plural, Subresource: r.Subresource, Name: r.Name, ResourceRequest: true})
		if d != authorizer.DecisionAllow {
			return forbidden(a, fmt.Errorf("cannot set an ownerRef on a resource you can't delete: %v, %v", why, err))
		}
	}
	blocks := blocking(now, was)
	if len(blocks) == 0 {
		return nil
	}
	finalize := authorizer.AttributesRecord{User: who, Verb: "update", Subresource: "finalizers", ResourceRequest: true}
	all := finalize
	all.APIGroup, all.APIVersion, all.Resource, all.Name = "*", "*", "*", "*"
	if d, _, _ := o.May.Authorize(ctx, all); d == authorizer.DecisionAllow {
		return nil
	}
	for _, ref := range blocks {
		gvk := schema.FromAPIVersionAndKind(ref.APIVersion, ref.Kind)
		k := o.Kinds.ByGVK(gvk)
		if k == nil {
			return forbidden(a, fmt.Errorf("cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion %s Kind %s: no matches for kind %q in version %q",
				ref.APIVersion, ref.Kind, ref.Kind, ref.APIVersion))
		}
		one := finalize
		one.APIGroup, one.APIVersion, one.Resource, one.Name = gvk.Group, gvk.Version, k.Plural, ref.Name
		if !k.Cluster {
			one.Namespace = r.Namespace
		}
		if d, why, err := o.May.Authorize(ctx, one); d != authorizer.DecisionAllow {
			return forbidden(a, fmt.Errorf("cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: %v, %v", why, err))
		}
	}
	return nil
}

// blocking are the references that keep their owners from being deleted and
// did not before.
func blocking(now, was []metav1.OwnerReference) []metav1.OwnerReference {
	return slices.DeleteFunc(slices.Clone(now), func(ref metav1.OwnerReference) bool {
		did := slices.ContainsFunc(was, func(old metav1.OwnerReference) bool {
			return old.UID == ref.UID && ptr.Deref(old.BlockOwnerDeletion, false)
		})
		return did || !ptr.Deref(ref.BlockOwnerDeletion, false)
	})
}
