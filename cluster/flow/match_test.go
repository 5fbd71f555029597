package flow

import (
	"testing"

	flowv1 "k8s.io/api/flowcontrol/v1"

	"sampan/cluster/kind/flowcontrol"
	"sampan/cluster/request"
)

func by(name string, groups ...string) request.User { return request.User{Name: name, Groups: groups} }

// everybody is what every cluster has.
func everybody() objects {
	return objects{schemas: flowcontrol.Schemas(), levels: flowcontrol.Levels()}
}

func TestEveryRequestHasItsSchema(t *testing.T) {
	f := newFlow(t, 600, everybody())
	authenticated := "system:authenticated"
	for _, c := range []struct {
		it   string
		r    Request
		want string
	}{
		{it: "administrators are exempt", r: Request{User: by("admin", "system:masters", authenticated), Verb: "list", Resource: "pods"}, want: "exempt"},
		{it: "so are probes", r: Request{User: by("system:anonymous", "system:unauthenticated"), Verb: "get", Path: "/readyz"}, want: "probes"},
		{it: "and single checks", r: Request{User: by("system:anonymous", "system:unauthenticated"), Verb: "get", Path: "/livez/etcd"}, want: "probes"},
		{it: "but not what only begins alike", r: Request{User: by("system:anonymous", "system:unauthenticated"), Verb: "get", Path: "/livezz"}, want: "global-default"},
		{it: "a node says how it is", r: Request{User: by("system:node:a", "system:nodes", authenticated), Verb: "patch", Resource: "nodes", Subresource: "status", Name: "a"}, want: "system-node-high"},
		{it: "and renews its lease", r: Request{User: by("system:node:a", "system:nodes", authenticated), Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-node-lease"}, want: "system-node-high"},
		{it: "the rest of a node's comes after", r: Request{User: by("system:node:a", "system:nodes", authenticated), Verb: "list", Resource: "pods"}, want: "system-nodes"},
		{it: "leaders are elected", r: Request{User: by("system:kube-scheduler", authenticated), Verb: "update", Group: "coordination.k8s.io", Resource: "leases", Namespace: "kube-system"}, want: "system-leader-election"},
		{it: "the scheduler", r: Request{User: by("system:kube-scheduler", authenticated), Verb: "list", Resource: "pods"}, want: "kube-scheduler"},
		{it: "service accounts of the system", r: Request{User: by("system:serviceaccount:kube-system:a", "system:serviceaccounts", authenticated), Verb: "list", Resource: "pods"}, want: "kube-system-service-accounts"},
		{it: "service accounts of others", r: Request{User: by("system:serviceaccount:kube-system2:a", "system:serviceaccounts", authenticated), Verb: "list", Resource: "pods"}, want: "service-accounts"},
		{it: "users", r: Request{User: by("jane", authenticated), Verb: "get", Path: "/version"}, want: "global-default"},
		{it: "who is in no group at all", r: Request{User: by("jane"), Verb: "get", Path: "/version"}, want: "catch-all"},
	} {
		if got := f.classify(&c.r).Name; got != c.want {
			t.Errorf("%s: %s, want %s", c.it, got, c.want)
		}
	}
}

func TestResourceRules(t *testing.T) {
	schema := func(change func(*flowv1.ResourcePolicyRule)) *flowv1.FlowSchema {
		r := flowv1.ResourcePolicyRule{Verbs: []string{"get"}, APIGroups: []string{"apps"}, Resources: []string{"deployments", "deployments/scale"}, Namespaces: []string{"shop"}}
		change(&r)
		return &flowv1.FlowSchema{Spec: flowv1.FlowSchemaSpec{Rules: []flowv1.PolicyRulesWithSubjects{{
			Subjects:      []flowv1.Subject{{Kind: flowv1.SubjectKindUser, User: &flowv1.UserSubject{Name: "*"}}},
			ResourceRules: []flowv1.ResourcePolicyRule{r}}}}}
	}
	asked := Request{User: by("jane"), Verb: "get", Group: "apps", Resource: "deployments", Namespace: "shop"}
	for _, c := range []struct {
		it     string
		rule   func(*flowv1.ResourcePolicyRule)
		r      func(*Request)
		passes bool
	}{
		{it: "all as it says", passes: true},
		{it: "another verb", r: func(r *Request) { r.Verb = "list" }},
		{it: "another group", r: func(r *Request) { r.Group = "" }},
		{it: "another namespace", r: func(r *Request) { r.Namespace = "other" }},
		{it: "no namespace", r: func(r *Request) { r.Namespace = "" }},
		{it: "no namespace, but for cluster scope", r: func(r *Request) { r.Namespace = "" }, rule: func(r *flowv1.ResourcePolicyRule) { r.ClusterScope = true }, passes: true},
		{it: "a subresource named", r: func(r *Request) { r.Subresource = "scale" }, passes: true},
		{it: "a subresource not named", r: func(r *Request) { r.Subresource = "status" }},
		{it: "a subresource, all of them", r: func(r *Request) { r.Subresource = "status" }, rule: func(r *flowv1.ResourcePolicyRule) { r.Resources = []string{"*"} }, passes: true},
		{it: "a path that is no resource", r: func(r *Request) { *r = Request{User: by("jane"), Verb: "get", Path: "/version"} }},
	} {
		r := asked
		if c.r != nil {
			c.r(&r)
		}
		change := c.rule
		if change == nil {
			change = func(*flowv1.ResourcePolicyRule) {}
		}
		if got := matches(schema(change), &r); got != c.passes {
			t.Errorf("%s: %v", c.it, got)
		}
	}
}

// TestSchemasWithoutALevelAreLeftOut: their requests go where they went before.
func TestSchemasWithoutALevelAreLeftOut(t *testing.T) {
	o := everybody()
	o.schemas = append(o.schemas, &flowv1.FlowSchema{Spec: flowv1.FlowSchemaSpec{MatchingPrecedence: 5,
		PriorityLevelConfiguration: flowv1.PriorityLevelConfigurationReference{Name: "none"}, Rules: flowcontrol.Schemas()[1].Spec.Rules}})
	o.schemas = o.schemas[2:] // without those that must be there
	o.levels = o.levels[2:]
	f := newFlow(t, 600, o)
	r := Request{User: by("jane", "system:authenticated"), Verb: "get", Path: "/version"}
	if got := f.classify(&r).Name; got != "global-default" {
		t.Errorf("classified as %s", got)
	}
	if first, last := (*f.rules.Load())[0].Name, (*f.rules.Load())[len(*f.rules.Load())-1].Name; first != "exempt" || last != "catch-all" {
		t.Errorf("from %s to %s", first, last)
	}
}
