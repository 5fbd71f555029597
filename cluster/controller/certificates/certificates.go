// Package certificates answers CertificateSigningRequests: those of nodes are
// approved by themselves, approved ones are signed by Kubernetes' own signers,
// and old ones deleted. What to do is decided in decide.go from cached state
// and the time; this file carries it out. Beside it are two keepers: one
// deletes old PodCertificateRequests, one publishes the authority of the API
// server as a ClusterTrustBundle.
//
// It knows neither nodes nor how certificates are used.
package certificates

import (
	"context"
	"log/slog"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/controller/loop"
)

// Config is what the controller needs.
type Config struct {
	Client    client.Client
	Log       *slog.Logger
	Authority Authority

	// May says whether who made a request may create the subresource of
	// certificatesigningrequests that stands for having it approved.
	May func(ctx context.Context, r *certificatesv1.CertificateSigningRequest, sub string) bool
}

// Controller answers requests. See the package comment.
type Controller struct {
	cfg  Config
	loop loop.Loop[string]
}

// New returns a controller.
func New(cfg Config) *Controller {
	c := &Controller{cfg: cfg}
	c.loop = loop.Loop[string]{Name: "certificates", Log: cfg.Log, Sync: c.sync}
	return c
}

// Run works until ctx ends. It returns when nothing of it runs any more.
func (c *Controller) Run(ctx context.Context) error {
	return c.loop.Drive(ctx, client.Changes(c.cfg.Client, client.Query{}, func(_ context.Context, e client.Change[*certificatesv1.CertificateSigningRequest]) {
		if e.Type != client.Deleted {
			c.loop.Add(e.Object.Name)
		}
	}))
}

func (c *Controller) sync(ctx context.Context, name string) (again time.Duration, err error) {
	r, err := client.Get[*certificatesv1.CertificateSigningRequest](ctx, c.cfg.Client, "", name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	now := time.Now()
	d := decide(r, now, func(sub string) bool { return c.cfg.May(ctx, r, sub) })
	switch {
	case d.remove:
		err = client.Delete[*certificatesv1.CertificateSigningRequest](ctx, c.cfg.Client, "", name,
			&metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(r.UID))})
	case d.approve != "":
		err = c.write(ctx, r, "approval", func(next *certificatesv1.CertificateSigningRequest) {
			next.Status.Conditions = append(next.Status.Conditions, approved(d.approve))
		})
	case d.fail != "":
		err = c.write(ctx, r, "status", func(next *certificatesv1.CertificateSigningRequest) {
			next.Status.Conditions = append(next.Status.Conditions, failed(d.fail, metav1.NewTime(now).Rfc3339Copy()))
		})
	case d.sign:
		made, failed := c.cfg.Authority.sign(r, now)
		if failed != nil {
			return 0, failed
		}
		err = c.write(ctx, r, "status", func(next *certificatesv1.CertificateSigningRequest) { next.Status.Certificate = made })
	}
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if d.left != nil {
		// What somebody asks for and may not have is no fault of the program.
		c.cfg.Log.Debug("request is not approved by itself", "key", name, "again", d.again, "why", d.left)
	}
	return d.again, err
}

func (c *Controller) write(ctx context.Context, r *certificatesv1.CertificateSigningRequest, part string, change func(*certificatesv1.CertificateSigningRequest)) error {
	next := r.DeepCopy()
	change(next)
	_, err := c.cfg.Client.Update(ctx, client.KindOf[*certificatesv1.CertificateSigningRequest](c.cfg.Client), next, part)
	return err
}
