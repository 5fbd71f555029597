package core

import (
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"sampan/cluster/kind"
)

// ServiceAccount is who the processes of a pod are to the API.
func ServiceAccount() *kind.Kind {
	return kind.Declare(kind.Of[corev1.ServiceAccount]{
		GVK:           corev1.SchemeGroupVersion.WithKind("ServiceAccount"),
		Plural:        "serviceaccounts",
		Rechecked:     true,
		ReturnDeleted: true,
		Short:         []string{"sa"},
		Actions: map[string]kind.Action[corev1.ServiceAccount]{
			"token": {
				GVK: authenticationv1.SchemeGroupVersion.WithKind("TokenRequest"),
				New: func() runtime.Object { return &authenticationv1.TokenRequest{} },
			},
		},
		Prepare: func(a, _ *corev1.ServiceAccount) {
			for i := range a.Secrets { // nothing else of a reference means anything
				a.Secrets[i] = corev1.ObjectReference{Name: a.Secrets[i].Name}
			}
		},
		Columns: []kind.Column[corev1.ServiceAccount]{
			kind.Age[corev1.ServiceAccount](),
		},
	})
}
