package auth

import (
	"context"
	"slices"
	"strings"

	"sampan/cluster/request"
)

var everything = PolicyRule{Verbs: []string{"*"}, Groups: []string{"*"}, Resources: []string{"*"}}
var everyPath = PolicyRule{Verbs: []string{"*"}, Paths: []string{"*"}}

// masters: the group system:masters may do everything, whatever else says.
type masters struct{}

func (masters) Allows(_ context.Context, a Attributes) (bool, string) {
	return slices.Contains(a.User.Groups, Masters), ""
}

func (masters) Rules(_ context.Context, u request.User, _ string) []PolicyRule {
	if slices.Contains(u.Groups, Masters) {
		return []PolicyRule{everything, everyPath}
	}
	return nil
}

// components: the parts of this program may do everything until RBAC gives
// each its role.
type components struct{}

func (components) Allows(_ context.Context, a Attributes) (bool, string) {
	if isComponent(a.User) {
		return true, "part of the cluster's own control plane"
	}
	return false, ""
}

func (components) Rules(_ context.Context, u request.User, _ string) []PolicyRule {
	if isComponent(u) {
		return []PolicyRule{everything, everyPath}
	}
	return nil
}

// isComponent goes by names that only this cluster's CA or token key can
// give. Of kube-system's service accounts those named like a controller
// count: the default account, which any pod there has, must not.
func isComponent(u request.User) bool {
	if !slices.Contains(u.Groups, Authenticated) {
		return false
	}
	if strings.HasPrefix(u.Name, nodePrefix) {
		return slices.Contains(u.Groups, Nodes)
	}
	if strings.HasPrefix(u.Name, "system:kube-") {
		return true
	}
	ns, name, ok := SplitServiceAccount(u.Name)
	return ok && ns == "kube-system" && (strings.HasSuffix(name, "-controller") ||
		slices.Contains([]string{"generic-garbage-collector", "root-ca-cert-publisher", "coredns"}, name))
}

// everyone: what upstream's default roles system:basic-user,
// system:discovery, system:public-info-viewer and
// system:service-account-issuer-discovery give.
type everyone struct{}

var (
	publicPaths    = []string{"/healthz", "/livez", "/readyz", "/version", "/version/"}
	discoveryPaths = []string{"/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*",
		"/healthz", "/livez", "/readyz", "/version", "/version/"}
	issuerPaths = []string{"/.well-known/openid-configuration", "/.well-known/openid-configuration/", "/openid/v1/jwks", "/openid/v1/jwks/"}

	selfReviews = []struct {
		group     string
		resources []string
	}{
		{"authorization.k8s.io", []string{"selfsubjectaccessreviews", "selfsubjectrulesreviews"}},
		{"authentication.k8s.io", []string{"selfsubjectreviews"}},
	}
)

func (everyone) Allows(_ context.Context, a Attributes) (bool, string) {
	in := func(group string) bool { return slices.Contains(a.User.Groups, group) }
	if a.Path != "" {
		if a.Verb != "get" && a.Verb != "head" {
			return false, ""
		}
		switch {
		case matchPath(publicPaths, a.Path):
			return in(Authenticated) || in(Unauthenticated), "public"
		case matchPath(discoveryPaths, a.Path):
			return in(Authenticated), "discovery"
		case matchPath(issuerPaths, a.Path):
			return in(ServiceAccounts), "token issuer"
		}
		return false, ""
	}
	if a.Verb != "create" || a.Subresource != "" || !in(Authenticated) {
		return false, ""
	}
	for _, r := range selfReviews {
		if a.Group == r.group && slices.Contains(r.resources, a.Resource) {
			return true, "about oneself"
		}
	}
	return false, ""
}

func (everyone) Rules(_ context.Context, u request.User, _ string) []PolicyRule {
	if !slices.Contains(u.Groups, Authenticated) {
		return []PolicyRule{{Verbs: []string{"get"}, Paths: publicPaths}}
	}
	var all []PolicyRule
	for _, r := range selfReviews {
		all = append(all, PolicyRule{Verbs: []string{"create"}, Groups: []string{r.group}, Resources: r.resources})
	}
	all = append(all, PolicyRule{Verbs: []string{"get"}, Paths: discoveryPaths})
	if slices.Contains(u.Groups, ServiceAccounts) {
		all = append(all, PolicyRule{Verbs: []string{"get"}, Paths: issuerPaths})
	}
	return all
}

// matchPath knows the one wildcard that RBAC has: a trailing "*".
func matchPath(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if prefix, ok := strings.CutSuffix(p, "*"); ok {
			return strings.HasPrefix(path, prefix)
		}
		return p == path
	})
}
