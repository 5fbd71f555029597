package admission

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
)

// AutoProvision makes the namespace that something new is to be in, if there is
// none. It is upstream's NamespaceAutoProvision, and comes before Namespaces.
type AutoProvision struct {
	Reader client.Reader
	// Client makes namespaces, in the API server's own name. It is asked for
	// when the first is to be made: admission is older than what writes.
	Client func() client.Client
}

// Mutate implements Mutator.
func (p AutoProvision) Mutate(ctx context.Context, a *Attempt) error {
	r := a.Request
	if a.Operation != Create || r.DryRun || r.Namespace == "" || r.Kind.Cluster {
		return nil
	}
	_, err := client.Get[*corev1.Namespace](ctx, p.Reader, "", r.Namespace)
	if apierrors.IsNotFound(err) {
		_, err = client.Create(ctx, p.Client(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: r.Namespace}})
	}
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return forbidden(a, err)
	}
	return nil
}
