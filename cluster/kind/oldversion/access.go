package oldversion

import (
	rbacv1 "k8s.io/api/rbac/v1"
	rbacv1alpha1 "k8s.io/api/rbac/v1alpha1"
	rbacv1beta1 "k8s.io/api/rbac/v1beta1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// roles of v1beta1 are those of v1. In v1alpha1 a subject had an API version,
// and the user "*" was everybody who is known.
func roles(t table) {
	hub, beta, alpha := rbacv1.SchemeGroupVersion, rbacv1beta1.SchemeGroupVersion, rbacv1alpha1.SchemeGroupVersion
	add(t, hub, beta, differs[rbacv1beta1.Role, rbacv1.Role]{})
	add(t, hub, beta, differs[rbacv1beta1.RoleBinding, rbacv1.RoleBinding]{})
	add(t, hub, beta, differs[rbacv1beta1.ClusterRole, rbacv1.ClusterRole]{})
	add(t, hub, beta, differs[rbacv1beta1.ClusterRoleBinding, rbacv1.ClusterRoleBinding]{})

	subjects := func(up, down *copier) {
		then(up, subjectUp)
		then(down, subjectDown)
	}
	alphas(t, hub, alpha, differs[rbacv1alpha1.Role, rbacv1.Role]{})
	alphas(t, hub, alpha, differs[rbacv1alpha1.RoleBinding, rbacv1.RoleBinding]{parts: subjects})
	alphas(t, hub, alpha, differs[rbacv1alpha1.ClusterRole, rbacv1.ClusterRole]{})
	alphas(t, hub, alpha, differs[rbacv1alpha1.ClusterRoleBinding, rbacv1.ClusterRoleBinding]{parts: subjects})
}

func alphas[Old, Hub any, O object[Old], H object[Hub]](t table, hub, gv schema.GroupVersion, d differs[Old, Hub]) {
	addDeprecated[Old, Hub, O, H](t, hub, gv, "v1.17", "v1.22", d)
}

func subjectUp(dst *rbacv1.Subject, src *rbacv1alpha1.Subject) {
	switch src.Kind {
	case rbacv1alpha1.ServiceAccountKind:
	case rbacv1alpha1.UserKind, rbacv1alpha1.GroupKind:
		dst.APIGroup = rbacv1.GroupName
	default:
		if gv, err := schema.ParseGroupVersion(src.APIVersion); err == nil {
			dst.APIGroup = gv.Group
		}
	}
	if src.Kind == rbacv1alpha1.UserKind && src.Name == "*" {
		dst.Kind, dst.Name = rbacv1.GroupKind, "system:authenticated"
	}
}

func subjectDown(dst *rbacv1alpha1.Subject, src *rbacv1.Subject) {
	switch {
	case src.Kind == rbacv1.ServiceAccountKind && src.APIGroup == "":
		dst.APIVersion = "v1"
	case (src.Kind == rbacv1.UserKind || src.Kind == rbacv1.GroupKind) && src.APIGroup == rbacv1.GroupName:
		dst.APIVersion = rbacv1alpha1.SchemeGroupVersion.String()
	default:
		dst.APIVersion = schema.GroupVersion{Group: src.APIGroup}.String()
	}
}
