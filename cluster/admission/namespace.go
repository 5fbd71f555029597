package admission

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
)

// Namespaces lets nothing new into a namespace that does not exist or is on
// its way out, and keeps those that the system lives in. It is upstream's
// NamespaceLifecycle.
type Namespaces struct{ Reader client.Reader }

// immortal namespaces cannot be deleted.
var immortal = map[string]bool{
	metav1.NamespaceDefault: true, metav1.NamespaceSystem: true, metav1.NamespacePublic: true, corev1.NamespaceNodeLease: true,
}

// Mutate implements Mutator; it comes before all others, so that what is said
// first is that the namespace is missing.
func (n Namespaces) Mutate(ctx context.Context, a *Attempt) error {
	r := a.Request
	if r.Kind.GVK == corev1.SchemeGroupVersion.WithKind("Namespace") {
		if a.Operation == Delete && immortal[r.Name] {
			return apierrors.NewForbidden(r.Kind.GroupResource(), r.Name, errors.New("this namespace may not be deleted"))
		}
		return nil
	}
	if r.Kind.Cluster || a.Operation != Create {
		return nil
	}
	ns, err := client.Get[*corev1.Namespace](ctx, n.Reader, "", r.Namespace)
	if err != nil {
		return err
	}
	if ns.Status.Phase != corev1.NamespaceTerminating && ns.DeletionTimestamp == nil {
		return nil
	}
	refusal := apierrors.NewForbidden(r.Kind.GroupResource(), r.Name, fmt.Errorf(
		"unable to create new content in namespace %s because it is being terminated", ns.Name))
	refusal.ErrStatus.Details.Causes = append(refusal.ErrStatus.Details.Causes, metav1.StatusCause{
		Type: corev1.NamespaceTerminatingCause, Field: "metadata.namespace",
		Message: fmt.Sprintf("namespace %s is being terminated", ns.Name),
	})
	return refusal
}
