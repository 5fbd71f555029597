package auth

import (
	"context"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sampan/cluster/auth/policy"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/coordination"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/rbac"
	"sampan/cluster/request"
)

func user(name string, groups ...string) request.User {
	return request.User{Name: name, Groups: append(groups, Authenticated)}
}

// authorizer returns the rules of a cluster with these objects, whose policy
// counts as written.
func authorizer(t *testing.T, objects ...kind.Object) *Authorizer {
	t.Helper()
	fake := clienttest.New(t, kind.NewTable(core.Kinds(), rbac.Kinds(), coordination.Kinds()), objects...)
	return NewAuthorizer(NewNodeRule(fake), NewRBAC(RBACConfig{Objects: fake, Policy: policy.Bootstrap()}))
}

// A cluster without a single object of its own lets its parts work, and users
// what all of them may.
func TestWhatTheBootstrapPolicyGives(t *testing.T) {
	anonymous := request.User{Name: Anonymous, Groups: []string{Unauthenticated}}
	ask := func(verb, group, resource string) Attributes {
		resource, sub, _ := strings.Cut(resource, "/")
		return Attributes{Verb: verb, Group: group, Version: "v1", Resource: resource, Subresource: sub, Namespace: "d", Name: "x"}
	}
	secret := ask("get", "", "secrets")
	path := func(p string) Attributes { return Attributes{Verb: "get", Path: p} }
	controller := func(name string) request.User { return ServiceAccount("kube-system", name) }
	z := authorizer(t)
	for _, tc := range []struct {
		it   string
		user request.User
		ask  Attributes
		want bool
	}{
		{"lets system:masters do everything", user("ann", Masters), secret, true},
		{"lets system:masters see every path", user("ann", Masters), path("/debug/pprof/"), true},
		{"does not let a node read any secret", Node("box"), secret, false},
		{"lets the scheduler bind", Component("kube-scheduler"), ask("create", "", "pods/binding"), true},
		{"does not let the scheduler read secrets", Component("kube-scheduler"), secret, false},
		{"lets the proxy see services", Component("kube-proxy"), ask("list", "", "services"), true},
		{"lets controllers see what their cache has", Component("kube-controller-manager"), ask("list", "", "secrets"), true},
		{"lets a controller write what it makes", controller("replicaset-controller"), ask("create", "", "pods"), true},
		{"does not let it do more", controller("replicaset-controller"), secret, false},
		{"lets the collector delete everything", controller("generic-garbage-collector"), ask("delete", "example.com", "things"), true},
		{"lets cluster DNS see services", controller("coredns"), ask("list", "", "services"), true},
		{"does not let kube-system's default account do anything", controller("default"), secret, false},
		{"does not let a controller of another namespace do anything", ServiceAccount("evil", "replicaset-controller"), ask("create", "", "pods"), false},
		{"lets other users do nothing", user("bob"), secret, false},
		{"lets every user see discovery", user("bob"), path("/apis/apps/v1"), true},
		{"lets every user ask what they may", user("bob"), ask("create", "authorization.k8s.io", "selfsubjectaccessreviews"), true},
		{"does not let a user ask about others", user("bob"), ask("create", "authorization.k8s.io", "subjectaccessreviews"), false},
		{"does not let a user post to discovery", user("bob"), Attributes{Verb: "post", Path: "/api"}, false},
		{"does not let users see metrics", user("bob"), path("/metrics"), false},
		{"shows health to anonymous", anonymous, path("/readyz"), true},
		{"does not show single checks to anonymous", anonymous, path("/readyz/etcd"), false},
		{"does not show discovery to anonymous", anonymous, path("/api"), false},
		{"shows the issuer's keys to service accounts", ServiceAccount("d", "default"), path("/openid/v1/jwks"), true},
		{"does not show the issuer's keys to users", user("bob"), path("/openid/v1/jwks"), false},
	} {
		t.Run(tc.it, func(t *testing.T) {
			tc.ask.User = tc.user
			if got, why := z.Allowed(t.Context(), tc.ask); got != tc.want {
				t.Errorf("allowed = %v (%s), want %v", got, why, tc.want)
			}
		})
	}
}

type allowNamed string

func (n allowNamed) Decide(_ context.Context, a Attributes) (Decision, string, error) {
	return allowing(a.User.Name == string(n), "named")
}
func (allowNamed) Rules(context.Context, request.User, string) ([]rbacv1.PolicyRule, bool, error) {
	return nil, false, nil
}

func TestFurtherRulesAllow(t *testing.T) {
	z := NewAuthorizer(allowNamed("bob"))
	r := request.Request{Verb: "get", Kind: core.ConfigMap(), GVK: core.ConfigMap().GVK, Namespace: "d", Name: "x", User: user("bob")}
	if err := z.Authorize(t.Context(), r); err != nil {
		t.Error(err)
	}
	r.User.Name = "eve"
	if err := z.Authorize(t.Context(), r); !apierrors.IsForbidden(err) {
		t.Errorf("err = %v, want forbidden", err)
	}
}

func TestForbiddenTexts(t *testing.T) {
	for _, tc := range []struct {
		it   string
		a    Attributes
		why  string
		want string
	}{
		{"names object, user, verb, group and namespace",
			Attributes{Verb: "get", Resource: "configmaps", Namespace: "d", Name: "x"}, "",
			`configmaps "x" is forbidden: User "u" cannot get resource "configmaps" in API group "" in the namespace "d"`},
		{"says when it is about the cluster",
			Attributes{Verb: "list", Resource: "nodes"}, "",
			`nodes is forbidden: User "u" cannot list resource "nodes" in API group "" at the cluster scope`},
		{"names the group and the subresource",
			Attributes{Verb: "update", Group: "apps", Resource: "deployments", Subresource: "scale", Namespace: "d", Name: "x"}, "",
			`deployments.apps "x" is forbidden: User "u" cannot update resource "deployments/scale" in API group "apps" in the namespace "d"`},
		{"names a path", Attributes{Verb: "get", Path: "/metrics"}, "", `forbidden: User "u" cannot get path "/metrics"`},
		{"says why", Attributes{Verb: "list", Resource: "nodes"}, `RBAC: x not found`,
			`nodes is forbidden: User "u" cannot list resource "nodes" in API group "" at the cluster scope: RBAC: x not found`},
	} {
		t.Run(tc.it, func(t *testing.T) {
			tc.a.User = user("u")
			if got := Forbidden(tc.a, tc.why).Error(); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}
