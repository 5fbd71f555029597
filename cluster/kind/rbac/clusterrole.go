package rbac

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	metav1validation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"sampan/cluster/kind"
)

// ClusterRole is a set of rules that can be bound everywhere. With an
// aggregation rule its rules are those of other ClusterRoles, gathered by a
// controller.
func ClusterRole() *kind.Kind {
	return kind.Declare(kind.Of[rbacv1.ClusterRole]{
		GVK:            rbacv1.SchemeGroupVersion.WithKind("ClusterRole"),
		Plural:         "clusterroles",
		Cluster:        true,
		CreateOnUpdate: true,
		ValidateName:   validName,
		Validate:       validateClusterRole,
		Columns:        []kind.Column[rbacv1.ClusterRole]{created[rbacv1.ClusterRole]()},
	})
}

func validateClusterRole(r, _ *rbacv1.ClusterRole) field.ErrorList {
	errs := validRules(r.Rules, false)
	if r.AggregationRule == nil {
		return errs
	}
	path := field.NewPath("aggregationRule", "clusterRoleSelectors")
	if len(r.AggregationRule.ClusterRoleSelectors) == 0 {
		errs = append(errs, field.Required(path, "at least one clusterRoleSelector required if aggregationRule is non-nil"))
	}
	for i := range r.AggregationRule.ClusterRoleSelectors {
		s := &r.AggregationRule.ClusterRoleSelectors[i]
		errs = append(errs, metav1validation.ValidateLabelSelector(s, metav1validation.LabelSelectorValidationOptions{}, path.Index(i))...)
		if _, err := metav1.LabelSelectorAsSelector(s); err != nil {
			errs = append(errs, field.Invalid(path.Index(i), nil, "invalid label selector."))
		}
	}
	return errs
}
