// Package bootstrapsigner signs what machines that join read without a
// credential: the kubeconfig in the ConfigMap cluster-info of kube-public, with
// each bootstrap token that may. Who has the token can tell that it is the
// right cluster's. It signs where there is such a ConfigMap and makes none.
// (Upstream: pkg/controller/bootstrap.)
//
// It does not say who may use a token.
package bootstrapsigner

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

// Controller signs. See the package comment.
type Controller struct {
	cfg  Config
	loop loop.Loop[string] // the one ConfigMap's name
}

// New returns a controller.
func New(cfg Config) *Controller {
	c := &Controller{cfg: cfg}
	c.loop = loop.Loop[string]{Name: "bootstrapsigner", Log: cfg.Log, Sync: c.sync}
	return c
}

// Run works until ctx ends. It returns when nothing of it runs any more.
func (c *Controller) Run(ctx context.Context) error {
	return c.loop.Drive(ctx,
		client.Changes(c.cfg.Client, client.Query{Namespace: metav1.NamespacePublic}, func(_ context.Context, e client.Change[*corev1.ConfigMap]) {
			if e.Object.Name == infoName {
				c.loop.Add(infoName)
			}
		}),
		client.Changes(c.cfg.Client, client.Query{Namespace: metav1.NamespaceSystem}, func(_ context.Context, e client.Change[*corev1.Secret]) {
			if e.Object.Type == bootstraptoken.Type {
				c.loop.Add(infoName)
			}
		}))
}

func (c *Controller) sync(ctx context.Context, name string) (again time.Duration, err error) {
	info, err := client.Get[*corev1.ConfigMap](ctx, c.cfg.Client, metav1.NamespacePublic, name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	secrets, err := client.List[*corev1.Secret](ctx, c.cfg.Client, client.Query{Namespace: metav1.NamespaceSystem})
	if err != nil {
		return 0, err
	}
	d := decide(info, secrets, time.Now())
	if d.data == nil {
		return d.again, nil
	}
	info = info.DeepCopy()
	info.Data = d.data
	_, err = client.Update(ctx, c.cfg.Client, info)
	return d.again, err
}
