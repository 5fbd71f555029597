package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// RoleBinding gives a Role, or a ClusterRole within one namespace, to subjects.
func RoleBinding() *kind.Kind {
	of := func(b *rbacv1.RoleBinding) binding { return binding{&b.RoleRef, b.Subjects} }
	return kind.Declare(kind.Of[rbacv1.RoleBinding]{
		GVK:            rbacv1.SchemeGroupVersion.WithKind("RoleBinding"),
		Plural:         "rolebindings",
		CreateOnUpdate: true,
		ValidateName:   validName,
		Default:        func(b *rbacv1.RoleBinding) { of(b).settle() },
		Validate: func(b, old *rbacv1.RoleBinding) field.ErrorList {
			if old == nil {
				return of(b).validate(nil, true, "Role", "ClusterRole")
			}
			return of(b).validate(&old.RoleRef, true, "Role", "ClusterRole")
		},
		Columns: bindingColumns(rbacv1.RoleBinding{}.SwaggerDoc()["roleRef"], of),
	})
}
