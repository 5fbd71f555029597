package auth

import (
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"

	"sampan/cluster/auth/policy"
	"sampan/cluster/client"
	"sampan/cluster/request"
)

// RBAC allows what the roles bound to a user give. (Upstream:
// plugin/pkg/auth/authorizer/rbac.)
//
// The roles and bindings of the cluster are gathered by subject once after
// each change of them, and for each user once until the next: a decision is
// then a walk over that user's own rules.
type RBAC struct {
	cfg     RBACConfig
	policy  atomic.Pointer[policy.Policy] // nil once it is written
	seed    maphash.Seed
	current atomic.Pointer[granted]

	mu sync.Mutex // only one gathers
}

// RBACConfig is what RBAC needs.
type RBACConfig struct {
	// Objects reads roles and bindings, unchecked. Kinds that it does not have
	// count as empty.
	Objects client.Reader

	// Changes is a number that differs after every change of a role or a
	// binding. It is asked for every decision. Nil: gathered for each.
	Changes func() uint64

	// Policy is what counts as stored until Written: with it the parts of the
	// program, and users' discovery, work before it is. May be nil.
	Policy *policy.Policy
}

// NewRBAC returns the rule.
func NewRBAC(cfg RBACConfig) *RBAC {
	b := &RBAC{cfg: cfg, seed: maphash.MakeSeed()}
	b.policy.Store(cfg.Policy)
	b.cfg.Policy = nil // to be forgotten with the above
	return b
}

// Written says that the policy is in the store, and that from now on only what
// is stored counts.
func (b *RBAC) Written() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.policy.Store(nil)
	b.current.Store(nil)
}

// grant is what a binding gives to one subject.
type grant struct {
	rules   []rbacv1.PolicyRule
	err     error // the role cannot be had
	binding string
	ref     rbacv1.RoleRef
	subject rbacv1.Subject
	order   int // of the binding; the subjects of one binding have the same
}

// reason is upstream's.
func (g *grant) reason(namespace string) string {
	s, kind, name := g.subject, "ClusterRoleBinding", g.binding
	who := s.Name
	if s.Kind == rbacv1.ServiceAccountKind {
		if s.Namespace == "" {
			s.Namespace = namespace
		}
		who += "/" + s.Namespace
	}
	if namespace != "" {
		kind, name = "RoleBinding", name+"/"+namespace
	}
	return "RBAC: allowed by " + kind + " \"" + name + "\" of " + g.ref.Kind + " \"" + g.ref.Name + "\" to " + s.Kind + " \"" + who + "\""
}

// granted is all that is bound, by subject. It is never written to but for
// what mu guards.
type granted struct {
	version uint64
	all     map[string][]grant            // ClusterRoleBindings
	within  map[string]map[string][]grant // RoleBindings, by namespace

	mu    sync.RWMutex // guards all below
	users map[uint64]*userGrants
}

// userGrants is what is bound to one user.
type userGrants struct {
	name   string
	groups []string
	all    []grant

	mu     sync.RWMutex       // guards all below
	within map[string][]grant // by namespace, as asked for
}

// usersLimit bounds how many users are remembered, and namespaces of each;
// beyond it all are forgotten at once.
const usersLimit = 1024

// Decide implements Rule.
func (b *RBAC) Decide(ctx context.Context, a Attributes) (Decision, string, error) {
	return allowing(b.allows(ctx, a))
}

func (b *RBAC) allows(ctx context.Context, a Attributes) (bool, string) {
	var failed []error
	for _, in := range scopes(a.Namespace) {
		bound, err := b.bound(ctx, a.User, in)
		if err != nil {
			failed = append(failed, err)
		}
		for i := range bound {
			if bound[i].err != nil {
				failed = append(failed, bound[i].err)
			}
			for j := range bound[i].rules {
				if covers(&bound[i].rules[j], &a) {
					return true, bound[i].reason(in)
				}
			}
		}
	}
	if len(failed) > 0 {
		return false, "RBAC: " + utilerrors.NewAggregate(failed).Error()
	}
	return false, ""
}

// Rules implements Rule.
func (b *RBAC) Rules(ctx context.Context, u request.User, namespace string) ([]rbacv1.PolicyRule, bool, error) {
	rules, err := b.RulesFor(ctx, u, namespace)
	return rules, false, err
}

// RulesFor returns all rules that apply to a user in a namespace, with those
// that apply everywhere. An error says which are missing from it.
func (b *RBAC) RulesFor(ctx context.Context, u request.User, namespace string) ([]rbacv1.PolicyRule, error) {
	var rules []rbacv1.PolicyRule
	var failed []error
	for _, in := range scopes(namespace) {
		bound, err := b.bound(ctx, u, in)
		if err != nil {
			failed = append(failed, err)
		}
		for _, g := range bound {
			rules = append(rules, g.rules...)
			if g.err != nil {
				failed = append(failed, g.err)
			}
		}
	}
	return rules, utilerrors.NewAggregate(failed)
}

// RulesOf returns the rules of the role that a binding in namespace names; of
// a ClusterRoleBinding for an empty namespace.
func (b *RBAC) RulesOf(ctx context.Context, ref rbacv1.RoleRef, namespace string) ([]rbacv1.PolicyRule, error) {
	r, err := b.roles(ctx)
	if err != nil {
		return nil, err
	}
	rules, err := r.of(ref, namespace)
	if apierrors.IsNotFound(err) { // here upstream asks the store, which calls it by its plural
		err = apierrors.NewNotFound(schema.GroupResource{Group: rbacv1.GroupName, Resource: strings.ToLower(ref.Kind) + "s"}, ref.Name)
	}
	return rules, err
}

// scopes are where rules for a request in a namespace come from: everywhere
// and there.
func scopes(namespace string) []string {
	if namespace == "" {
		return everywhere[:]
	}
	return []string{"", namespace}
}

var everywhere = [1]string{""}

// bound is what is bound to a user: everywhere for an empty namespace, else
// there alone.
func (b *RBAC) bound(ctx context.Context, u request.User, namespace string) ([]grant, error) {
	g, err := b.gathered(ctx)
	if err != nil {
		return nil, err
	}
	mine := g.user(b.seed, u)
	if namespace == "" {
		return mine.all, nil
	}
	there := g.within[namespace]
	if there == nil {
		return nil, nil
	}
	mine.mu.RLock()
	grants, ok := mine.within[namespace]
	mine.mu.RUnlock()
	if !ok {
		grants = grantsOf(there, u)
		mine.mu.Lock()
		defer mine.mu.Unlock()
		if mine.within == nil || len(mine.within) >= usersLimit {
			mine.within = map[string][]grant{}
		}
		mine.within[namespace] = grants
	}
	return grants, nil
}

// user returns what is bound to u everywhere, from memory if it was asked for
// before.
func (g *granted) user(seed maphash.Seed, u request.User) *userGrants {
	var h maphash.Hash
	h.SetSeed(seed)
	h.WriteString(u.Name)
	for _, group := range u.Groups {
		h.WriteByte(0)
		h.WriteString(group)
	}
	id := h.Sum64()
	g.mu.RLock()
	mine := g.users[id]
	g.mu.RUnlock()
	if mine != nil && mine.name == u.Name && slices.Equal(mine.groups, u.Groups) {
		return mine
	}
	mine = &userGrants{name: u.Name, groups: slices.Clone(u.Groups), all: grantsOf(g.all, u)}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.users == nil || len(g.users) >= usersLimit {
		g.users = map[uint64]*userGrants{}
	}
	g.users[id] = mine
	return mine
}

// grantsOf returns one grant for each binding that a user is a subject of, in
// the bindings' order.
func grantsOf(bySubject map[string][]grant, u request.User) []grant {
	all := slices.Clone(bySubject[userKey(u.Name)])
	for _, group := range u.Groups {
		all = append(all, bySubject[groupKey(group)]...)
	}
	slices.SortStableFunc(all, func(a, b grant) int { return a.order - b.order })
	return slices.CompactFunc(all, func(a, b grant) bool { return a.order == b.order })
}

func userKey(name string) string  { return "u" + name }
func groupKey(name string) string { return "g" + name }

// key is under what a subject's grants are kept; empty for one that is nobody.
func key(s rbacv1.Subject, namespace string) string {
	switch s.Kind {
	case rbacv1.UserKind:
		return userKey(s.Name)
	case rbacv1.GroupKind:
		return groupKey(s.Name)
	case rbacv1.ServiceAccountKind:
		if s.Namespace != "" {
			namespace = s.Namespace
		}
		if namespace != "" {
			return userKey(ServiceAccountUser(namespace, s.Name))
		}
	}
	return ""
}

// gathered is the present state of what is bound.
func (b *RBAC) gathered(ctx context.Context) (*granted, error) {
	if b.cfg.Changes == nil {
		return b.gather(ctx, 0)
	}
	if g := b.current.Load(); g != nil && g.version == b.cfg.Changes() {
		return g, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	version := b.cfg.Changes() // before reading: a change meanwhile makes it old
	if g := b.current.Load(); g != nil && g.version == version {
		return g, nil
	}
	g, err := b.gather(ctx, version)
	if err != nil {
		return nil, err
	}
	b.current.Store(g)
	return g, nil
}

func (b *RBAC) gather(ctx context.Context, version uint64) (*granted, error) {
	roles, err := b.roles(ctx)
	if err != nil {
		return nil, err
	}
	over, err := listed[*rbacv1.ClusterRoleBinding](ctx, b)
	if err != nil {
		return nil, err
	}
	in, err := listed[*rbacv1.RoleBinding](ctx, b)
	if err != nil {
		return nil, err
	}
	g := &granted{version: version, all: map[string][]grant{}, within: map[string]map[string][]grant{}}
	add := func(bySubject map[string][]grant, order int, name, namespace string, ref rbacv1.RoleRef, subjects []rbacv1.Subject) {
		rules, err := roles.of(ref, namespace)
		for _, s := range subjects {
			if k := key(s, namespace); k != "" {
				bySubject[k] = append(bySubject[k], grant{rules: rules, err: err, binding: name, ref: ref, subject: s, order: order})
			}
		}
	}
	for i, o := range over {
		add(g.all, i, o.Name, "", o.RoleRef, o.Subjects)
	}
	for i, o := range in {
		if g.within[o.Namespace] == nil {
			g.within[o.Namespace] = map[string][]grant{}
		}
		add(g.within[o.Namespace], i, o.Name, o.Namespace, o.RoleRef, o.Subjects)
	}
	return g, nil
}

// errKind is what upstream says of a binding to something else than a role;
// validation lets none through.
var errKind = errors.New("unsupported role reference kind")

// covers says whether a rule gives what a asks for.
func covers(r *rbacv1.PolicyRule, a *Attributes) bool {
	if !has(r.Verbs, a.Verb) {
		return false
	}
	if a.Path != "" {
		return matchPath(r.NonResourceURLs, a.Path)
	}
	return has(r.APIGroups, a.Group) && hasResource(r.Resources, a.Resource, a.Subresource) &&
		(len(r.ResourceNames) == 0 || slices.Contains(r.ResourceNames, a.Name))
}

func has(set []string, s string) bool {
	return slices.ContainsFunc(set, func(e string) bool { return e == "*" || e == s })
}

// hasResource knows "pods", "pods/log", "*/scale" and "*".
func hasResource(set []string, resource, sub string) bool {
	return slices.ContainsFunc(set, func(e string) bool {
		if e == "*" {
			return true
		}
		if sub == "" {
			return e == resource
		}
		base, part, ok := strings.Cut(e, "/")
		return ok && part == sub && (base == resource || base == "*")
	})
}

// matchPath knows the one wildcard that paths have: a trailing "*".
func matchPath(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if strings.HasSuffix(p, "*") {
			return strings.HasPrefix(path, strings.TrimRight(p, "*"))
		}
		return p == path
	})
}
