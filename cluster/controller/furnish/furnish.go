// Package furnish keeps an object that every namespace has: the service
// account "default", the ConfigMap kube-root-ca.crt. Deleted, it comes back;
// changed where it may not be, it is put right.
//
// It does not know what the object is for.
package furnish

import (
	"context"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/controller/loop"
)

// Config says what every namespace has.
type Config[T client.Typed] struct {
	Client client.Client
	Log    *slog.Logger
	Name   string // the controller's, in logs
	Object string // the object's name

	// New returns the object for a namespace, without name and namespace.
	New func() T

	// Mend makes have, a copy, as it must be, and returns false if it was so
	// already. Nil: anything is fine.
	Mend func(have T) (changed bool)
}

// Controller keeps the object. See the package comment.
type Controller[T client.Typed] struct {
	cfg  Config[T]
	loop *loop.Loop[string] // of namespaces
}

// New returns a controller.
func New[T client.Typed](cfg Config[T]) *Controller[T] {
	c := &Controller[T]{cfg: cfg}
	c.loop = &loop.Loop[string]{Name: cfg.Name, Log: cfg.Log, Sync: c.sync}
	return c
}

// Run works until ctx ends.
func (c *Controller[T]) Run(ctx context.Context) error {
	return c.loop.Drive(ctx,
		client.Changes(c.cfg.Client, client.Query{}, func(_ context.Context, e client.Change[*corev1.Namespace]) {
			if e.Type != client.Deleted {
				c.loop.Add(e.Object.Name)
			}
		}),
		client.Changes(c.cfg.Client, client.Query{Name: c.cfg.Object}, func(_ context.Context, e client.Change[T]) {
			if e.Type != client.Added {
				c.loop.Add(e.Object.GetNamespace())
			}
		}))
}

func (c *Controller[T]) sync(ctx context.Context, namespace string) (time.Duration, error) {
	ns, err := client.Get[*corev1.Namespace](ctx, c.cfg.Client, "", namespace)
	if apierrors.IsNotFound(err) || err == nil && ns.Status.Phase == corev1.NamespaceTerminating {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	have, err := client.Get[T](ctx, c.cfg.Client, namespace, c.cfg.Object)
	if apierrors.IsNotFound(err) {
		want := c.cfg.New()
		want.SetNamespace(namespace)
		want.SetName(c.cfg.Object)
		_, err = client.Create(ctx, c.cfg.Client, want)
		if apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return 0, nil
		}
		return 0, err
	}
	if err != nil || c.cfg.Mend == nil || have.GetDeletionTimestamp() != nil {
		return 0, err
	}
	mended := have.DeepCopyObject().(T)
	if !c.cfg.Mend(mended) {
		return 0, nil
	}
	_, err = client.Update(ctx, c.cfg.Client, mended)
	return 0, err
}

// ServiceAccount keeps the account that pods run as unless they name another.
func ServiceAccount(c client.Client, log *slog.Logger) *Controller[*corev1.ServiceAccount] {
	return New(Config[*corev1.ServiceAccount]{Client: c, Log: log, Name: "serviceaccount", Object: "default",
		New: func() *corev1.ServiceAccount { return &corev1.ServiceAccount{} }})
}

// RootCA keeps the certificate by which pods know the API server.
func RootCA(c client.Client, log *slog.Logger, pem string) *Controller[*corev1.ConfigMap] {
	const about = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. " +
		"No other usage is guaranteed across distributions of Kubernetes clusters."
	mend := func(m *corev1.ConfigMap) bool {
		if len(m.Data) == 1 && m.Data["ca.crt"] == pem {
			return false
		}
		m.Data, m.BinaryData = map[string]string{"ca.crt": pem}, nil
		if m.Annotations == nil {
			m.Annotations = map[string]string{}
		}
		m.Annotations["kubernetes.io/description"] = about
		return true
	}
	return New(Config[*corev1.ConfigMap]{Client: c, Log: log, Name: "root-ca", Object: "kube-root-ca.crt", Mend: mend,
		New: func() *corev1.ConfigMap {
			m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{}}
			mend(m)
			return m
		}})
}
