// Package auth answers two questions about a request: who is it, and may
// they. Who: a proxy's word, client certificates, bearer tokens (of service
// accounts, of machines that join, of issuers and webhooks that an
// administrator named), or nobody (system:anonymous). May they: a list of
// rules, the first that has an opinion wins.
//
// auth knows no HTTP routes and no verbs' order; it reads objects through
// client.Reader and writes none.
package auth

import (
	"context"
	"fmt"
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"

	"sampan/cluster/request"
)

// Names of users and groups that have a meaning of their own. (Upstream:
// k8s.io/apiserver/pkg/authentication/user.)
const (
	Anonymous       = "system:anonymous"
	Masters         = "system:masters"
	Nodes           = "system:nodes"
	Authenticated   = "system:authenticated"
	Unauthenticated = "system:unauthenticated"
	ServiceAccounts = "system:serviceaccounts"

	nodePrefix           = "system:node:"
	serviceAccountPrefix = "system:serviceaccount:"
)

// Attributes are what a rule may look at. Either Resource or Path is set.
type Attributes struct {
	User        request.User
	Verb        string
	Group       string
	Version     string
	Resource    string // plural; "*" where a review asks about all
	Subresource string
	Namespace   string
	Name        string
	Path        string // of a URL that is no resource: "/healthz"

	// Fields and Labels are what a list, watch or deletecollection is narrowed
	// down to.
	Fields fields.Requirements
	Labels labels.Requirements

	// Annotate takes the decision and its reason for the audit log; see
	// request.Request. Rules don't look at it.
	Annotate func(key, value string, detail bool)
}

// Decision is what a rule says of a request.
type Decision int

const (
	NoOpinion Decision = iota // another rule may allow it
	Allow
	Deny // none may
)

// Rule decides about requests. What no rule allows is forbidden.
type Rule interface {
	// Decide says what the rule makes of a, and why, as far as that is worth
	// telling. An error is about the rule: it could not find out all it wanted.
	Decide(ctx context.Context, a Attributes) (d Decision, reason string, err error)
	// Rules lists what the rule allows the user in a namespace, for
	// SelfSubjectRulesReview. incomplete says that there is more which cannot
	// be listed, err why.
	Rules(ctx context.Context, user request.User, namespace string) (rules []rbacv1.PolicyRule, incomplete bool, err error)
}

// Named is a rule whose reasons say which one it is, where no rule allows: there
// may be several. (Upstream: apiserver/pkg/authorization/union.)
type Named struct {
	Name string
	Rule
}

// Decide implements Rule.
func (n Named) Decide(ctx context.Context, a Attributes) (Decision, string, error) {
	d, why, err := n.Rule.Decide(ctx, a)
	if d == NoOpinion && why != "" {
		why = n.Name + ": " + why
	}
	return d, why, err
}

// allowing is the decision of a rule that never refuses.
func allowing(ok bool, why string) (Decision, string, error) {
	if ok {
		return Allow, why, nil
	}
	return NoOpinion, why, nil
}

// Authorizer decides by Rules in order. The zero value allows nothing.
type Authorizer struct {
	Rules   []Rule
	Metrics *Metrics // nil: nothing is counted
}

// NewAuthorizer returns an Authorizer that allows the group system:masters
// everything, the API server itself what it keeps, and what the rules given
// allow, in order: NodeRule, RBAC.
func NewAuthorizer(further ...Rule) *Authorizer {
	return &Authorizer{Rules: append([]Rule{masters{}, server{}}, further...)}
}

// Decide returns what the first rule with an opinion says of a, and its reason;
// if none has one, the reasons and errors of all.
func (z *Authorizer) Decide(ctx context.Context, a Attributes) (Decision, string, error) {
	return decide(ctx, z.Rules, a)
}

func decide(ctx context.Context, rules []Rule, a Attributes) (Decision, string, error) {
	var not []string
	var failed []error
	for _, r := range rules {
		d, why, err := r.Decide(ctx, a)
		if d != NoOpinion {
			return d, why, err
		}
		if why != "" {
			not = append(not, why)
		}
		if err != nil {
			failed = append(failed, err)
		}
	}
	return NoOpinion, strings.Join(not, "\n"), utilerrors.NewAggregate(failed)
}

// Allowed reports whether a is allowed, and the reason of the rule that decided;
// else the reasons of all, a line each.
func (z *Authorizer) Allowed(ctx context.Context, a Attributes) (bool, string) {
	d, why, err := z.Decide(ctx, a)
	if d != Allow && err != nil && why == "" {
		why = err.Error()
	}
	return d == Allow, why
}

// Authorize returns nil if r.User may do r, else a Forbidden StatusError with
// upstream's text.
func (z *Authorizer) Authorize(ctx context.Context, r request.Request) error {
	if r.GVK.Group == "" && r.Kind.Plural == "namespaces" {
		r.Namespace = r.Name // a namespace is in itself, so that a role in it can give it (upstream: RequestInfo)
	}
	a := Attributes{
		User: r.User, Verb: r.Verb, Annotate: r.Annotate,
		Group: r.GVK.Group, Version: r.GVK.Version, Resource: r.Kind.Plural, Subresource: r.Subresource,
		Namespace: r.Namespace, Name: r.Name,
	}
	if r.Fields != nil {
		a.Fields = r.Fields.Requirements()
	}
	if r.Labels != nil {
		a.Labels, _ = r.Labels.Requirements()
	}
	return z.Check(ctx, a)
}

// May reports whether a user may do verb with a resource of
// rbac.authorization.k8s.io: "escalate" and "bind".
func (z *Authorizer) May(ctx context.Context, u request.User, verb, resource, namespace, name string) bool {
	ok, _ := z.Allowed(ctx, Attributes{User: u, Verb: verb, Group: rbacv1.GroupName, Version: "*",
		Resource: resource, Namespace: namespace, Name: name})
	return ok
}

// Check is Authorize for what is not a request for a stored object. A rule that
// could not find out has not refused: that is an error of the server's.
// (Upstream: endpoints/filters/authorization.go.)
func (z *Authorizer) Check(ctx context.Context, a Attributes) error {
	var began time.Time
	if z.Metrics != nil {
		began = time.Now()
	}
	d, why, err := z.Decide(ctx, a)
	if z.Metrics != nil {
		z.Metrics.count(d, err, began)
	}
	failed := d != Allow && err != nil
	if a.Annotate != nil {
		switch {
		case d == Allow:
			a.Annotate("authorization.k8s.io/decision", "allow", false)
		case failed:
			why = "internal error"
		default:
			a.Annotate("authorization.k8s.io/decision", "forbid", false)
		}
		a.Annotate("authorization.k8s.io/reason", why, false)
	}
	switch {
	case d == Allow:
		return nil
	case failed:
		return apierrors.NewInternalError(err)
	}
	return Forbidden(a, why)
}

// Forbidden is the answer to a request that no rule allows. (Upstream:
// apiserver endpoints/handlers/responsewriters/errors.go.)
func Forbidden(a Attributes, why string) error {
	if why != "" {
		why = ": " + why
	}
	if a.Path != "" {
		return apierrors.NewForbidden(schema.GroupResource{}, "",
			fmt.Errorf("User %q cannot %s path %q%s", a.User.Name, a.Verb, a.Path, why))
	}
	resource := a.Resource
	if a.Subresource != "" {
		resource += "/" + a.Subresource
	}
	scope := "at the cluster scope"
	if a.Namespace != "" {
		scope = fmt.Sprintf("in the namespace %q", a.Namespace)
	}
	return apierrors.NewForbidden(schema.GroupResource{Group: a.Group, Resource: a.Resource}, a.Name,
		fmt.Errorf("User %q cannot %s resource %q in API group %q %s%s", a.User.Name, a.Verb, resource, a.Group, scope, why))
}

// ServiceAccountUser is the user name of a service account.
func ServiceAccountUser(namespace, name string) string {
	return serviceAccountPrefix + namespace + ":" + name
}

// SplitServiceAccount is ServiceAccountUser reversed.
func SplitServiceAccount(user string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(user, serviceAccountPrefix)
	if !ok {
		return "", "", false
	}
	namespace, name, ok = strings.Cut(rest, ":")
	return namespace, name, ok && namespace != "" && name != "" && !strings.Contains(name, ":")
}

// ServiceAccount is the identity of a part of this program that upstream runs
// under a service account of kube-system: name "replicaset-controller".
func ServiceAccount(namespace, name string) request.User {
	return request.User{Name: ServiceAccountUser(namespace, name),
		Groups: []string{ServiceAccounts, ServiceAccounts + ":" + namespace, Authenticated}}
}

// Node is the identity of a node's agent.
func Node(name string) request.User {
	return request.User{Name: nodePrefix + name, Groups: []string{Nodes, Authenticated}}
}

// Component is the identity of a part of the control plane: "kube-scheduler".
func Component(name string) request.User {
	return request.User{Name: "system:" + name, Groups: []string{Authenticated}}
}

// Server is the identity of the API server where it keeps objects itself: the
// roles, priority levels, namespaces and services that every cluster has. Unlike
// upstream's it is not in system:masters; what it may is a rule of its own.
func Server() request.User {
	return request.User{Name: serverName, Groups: []string{Authenticated}}
}

const serverName = "system:apiserver"

// Master is who may do everything, for tests: no part of the program is.
func Master() request.User {
	return request.User{Name: serverName, Groups: []string{Masters, Authenticated}}
}
