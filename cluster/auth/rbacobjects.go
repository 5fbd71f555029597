package auth

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/auth/policy"
	"sampan/cluster/client"
)

// roles are the rules of all roles by name.
type roles struct {
	cluster map[string][]rbacv1.PolicyRule
	local   map[[2]string][]rbacv1.PolicyRule // by namespace and name
}

// of returns the rules of a role; a role that is missing is upstream's error.
func (r *roles) of(ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error) {
	resource := schema.GroupResource{Group: rbacv1.GroupName}
	switch ref.Kind {
	case "ClusterRole":
		if rules, ok := r.cluster[ref.Name]; ok {
			return rules, nil
		}
		resource.Resource = "clusterrole"
	case "Role":
		if rules, ok := r.local[[2]string{namespace, ref.Name}]; ok {
			return rules, nil
		}
		resource.Resource = "role"
	default:
		return nil, fmt.Errorf("%w: %q", errKind, ref.Kind)
	}
	return nil, apierrors.NewNotFound(resource, ref.Name)
}

func (b *RBAC) roles(ctx context.Context) (*roles, error) {
	over, err := listed[*rbacv1.ClusterRole](ctx, b)
	if err != nil {
		return nil, err
	}
	in, err := listed[*rbacv1.Role](ctx, b)
	if err != nil {
		return nil, err
	}
	r := &roles{cluster: make(map[string][]rbacv1.PolicyRule, len(over)), local: make(map[[2]string][]rbacv1.PolicyRule, len(in))}
	for _, o := range over {
		r.cluster[o.Name] = o.Rules
	}
	for _, o := range in {
		r.local[[2]string{o.Namespace, o.Name}] = o.Rules
	}
	return r, nil
}

// listed returns the objects of a kind, with those of the policy that are not
// stored yet, by namespace and name.
func listed[T client.Typed](ctx context.Context, b *RBAC) ([]T, error) {
	var stored []T
	if b.cfg.Objects.Kinds().ByType(reflect.TypeFor[T]()) != nil {
		var err error
		if stored, err = client.List[T](ctx, b.cfg.Objects, client.Query{}); err != nil {
			return nil, err
		}
	}
	p := b.policy.Load()
	if p == nil {
		return stored, nil
	}
	order := func(x, y T) int {
		return cmp.Or(cmp.Compare(x.GetNamespace(), y.GetNamespace()), cmp.Compare(x.GetName(), y.GetName()))
	}
	all := slices.Clone(stored)
	for _, o := range fromPolicy[T](p) {
		if _, ok := slices.BinarySearchFunc(stored, o, order); !ok {
			all = append(all, o)
		}
	}
	slices.SortFunc(all, order)
	return all, nil
}

func fromPolicy[T client.Typed](p *policy.Policy) []T {
	for _, list := range []any{p.ClusterRoles, p.ClusterRoleBindings, p.Roles, p.RoleBindings} {
		if of, ok := list.([]T); ok {
			return of
		}
	}
	return nil
}
