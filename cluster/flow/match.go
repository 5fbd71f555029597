package flow

import (
	"slices"
	"strings"

	flowv1 "k8s.io/api/flowcontrol/v1"

	"sampan/cluster/request"
)

// Request is what decides which flow a request belongs to, and what it costs.
type Request struct {
	User request.User
	Verb string // as RBAC names them; of a path that is no resource, its method in lower case
	Path string

	// Of a resource; empty for other paths.
	Group, Version, Resource, Subresource, Namespace, Name string

	// Objects is how many objects a list, or a watch that begins with one, goes
	// through at most. It is read once, by Begin, for those that may wait.
	Objects func() int
}

// matches says whether s is about r. (KEP-1040.)
func matches(s *flowv1.FlowSchema, r *Request) bool {
	for i := range s.Spec.Rules {
		rule := &s.Spec.Rules[i]
		if !slices.ContainsFunc(rule.Subjects, func(by flowv1.Subject) bool { return isSubject(&by, &r.User) }) {
			continue
		}
		if r.Resource == "" {
			for j := range rule.NonResourceRules {
				n := &rule.NonResourceRules[j]
				if has(n.Verbs, r.Verb) && hasPath(n.NonResourceURLs, r.Path) {
					return true
				}
			}
			continue
		}
		for j := range rule.ResourceRules {
			if isAbout(&rule.ResourceRules[j], r) {
				return true
			}
		}
	}
	return false
}

func isSubject(by *flowv1.Subject, u *request.User) bool {
	switch {
	case by.Kind == flowv1.SubjectKindUser && by.User != nil:
		return by.User.Name == flowv1.NameAll || by.User.Name == u.Name
	case by.Kind == flowv1.SubjectKindGroup && by.Group != nil:
		return by.Group.Name == flowv1.NameAll || slices.Contains(u.Groups, by.Group.Name)
	case by.Kind == flowv1.SubjectKindServiceAccount && by.ServiceAccount != nil:
		account, ok := strings.CutPrefix(u.Name, "system:serviceaccount:")
		if !ok {
			return false
		}
		namespace, name, ok := strings.Cut(account, ":")
		return ok && namespace == by.ServiceAccount.Namespace && (by.ServiceAccount.Name == flowv1.NameAll || by.ServiceAccount.Name == name)
	}
	return false
}

func isAbout(rule *flowv1.ResourcePolicyRule, r *Request) bool {
	if !has(rule.Verbs, r.Verb) || !has(rule.APIGroups, r.Group) || !hasResource(rule.Resources, r) {
		return false
	}
	if r.Namespace == "" {
		return rule.ClusterScope
	}
	return has(rule.Namespaces, r.Namespace)
}

// has looks for value in a list that may be "*" alone.
func has(all []string, value string) bool {
	return len(all) == 1 && all[0] == "*" || slices.Contains(all, value)
}

// hasResource compares without putting "resource/subresource" together.
func hasResource(all []string, r *Request) bool {
	if len(all) == 1 && all[0] == "*" {
		return true
	}
	return slices.ContainsFunc(all, func(one string) bool {
		resource, sub, _ := strings.Cut(one, "/")
		return resource == r.Resource && sub == r.Subresource
	})
}

// hasPath takes what is below a path as the path: "/healthz" is also
// "/healthz/etcd". (Upstream: matchPolicyRuleNonResourceURL.)
func hasPath(all []string, path string) bool {
	return slices.ContainsFunc(all, func(one string) bool {
		if one == "*" || one == path {
			return true
		}
		one = strings.TrimSuffix(one, "*")
		below, ok := strings.CutPrefix(path, strings.TrimSuffix(one, "/"))
		return ok && strings.HasPrefix(below, "/")
	})
}

// distinguisher tells the flows of one schema apart.
func distinguisher(s *flowv1.FlowSchema, r *Request) string {
	switch m := s.Spec.DistinguisherMethod; {
	case m == nil:
		return ""
	case m.Type == flowv1.FlowDistinguisherMethodByUserType:
		return r.User.Name
	case m.Type == flowv1.FlowDistinguisherMethodByNamespaceType:
		return r.Namespace
	}
	return ""
}
