package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/component-helpers/auth/rbac/validation"

	"sampan/cluster/kind"
	"sampan/cluster/request"
)

// Escalation lets nobody give what he does not have: neither by writing rules
// into a role nor by binding a role, unless a role of his own lets him
// "escalate" or "bind". Upstream has it in the registry (registry/rbac/*/
// policybased), between mutating admission and validation; so this plugin is
// the last of the mutators, and changes nothing.
type Escalation struct {
	May   Permissions
	Rules Resolver
}

// Permissions answers for the verbs "escalate" and "bind" of
// rbac.authorization.k8s.io.
type Permissions interface {
	May(ctx context.Context, u request.User, verb, resource, namespace, name string) bool
}

// Resolver knows rules.
type Resolver interface {
	// RulesFor returns the rules that apply to a user in a namespace. An error
	// says that some are missing.
	RulesFor(ctx context.Context, u request.User, namespace string) ([]rbacv1.PolicyRule, error)
	// RulesOf returns the rules of the role that a binding in namespace names.
	RulesOf(ctx context.Context, ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error)
}

// masters may do everything: the program's own writes are theirs.
const masters = "system:masters"

// Mutate implements Mutator.
func (e Escalation) Mutate(ctx context.Context, a *Attempt) error {
	if a.Object == nil || a.Operation != Create && a.Operation != Update || slices.Contains(a.Request.User.Groups, masters) {
		return nil
	}
	switch o := a.Object.(type) {
	case *rbacv1.ClusterRole:
		return e.role(ctx, a, o.Rules, aggregates(o) || a.Old != nil && aggregates(a.Old.(*rbacv1.ClusterRole)))
	case *rbacv1.Role:
		return e.role(ctx, a, o.Rules, false)
	case *rbacv1.ClusterRoleBinding:
		return e.binding(ctx, a, o.RoleRef)
	case *rbacv1.RoleBinding:
		return e.binding(ctx, a, o.RoleRef)
	}
	return nil
}

func aggregates(r *rbacv1.ClusterRole) bool {
	return r.AggregationRule != nil && len(r.AggregationRule.ClusterRoleSelectors) > 0
}

// role refuses rules that the user does not have. gathers is true for a role
// with an aggregation rule: it can gather anything, so that takes everything.
func (e Escalation) role(ctx context.Context, a *Attempt, rules []rbacv1.PolicyRule, gathers bool) error {
	r := a.Request
	name := r.Name
	if r.Verb == "create" {
		name = "" // a POST does not name what it makes
	}
	if e.May.May(ctx, r.User, "escalate", r.Kind.Plural, r.Namespace, name) || onlyForCollector(a) {
		return nil
	}
	if err := e.has(ctx, r, rules); err != nil {
		return apierrors.NewForbidden(r.Kind.GroupResource(), a.Object.GetName(), err)
	}
	if !gathers {
		return nil
	}
	all := []string{"*"}
	if e.has(ctx, r, []rbacv1.PolicyRule{{Verbs: all, APIGroups: all, Resources: all}, {Verbs: all, NonResourceURLs: all}}) != nil {
		return apierrors.NewForbidden(r.Kind.GroupResource(), a.Object.GetName(),
			errors.New("must have cluster-admin privileges to use the aggregationRule"))
	}
	return nil
}

func (e Escalation) binding(ctx context.Context, a *Attempt, ref rbacv1.RoleRef) error {
	r := a.Request
	if onlyForCollector(a) {
		return nil
	}
	resource := ""
	switch ref.Kind {
	case "ClusterRole":
		resource = "clusterroles"
	case "Role":
		resource = "roles"
	}
	if resource != "" && ref.APIGroup == rbacv1.GroupName && e.May.May(ctx, r.User, "bind", resource, r.Namespace, ref.Name) {
		return nil
	}
	rules, err := e.Rules.RulesOf(ctx, ref, r.Namespace)
	if apierrors.IsNotFound(err) {
		return apierrors.NewNotFound(r.Kind.GroupResource(), ref.Name) // upstream's words
	}
	if err != nil {
		return err
	}
	if err := e.has(ctx, r, rules); err != nil {
		return apierrors.NewForbidden(r.Kind.GroupResource(), a.Object.GetName(), err)
	}
	return nil
}

// has says which of the rules the user of r does not have where r is about.
func (e Escalation) has(ctx context.Context, r request.Request, rules []rbacv1.PolicyRule) error {
	own, failed := e.Rules.RulesFor(ctx, r.User, r.Namespace)
	ok, missing := validation.Covers(own, rules)
	if ok {
		return nil
	}
	var said []string
	for _, m := range compact(missing) {
		said = append(said, describe(m))
	}
	slices.Sort(said)
	text := fmt.Sprintf("user %q (groups=%q) is attempting to grant RBAC permissions not currently held:\n%s",
		r.User.Name, r.User.Groups, strings.Join(slices.Compact(said), "\n"))
	if failed != nil {
		text += fmt.Sprintf("; resolution errors: %v", []error{failed})
	}
	return errors.New(text)
}

// onlyForCollector says that an update changes no more than what the garbage
// collector has to, to let the object go.
func onlyForCollector(a *Attempt) bool {
	if a.Old == nil {
		return false
	}
	now := a.Object.DeepCopyObject().(kind.Object)
	now.SetOwnerReferences(a.Old.GetOwnerReferences())
	now.SetFinalizers(a.Old.GetFinalizers())
	now.SetManagedFields(a.Old.GetManagedFields())
	return kind.Equal(now, a.Old)
}

// compact brings rules for one resource each together that differ in verbs
// alone. (Upstream: registry/rbac/validation/policy_compact.go.)
func compact(rules []rbacv1.PolicyRule) (all []rbacv1.PolicyRule) {
	type about struct{ group, resource, name string }
	at := map[about]int{}
	for _, r := range rules {
		if len(r.APIGroups) != 1 || len(r.Resources) != 1 || len(r.ResourceNames) > 1 || len(r.NonResourceURLs) > 0 {
			all = append(all, r)
			continue
		}
		k := about{r.APIGroups[0], r.Resources[0], strings.Join(r.ResourceNames, "")}
		if i, ok := at[k]; ok {
			all[i].Verbs = append(all[i].Verbs, r.Verbs...)
			continue
		}
		at[k] = len(all)
		r.Verbs = slices.Clone(r.Verbs)
		all = append(all, r)
	}
	return all
}

// describe is a rule in upstream's short form.
func describe(r rbacv1.PolicyRule) string {
	var parts []string
	for _, p := range []struct {
		name string
		of   []string
	}{{"APIGroups", r.APIGroups}, {"Resources", r.Resources}, {"NonResourceURLs", r.NonResourceURLs},
		{"ResourceNames", r.ResourceNames}, {"Verbs", r.Verbs}} {
		if len(p.of) > 0 {
			parts = append(parts, fmt.Sprintf("%s:%q", p.name, p.of))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}
