// Package tokens fills Secrets of the type kubernetes.io/service-account-token
// that users made: with a token of the service account that the Secret names,
// the authority to trust, and the namespace. A Secret whose account is gone is
// deleted; an account forgets a Secret that is gone. (Upstream:
// pkg/controller/serviceaccount/tokens_controller.go.)
//
// It makes no Secrets, and does not know how tokens are signed.
package tokens

import (
	"context"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/controller/loop"
)

// Config is what the controller needs.
type Config struct {
	Client client.Client
	Log    *slog.Logger
	CA     string // certificates of the API server's authority, PEM

	// Sign makes the token of an account that a Secret of this name is to hold.
	Sign func(sa *corev1.ServiceAccount, secret string) (string, error)
}

// Controller fills Secrets. See the package comment.
type Controller struct {
	cfg  Config
	loop loop.Loop[key]
}

// key is a Secret and the account that it named: of one that is gone nobody
// could say.
type key struct{ namespace, secret, account string }

// New returns a controller.
func New(cfg Config) *Controller {
	c := &Controller{cfg: cfg}
	c.loop = loop.Loop[key]{Name: "tokens", Log: cfg.Log, Workers: 5, Sync: c.sync}
	return c
}

// Run works until ctx ends. It returns when nothing of it runs any more.
func (c *Controller) Run(ctx context.Context) error {
	return c.loop.Drive(ctx,
		client.Changes(c.cfg.Client, client.Query{}, func(_ context.Context, e client.Change[*corev1.Secret]) {
			c.add(e.Object)
		}),
		client.Changes(c.cfg.Client, client.Query{}, func(ctx context.Context, e client.Change[*corev1.ServiceAccount]) {
			if e.Type != client.Deleted {
				return // a Secret that waits for its account does not exist
			}
			of, err := client.List[*corev1.Secret](ctx, c.cfg.Client, client.Query{Namespace: e.Object.Namespace})
			if err != nil {
				c.cfg.Log.Error("secrets of a deleted service account not found", "key", e.Object.Namespace+"/"+e.Object.Name, "err", err)
			}
			for _, s := range of {
				if s.Annotations[corev1.ServiceAccountNameKey] == e.Object.Name {
					c.add(s)
				}
			}
		}))
}

func (c *Controller) add(s *corev1.Secret) {
	if account := s.Annotations[corev1.ServiceAccountNameKey]; s.Type == corev1.SecretTypeServiceAccountToken && account != "" {
		c.loop.Add(key{s.Namespace, s.Name, account})
	}
}

func (c *Controller) sync(ctx context.Context, k key) (again time.Duration, err error) {
	sa, err := client.Get[*corev1.ServiceAccount](ctx, c.cfg.Client, k.namespace, k.account)
	if apierrors.IsNotFound(err) {
		sa, err = nil, nil
	}
	if err != nil {
		return 0, err
	}
	s, err := client.Get[*corev1.Secret](ctx, c.cfg.Client, k.namespace, k.secret)
	if apierrors.IsNotFound(err) {
		return 0, c.forget(ctx, sa, k.secret)
	}
	if err != nil {
		return 0, err
	}
	d := decide(s, sa, c.cfg.CA)
	switch {
	case d.remove:
		err = client.Delete[*corev1.Secret](ctx, c.cfg.Client, s.Namespace, s.Name, &metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &s.UID}})
	case d.secret != nil:
		if d.sign {
			token, err := c.cfg.Sign(sa, s.Name)
			if err != nil {
				return 0, err
			}
			d.secret.Data[corev1.ServiceAccountTokenKey] = []byte(token)
		}
		_, err = client.Update(ctx, c.cfg.Client, d.secret)
	}
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	return 0, err
}

// forget takes a Secret that is gone out of the list of an account.
func (c *Controller) forget(ctx context.Context, sa *corev1.ServiceAccount, secret string) error {
	of := func(r corev1.ObjectReference) bool { return r.Name == secret }
	if sa == nil || !slices.ContainsFunc(sa.Secrets, of) {
		return nil
	}
	sa = sa.DeepCopy()
	sa.Secrets = slices.DeleteFunc(sa.Secrets, of)
	_, err := client.Update(ctx, c.cfg.Client, sa)
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
