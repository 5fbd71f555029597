// Package tokencleaner deletes bootstrap tokens whose time is over: Secrets of
// the type bootstrap.kubernetes.io/token in kube-system. There is one timer for
// a token, and nothing else. (Upstream: pkg/controller/bootstrap.)
//
// It does not say who may use a token.
package tokencleaner

import (
	"context"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/controller/loop"
	"sampan/cluster/kind/bootstraptoken"
)

// Config is what the controller needs.
type Config struct {
	Client client.Client
	Log    *slog.Logger
}

// Controller deletes tokens. See the package comment.
type Controller struct {
	cfg  Config
	loop loop.Loop[string] // names of secrets
}

// New returns a controller.
func New(cfg Config) *Controller {
	c := &Controller{cfg: cfg}
	c.loop = loop.Loop[string]{Name: "tokencleaner", Log: cfg.Log, Sync: c.sync}
	return c
}

// Run works until ctx ends. It returns when nothing of it runs any more.
func (c *Controller) Run(ctx context.Context) error {
	return c.loop.Drive(ctx, client.Changes(c.cfg.Client, client.Query{Namespace: metav1.NamespaceSystem}, func(_ context.Context, e client.Change[*corev1.Secret]) {
		if e.Object.Type == bootstraptoken.Type && e.Type != client.Deleted {
			c.loop.Add(e.Object.Name)
		}
	}))
}

func (c *Controller) sync(ctx context.Context, name string) (again time.Duration, err error) {
	s, err := client.Get[*corev1.Secret](ctx, c.cfg.Client, metav1.NamespaceSystem, name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	left, over := bootstraptoken.Left(s, time.Now())
	if !over || s.Type != bootstraptoken.Type || s.DeletionTimestamp != nil {
		return left, nil
	}
	// The version too: somebody may make the token last longer just now.
	err = client.Delete[*corev1.Secret](ctx, c.cfg.Client, s.Namespace, s.Name, &metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &s.UID, ResourceVersion: &s.ResourceVersion}})
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	return 0, err
}
