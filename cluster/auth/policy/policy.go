// Package policy has the roles and bindings that every cluster has, as data:
// upstream's (upstream.txt), and what this program needs beside them
// (own.txt).
//
// policy decides nothing and stores nothing: package auth evaluates it, and
// bootstrap writes it.
package policy

import (
	_ "embed"
	"fmt"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

//go:embed upstream.txt
var upstream string

//go:embed own.txt
var own string

// Policy is a set of roles and bindings.
type Policy struct {
	ClusterRoles        []*rbacv1.ClusterRole
	ClusterRoleBindings []*rbacv1.ClusterRoleBinding
	Roles               []*rbacv1.Role
	RoleBindings        []*rbacv1.RoleBinding
}

// Bootstrap returns what every cluster has. The caller owns it; it is made
// anew each time, since it is wanted at start only.
func Bootstrap() *Policy {
	p := &Policy{}
	p.read("upstream.txt", upstream)
	p.read("own.txt", own)
	return p
}

// Node returns the rules of the role system:node: what any node may, of things
// that are no single node's.
func Node() []rbacv1.PolicyRule {
	for _, r := range Bootstrap().ClusterRoles {
		if r.Name == "system:node" {
			return r.Rules
		}
	}
	panic("policy: there is no role system:node")
}

const (
	aggregate        = "rbac.authorization.k8s.io/aggregate-to-"
	controllerPrefix = "system:controller:"
)

// read adds what a text says. A text that does not read is a mistake in the
// program: it panics.
func (p *Policy) read(name, text string) {
	var rules *[]rbacv1.PolicyRule
	var subjects *[]rbacv1.Subject
	for i, line := range strings.Split(text, "\n") {
		bad := func() { panic(fmt.Sprintf("policy: %s:%d: %q does not read", name, i+1, line)) }
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] == "#" || words[0][0] == '#':
		case line[0] != '\t':
			if len(words) < 2 {
				bad()
			}
			if rules, subjects = p.head(words); rules == nil && subjects == nil {
				bad()
			}
		case rules != nil && len(words) >= 2:
			*rules = append(*rules, readRule(words))
		case subjects != nil && len(words) == 2:
			*subjects = append(*subjects, readSubject(words[0], words[1]))
		default:
			bad()
		}
	}
}

// head begins a role or a binding, and returns where its lines go.
func (p *Policy) head(words []string) (*[]rbacv1.PolicyRule, *[]rbacv1.Subject) {
	meta := metav1.ObjectMeta{Name: words[1],
		Labels:      map[string]string{"kubernetes.io/bootstrapping": "rbac-defaults"},
		Annotations: map[string]string{rbacv1.AutoUpdateAnnotationKey: "true"}}
	if ns, rest, ok := strings.Cut(words[1], "/"); ok {
		meta.Namespace, meta.Name = ns, rest
	}
	options := words[2:]
	var ref rbacv1.RoleRef
	if len(options) == 3 && options[0] == "of" {
		ref = rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: options[1], Name: options[2]}
		options = nil
	}
	switch words[0] {
	case "ClusterRole":
		r := &rbacv1.ClusterRole{ObjectMeta: meta}
		for ; len(options) >= 2; options = options[2:] {
			label := aggregate + options[1]
			if options[0] == "into" {
				r.Labels[label] = "true"
				continue
			}
			r.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{
				{MatchLabels: map[string]string{label: "true"}}}}
		}
		p.ClusterRoles = append(p.ClusterRoles, r)
		if account, ok := strings.CutPrefix(r.Name, controllerPrefix); ok {
			_, subjects := p.head([]string{"ClusterRoleBinding", r.Name, "of", "ClusterRole", r.Name})
			*subjects = append(*subjects, rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: metav1.NamespaceSystem, Name: account})
		}
		return &r.Rules, nil
	case "Role":
		r := &rbacv1.Role{ObjectMeta: meta}
		p.Roles = append(p.Roles, r)
		return &r.Rules, nil
	case "ClusterRoleBinding":
		b := &rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: ref}
		p.ClusterRoleBindings = append(p.ClusterRoleBindings, b)
		return nil, &b.Subjects
	case "RoleBinding":
		b := &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: ref}
		p.RoleBindings = append(p.RoleBindings, b)
		return nil, &b.Subjects
	}
	return nil, nil
}

func readRule(words []string) rbacv1.PolicyRule {
	r := rbacv1.PolicyRule{Verbs: strings.Split(words[0], ",")}
	groups, ofResources := strings.CutSuffix(words[1], ":")
	if !ofResources {
		r.NonResourceURLs = words[1:]
		return r
	}
	r.APIGroups = strings.Split(groups, ",")
	for i, g := range r.APIGroups {
		if g == "core" {
			r.APIGroups[i] = ""
		}
	}
	r.Resources = words[2:]
	for i, w := range r.Resources {
		if w == "named" {
			r.Resources, r.ResourceNames = r.Resources[:i:i], r.Resources[i+1:]
			break
		}
	}
	return r
}

func readSubject(kind, name string) rbacv1.Subject {
	s := rbacv1.Subject{Kind: kind, Name: name}
	if kind == rbacv1.ServiceAccountKind {
		s.Namespace, s.Name, _ = strings.Cut(name, "/")
		return s
	}
	s.APIGroup = rbacv1.GroupName
	return s
}
