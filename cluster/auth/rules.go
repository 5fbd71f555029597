package auth

import (
	"context"
	"slices"
	"sync/atomic"

	rbacv1 "k8s.io/api/rbac/v1"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"

	"sampan/cluster/request"
)

// masters: the group system:masters may do everything, whatever else says.
type masters struct{}

func (masters) Decide(_ context.Context, a Attributes) (Decision, string, error) {
	return allowing(slices.Contains(a.User.Groups, Masters), "")
}

func (masters) Rules(_ context.Context, u request.User, _ string) ([]rbacv1.PolicyRule, bool, error) {
	if !slices.Contains(u.Groups, Masters) {
		return nil, false, nil
	}
	return everything(), false, nil
}

// server allows the API server itself what it writes, whatever rules there are
// beside this one: it must start with them.
type server struct{}

func (server) Decide(_ context.Context, a Attributes) (Decision, string, error) {
	if a.User.Name != serverName {
		return NoOpinion, "", nil
	}
	rules := serverRules()
	return allowing(slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool { return covers(&r, &a) }), "")
}

func (server) Rules(_ context.Context, u request.User, _ string) ([]rbacv1.PolicyRule, bool, error) {
	if u.Name != serverName {
		return nil, false, nil
	}
	return serverRules(), false, nil
}

func serverRules() []rbacv1.PolicyRule {
	keep := []string{"get", "create", "update"}
	return []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"namespaces", "services", "endpoints", "configmaps"}, Verbs: keep},
		{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"patch"}}, // when a token in it was used
		{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: keep},
		{APIGroups: []string{"networking.k8s.io"}, Resources: []string{"servicecidrs"}, Verbs: keep},
		{APIGroups: []string{"scheduling.k8s.io"}, Resources: []string{"priorityclasses"}, Verbs: keep},
		{APIGroups: []string{"flowcontrol.apiserver.k8s.io"}, Verbs: append([]string{"list", "watch", "patch", "delete"}, keep...),
			Resources: []string{"flowschemas", "flowschemas/status", "prioritylevelconfigurations", "prioritylevelconfigurations/status"}},
		{APIGroups: []string{rbacv1.GroupName}, Resources: []string{"roles", "rolebindings", "clusterroles", "clusterrolebindings"},
			Verbs: append([]string{"delete", "escalate", "bind"}, keep...)},
	}
}

func everything() []rbacv1.PolicyRule {
	all := []string{"*"}
	return []rbacv1.PolicyRule{{Verbs: all, APIGroups: all, Resources: all}, {Verbs: all, NonResourceURLs: all}}
}

// Always is a rule that says the same of every request: the modes AlwaysAllow
// and AlwaysDeny. (Upstream: apiserver/pkg/authorization/authorizerfactory.)
type Always Decision

// Decide implements Rule.
func (w Always) Decide(context.Context, Attributes) (Decision, string, error) {
	if Decision(w) == Allow {
		return Allow, "", nil
	}
	return NoOpinion, "Everything is forbidden.", nil
}

// Rules implements Rule.
func (w Always) Rules(context.Context, request.User, string) ([]rbacv1.PolicyRule, bool, error) {
	if Decision(w) == Allow {
		return everything(), false, nil
	}
	return nil, false, nil
}

// Replaceable is a list of rules that can be replaced while it is asked. The
// zero value has none.
type Replaceable struct {
	rules atomic.Pointer[[]Rule]
}

// Replace has the next decision made by these rules, in order.
func (r *Replaceable) Replace(rules ...Rule) { r.rules.Store(&rules) }

func (r *Replaceable) all() []Rule {
	if all := r.rules.Load(); all != nil {
		return *all
	}
	return nil
}

// Decide implements Rule.
func (r *Replaceable) Decide(ctx context.Context, a Attributes) (Decision, string, error) {
	return decide(ctx, r.all(), a)
}

// Rules implements Rule.
func (r *Replaceable) Rules(ctx context.Context, u request.User, namespace string) (all []rbacv1.PolicyRule, incomplete bool, err error) {
	var failed []error
	for _, rule := range r.all() {
		some, more, err := rule.Rules(ctx, u, namespace)
		if err != nil {
			failed = append(failed, err)
		}
		all, incomplete = append(all, some...), incomplete || more
	}
	return all, incomplete, utilerrors.NewAggregate(failed)
}
