package auth

import (
	"context"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"sampan/cluster/kind/core"
	"sampan/cluster/request"
)

func user(name string, groups ...string) request.User {
	return request.User{Name: name, Groups: append(groups, Authenticated)}
}

func TestBuiltInRules(t *testing.T) {
	anonymous := request.User{Name: Anonymous, Groups: []string{Unauthenticated}}
	secret := Attributes{Verb: "get", Version: "v1", Resource: "secrets", Namespace: "d", Name: "x"}
	path := func(p string) Attributes { return Attributes{Verb: "get", Path: p} }
	for _, tc := range []struct {
		it   string
		user request.User
		ask  Attributes
		want bool
	}{
		{"lets system:masters do everything", user("ann", Masters), secret, true},
		{"lets system:masters see every path", user("ann", Masters), path("/debug/pprof/"), true},
		{"lets a node do everything", Node("box"), secret, true},
		{"does not take a name for a node's without the group", user("system:node:box"), secret, false},
		{"lets the scheduler do everything", Component("kube-scheduler"), secret, true},
		{"lets controllers do everything", ServiceAccount("kube-system", "replicaset-controller"), secret, true},
		{"lets the collector do everything", ServiceAccount("kube-system", "generic-garbage-collector"), secret, true},
		{"lets cluster DNS do everything", ServiceAccount("kube-system", "coredns"), secret, true},
		{"does not let kube-system's default account do anything", ServiceAccount("kube-system", "default"), secret, false},
		{"does not let a controller of another namespace do anything", ServiceAccount("evil", "x-controller"), secret, false},
		{"does not let a user with a component's name but no credentials do anything",
			request.User{Name: "system:kube-scheduler", Groups: []string{Unauthenticated}}, secret, false},
		{"lets other users do nothing", user("bob"), secret, false},
		{"lets every user see discovery", user("bob"), path("/apis/apps/v1"), true},
		{"lets every user ask what they may", user("bob"), Attributes{Verb: "create", Group: "authorization.k8s.io", Resource: "selfsubjectaccessreviews"}, true},
		{"does not let a user ask about others", user("bob"), Attributes{Verb: "create", Group: "authorization.k8s.io", Resource: "subjectaccessreviews"}, false},
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
			if got, why := NewAuthorizer().Allowed(t.Context(), tc.ask); got != tc.want {
				t.Errorf("allowed = %v (%s), want %v", got, why, tc.want)
			}
		})
	}
}

type allowNamed string

func (n allowNamed) Allows(_ context.Context, a Attributes) (bool, string) {
	return a.User.Name == string(n), "named"
}
func (allowNamed) Rules(context.Context, request.User, string) []PolicyRule { return nil }

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
		want string
	}{
		{"names object, user, verb, group and namespace",
			Attributes{Verb: "get", Resource: "configmaps", Namespace: "d", Name: "x"},
			`configmaps "x" is forbidden: User "u" cannot get resource "configmaps" in API group "" in the namespace "d"`},
		{"says when it is about the cluster",
			Attributes{Verb: "list", Resource: "nodes"},
			`nodes is forbidden: User "u" cannot list resource "nodes" in API group "" at the cluster scope`},
		{"names the group and the subresource",
			Attributes{Verb: "update", Group: "apps", Resource: "deployments", Subresource: "scale", Namespace: "d", Name: "x"},
			`deployments.apps "x" is forbidden: User "u" cannot update resource "deployments/scale" in API group "apps" in the namespace "d"`},
		{"names a path", Attributes{Verb: "get", Path: "/metrics"}, `forbidden: User "u" cannot get path "/metrics"`},
	} {
		t.Run(tc.it, func(t *testing.T) {
			tc.a.User = user("u")
			if got := Forbidden(tc.a).Error(); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}
