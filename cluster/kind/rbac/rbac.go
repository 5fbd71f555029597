// Package rbac declares the kinds of rbac.authorization.k8s.io: who may do
// what.
//
// It knows what a rule looks like, not what it allows: package auth does.
package rbac

import (
	"strings"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// Kinds is the table of this group.
func Kinds() []*kind.Kind {
	return []*kind.Kind{ClusterRole(), ClusterRoleBinding(), Role(), RoleBinding()}
}

// validName lets through what fits into a URL: names of roles have colons.
func validName(name string, _ bool) []string { return content.IsPathSegmentName(name) }

// created is upstream's column for kinds without columns of their own.
func created[T any, P interface {
	*T
	kind.Object
}]() kind.Column[T] {
	return kind.Column[T]{
		Name: "Created At", Type: "date", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"],
		Cell: func(obj *T, _ time.Time) any { return P(obj).GetCreationTimestamp().UTC().Format(time.RFC3339) },
	}
}

// validRules reports the faults of rules; inNamespace is true for a Role.
func validRules(rules []rbacv1.PolicyRule, inNamespace bool) (errs field.ErrorList) {
	for i := range rules {
		errs = append(errs, validRule(&rules[i], inNamespace, field.NewPath("rules").Index(i))...)
	}
	return errs
}

func validRule(r *rbacv1.PolicyRule, inNamespace bool, path *field.Path) (errs field.ErrorList) {
	if len(r.Verbs) == 0 {
		errs = append(errs, field.Required(path.Child("verbs"), ""))
	}
	if len(r.NonResourceURLs) > 0 {
		urls := path.Child("nonResourceURLs")
		if inNamespace {
			errs = append(errs, field.Invalid(urls, r.NonResourceURLs, "namespaced rules cannot apply to non-resource URLs"))
		}
		if len(r.APIGroups)+len(r.Resources)+len(r.ResourceNames) > 0 {
			errs = append(errs, field.Invalid(urls, r.NonResourceURLs, "rules cannot apply to both regular resources and non-resource URLs"))
		}
		return errs
	}
	if len(r.APIGroups) == 0 {
		errs = append(errs, field.Required(path.Child("apiGroups"), "resource rules must supply at least one api group"))
	}
	if len(r.Resources) == 0 {
		errs = append(errs, field.Required(path.Child("resources"), "resource rules must supply at least one resource"))
	}
	return errs
}

// binding is what the two kinds of bindings have in common.
type binding struct {
	ref      *rbacv1.RoleRef
	subjects []rbacv1.Subject
}

// settle fills in the one API group that there is.
func (b binding) settle() {
	if b.ref.APIGroup == "" {
		b.ref.APIGroup = rbacv1.GroupName
	}
	for i := range b.subjects {
		if s := &b.subjects[i]; s.APIGroup == "" && (s.Kind == rbacv1.UserKind || s.Kind == rbacv1.GroupKind) {
			s.APIGroup = rbacv1.GroupName
		}
	}
}

// validate reports the faults of a binding; roles are the kinds that it may
// bind, inNamespace is true for a RoleBinding.
func (b binding) validate(old *rbacv1.RoleRef, inNamespace bool, roles ...string) (errs field.ErrorList) {
	path := field.NewPath("roleRef")
	if b.ref.APIGroup != rbacv1.GroupName {
		errs = append(errs, field.NotSupported(path.Child("apiGroup"), b.ref.APIGroup, []string{rbacv1.GroupName}))
	}
	known := false
	for _, r := range roles {
		known = known || r == b.ref.Kind
	}
	if !known {
		errs = append(errs, field.NotSupported(path.Child("kind"), b.ref.Kind, roles))
	}
	if b.ref.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	}
	for _, msg := range validName(b.ref.Name, false) {
		errs = append(errs, field.Invalid(path.Child("name"), b.ref.Name, msg))
	}
	for i, s := range b.subjects {
		errs = append(errs, validSubject(s, inNamespace, field.NewPath("subjects").Index(i))...)
	}
	if old != nil {
		errs = append(errs, kind.Immutable(*b.ref, *old, path)...)
	}
	return errs
}

func validSubject(s rbacv1.Subject, inNamespace bool, path *field.Path) (errs field.ErrorList) {
	if s.Name == "" {
		errs = append(errs, field.Required(path.Child("name"), ""))
	}
	switch s.Kind {
	case rbacv1.ServiceAccountKind:
		if s.Name != "" {
			errs = append(errs, kind.DNSSubdomain(s.Name, path.Child("name"))...)
		}
		if s.APIGroup != "" {
			errs = append(errs, field.NotSupported(path.Child("apiGroup"), s.APIGroup, []string{""}))
		}
		if !inNamespace && s.Namespace == "" {
			errs = append(errs, field.Required(path.Child("namespace"), ""))
		}
	case rbacv1.UserKind, rbacv1.GroupKind:
		if s.APIGroup != rbacv1.GroupName {
			errs = append(errs, field.NotSupported(path.Child("apiGroup"), s.APIGroup, []string{rbacv1.GroupName}))
		}
	default:
		errs = append(errs, field.NotSupported(path.Child("kind"), s.Kind,
			[]string{rbacv1.ServiceAccountKind, rbacv1.UserKind, rbacv1.GroupKind}))
	}
	return errs
}

// bindingColumns are the columns of both kinds of bindings; doc says what the
// role is.
func bindingColumns[T any, P interface {
	*T
	kind.Object
}](doc string, of func(obj *T) binding) []kind.Column[T] {
	subjects := func(of func(obj *T) binding, kinds string) func(obj *T, _ time.Time) any {
		return func(obj *T, _ time.Time) any {
			var names []string
			for _, s := range of(obj).subjects {
				if s.Kind != kinds {
					continue
				}
				if s.Kind == rbacv1.ServiceAccountKind {
					s.Name = s.Namespace + "/" + s.Name
				}
				names = append(names, s.Name)
			}
			return strings.Join(names, ", ")
		}
	}
	return []kind.Column[T]{
		{Name: "Role", Description: strings.TrimSuffix(doc, " This field is immutable."), // upstream has v1beta1's text here
			Cell: func(obj *T, _ time.Time) any {
				ref := of(obj).ref
				return ref.Kind + "/" + ref.Name
			}},
		kind.Age[T, P](),
		{Name: "Users", Priority: 1, Description: "Users in the " + describe[T](), Cell: subjects(of, rbacv1.UserKind)},
		{Name: "Groups", Priority: 1, Description: "Groups in the " + describe[T](), Cell: subjects(of, rbacv1.GroupKind)},
		{Name: "ServiceAccounts", Priority: 1, Description: "ServiceAccounts in the " + describe[T](), Cell: subjects(of, rbacv1.ServiceAccountKind)},
	}
}

func describe[T any]() string {
	if _, ok := any((*T)(nil)).(*rbacv1.RoleBinding); ok {
		return "roleBinding"
	}
	return "clusterRoleBinding"
}
