package auth

import (
	"context"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"

	"sampan/cluster/request"
)

// masters: the group system:masters may do everything, whatever else says.
type masters struct{}

func (masters) Allows(_ context.Context, a Attributes) (bool, string) {
	return slices.Contains(a.User.Groups, Masters), ""
}

func (masters) Rules(_ context.Context, u request.User, _ string) ([]rbacv1.PolicyRule, bool, error) {
	if !slices.Contains(u.Groups, Masters) {
		return nil, false, nil
	}
	all := []string{"*"}
	return []rbacv1.PolicyRule{{Verbs: all, APIGroups: all, Resources: all}, {Verbs: all, NonResourceURLs: all}}, false, nil
}
