package auth

import (
	"context"
	"reflect"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"

	"sampan/cluster/request"
)

// ruleSet allows everybody what its rules cover.
type ruleSet []rbacv1.PolicyRule

func (s ruleSet) Decide(_ context.Context, a Attributes) (Decision, string, error) {
	for i := range s {
		if covers(&s[i], &a) {
			return Allow, "", nil
		}
	}
	return NoOpinion, "", nil
}

func (ruleSet) Rules(context.Context, request.User, string) ([]rbacv1.PolicyRule, bool, error) {
	return nil, false, nil
}

func may(verb, group, resource string, names ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: []string{verb}, APIGroups: []string{group}, Resources: []string{resource}, ResourceNames: names}
}

func TestImpersonation(t *testing.T) {
	const authn = "authentication.k8s.io"
	list := Attributes{Verb: "list", Version: "v1", Resource: "pods"}
	onBox := request.User{Name: "system:serviceaccount:kube-system:agent", Extra: map[string][]string{"authentication.kubernetes.io/node-name": {"box"}}}
	for _, c := range []struct {
		it         string
		by, want   request.User
		rules      ruleSet
		as         request.User // no name: refused
		constraint string
		err        string
	}{
		{it: "is refused", by: user("ann"), want: user("bob"), err: `User "ann" cannot impersonate-on:user-info:list resource "pods"`},
		{it: "is allowed for all requests", by: user("ann"), want: request.User{Name: "bob", UID: "1", Groups: []string{"g"}, Extra: map[string][]string{"k": {"v"}}},
			rules: ruleSet{may("impersonate", "", "users", "bob"), may("impersonate", "", "groups", "g"), may("impersonate", authn, "uids", "1"), may("impersonate", authn, "userextras/k", "v")},
			as:    request.User{Name: "bob", UID: "1", Groups: []string{"g", Authenticated}, Extra: map[string][]string{"k": {"v"}}}},
		{it: "is not allowed with another group", by: user("ann"), want: request.User{Name: "bob", Groups: []string{"g", "h"}},
			rules: ruleSet{may("impersonate", "", "users"), may("impersonate", "", "groups", "g")}, err: "impersonate-on:user-info:list"},
		{it: "is allowed for one request", by: user("ann"), want: user("bob"), constraint: "impersonate:user-info",
			rules: ruleSet{may("impersonate-on:user-info:list", "", "pods"), may("impersonate:user-info", authn, "users", "bob")},
			as:    request.User{Name: "bob", Groups: []string{Authenticated}}},
		{it: "is not allowed for another", by: user("ann"), want: user("bob"),
			rules: ruleSet{may("impersonate-on:user-info:get", "", "pods"), may("impersonate:user-info", authn, "users", "bob")}, err: "impersonate-on:user-info:list"},
		{it: "as one of many groups asks for all of them first", by: user("ann"), want: request.User{Name: "bob", Groups: []string{"a", "b", "c", "d"}}, constraint: "impersonate:user-info",
			rules: ruleSet{may("impersonate-on:user-info:list", "", "pods"), may("impersonate:user-info", authn, "users"), may("impersonate:user-info", authn, "groups", "*")},
			as:    request.User{Name: "bob", Groups: []string{"a", "b", "c", "d", Authenticated}}},
		{it: "cannot make a constrained user an administrator", by: user("ann"), want: request.User{Name: "bob", Groups: []string{Masters}},
			rules: ruleSet{may("impersonate-on:user-info:list", "", "pods"), may("impersonate:user-info", authn, "*")}, err: "impersonating the system:masters group is not allowed"},
		{it: "does not take odd extra keys from a constrained user", by: user("ann"), want: request.User{Name: "bob", Extra: map[string][]string{"nodomain": {"v"}}},
			rules: ruleSet{may("impersonate-on:user-info:list", "", "pods"), may("impersonate:user-info", authn, "*")}, err: "impersonating an invalid key in extra is not allowed"},
		{it: "of a service account has its groups", by: user("ann"), want: user("system:serviceaccount:shop:web"),
			rules: ruleSet{may("impersonate", "", "serviceaccounts", "web")},
			as:    request.User{Name: "system:serviceaccount:shop:web", Groups: []string{ServiceAccounts, ServiceAccounts + ":shop", Authenticated}}},
		{it: "of a service account for one request", by: user("ann"), want: user("system:serviceaccount:shop:web"), constraint: "impersonate:serviceaccount",
			rules: ruleSet{may("impersonate-on:serviceaccount:list", "", "pods"), may("impersonate:serviceaccount", authn, "serviceaccounts", "web")},
			as:    request.User{Name: "system:serviceaccount:shop:web", Groups: []string{ServiceAccounts, ServiceAccounts + ":shop", Authenticated}}},
		{it: "of a node for one request", by: user("ann"), want: user("system:node:box"), constraint: "impersonate:arbitrary-node",
			rules: ruleSet{may("impersonate-on:arbitrary-node:list", "", "pods"), may("impersonate:arbitrary-node", authn, "nodes", "box")},
			as:    request.User{Name: "system:node:box", Groups: []string{Nodes, Authenticated}}},
		{it: "of the node that one is on", by: onBox, want: user("system:node:box"), constraint: "impersonate:associated-node",
			rules: ruleSet{may("impersonate-on:associated-node:list", "", "pods"), may("impersonate:associated-node", authn, "nodes")},
			as:    request.User{Name: "system:node:box", Groups: []string{Nodes, Authenticated}}},
		{it: "of the node that another is on", by: onBox, want: user("system:node:other"),
			rules: ruleSet{may("impersonate-on:associated-node:list", "", "pods"), may("impersonate:associated-node", authn, "nodes")}, err: "impersonate-on:arbitrary-node:list"},
		{it: "of nobody", by: user("ann"), want: user(Anonymous), rules: ruleSet{may("impersonate", "", "users")}, as: request.User{Name: Anonymous, Groups: []string{Unauthenticated}}},
	} {
		t.Run(c.it, func(t *testing.T) {
			a := list
			a.User = c.by
			want := c.want
			if len(want.Groups) == 1 && want.Groups[0] == Authenticated { // user() has it
				want.Groups = nil
			}
			u, constraint, err := NewAuthorizer(c.rules).Impersonate(t.Context(), a, want)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%+v, %v; want %s", u, err, c.err)
				}
				return
			}
			if err != nil || !reflect.DeepEqual(u, c.as) || constraint != c.constraint {
				t.Errorf("%+v, %q, %v; want %+v, %q", u, constraint, err, c.as, c.constraint)
			}
		})
	}
}
