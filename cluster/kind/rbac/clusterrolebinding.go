package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// ClusterRoleBinding gives a ClusterRole everywhere to subjects.
func ClusterRoleBinding() *kind.Kind {
	of := func(b *rbacv1.ClusterRoleBinding) binding { return binding{&b.RoleRef, b.Subjects} }
	return kind.Declare(kind.Of[rbacv1.ClusterRoleBinding]{
		GVK:            rbacv1.SchemeGroupVersion.WithKind("ClusterRoleBinding"),
		Plural:         "clusterrolebindings",
		Cluster:        true,
		CreateOnUpdate: true,
		ValidateName:   validName,
		Default:        func(b *rbacv1.ClusterRoleBinding) { of(b).settle() },
		Validate: func(b, old *rbacv1.ClusterRoleBinding) field.ErrorList {
			if old == nil {
				return of(b).validate(nil, false, "ClusterRole")
			}
			return of(b).validate(&old.RoleRef, false, "ClusterRole")
		},
		Columns: bindingColumns(rbacv1.ClusterRoleBinding{}.SwaggerDoc()["roleRef"], of),
	})
}
