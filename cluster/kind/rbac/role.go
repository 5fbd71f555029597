package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// Role is a set of rules for one namespace.
func Role() *kind.Kind {
	return kind.Declare(kind.Of[rbacv1.Role]{
		GVK:            rbacv1.SchemeGroupVersion.WithKind("Role"),
		Plural:         "roles",
		CreateOnUpdate: true,
		ValidateName:   validName,
		Validate:       func(r, _ *rbacv1.Role) field.ErrorList { return validRules(r.Rules, true) },
		Columns:        []kind.Column[rbacv1.Role]{created[rbacv1.Role]()},
	})
}
