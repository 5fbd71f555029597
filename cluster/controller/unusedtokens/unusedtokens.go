// Package unusedtokens cleans away tokens of service accounts that were made
// for them unasked, as Kubernetes did until 1.24, and that nobody uses: their
// Secret is marked first, from when on the token is refused, and deleted when
// nobody has missed it for as long again. It looks once a day. (Upstream:
// pkg/controller/serviceaccount/legacy_serviceaccount_token_cleaner.go.) Beside
// it is the tracker, which keeps the day since when uses are written down.
//
// It does not know who writes them down, and makes no tokens.
package unusedtokens

import (
	"context"
	"errors"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/controller/loop"
	"sampan/cluster/kind/legacytoken"
	"sampan/cluster/kind/podspec"
)

// DefaultPeriod is upstream's.
const DefaultPeriod = 8760 * time.Hour

// interval is how often tokens are looked at: labels know days only.
const interval = 24 * time.Hour

// Config is what the controller needs.
type Config struct {
	Client client.Client
	Log    *slog.Logger
	Period time.Duration // for which nobody has used a token; default: DefaultPeriod
}

// Controller cleans tokens away. See the package comment.
type Controller struct {
	cfg  Config
	loop loop.Loop[string] // one key
}

// New returns a controller.
func New(cfg Config) *Controller {
	if cfg.Period == 0 {
		cfg.Period = DefaultPeriod
	}
	c := &Controller{cfg: cfg}
	c.loop = loop.Loop[string]{Name: "unusedtokens", Log: cfg.Log, Sync: c.sync}
	return c
}

// Run works until ctx ends. It returns when nothing of it runs any more.
func (c *Controller) Run(ctx context.Context) error {
	c.loop.Seed("all")
	c.loop.Run(ctx)
	return nil
}

func (c *Controller) sync(ctx context.Context, _ string) (again time.Duration, err error) {
	now := time.Now()
	tracking, err := client.Get[*corev1.ConfigMap](ctx, c.cfg.Client, metav1.NamespaceSystem, legacytoken.TrackingName)
	if apierrors.IsNotFound(err) {
		return interval, nil // not even a day is known
	}
	if err != nil {
		return 0, err
	}
	if ok, err := begun(tracking, now, c.cfg.Period); !ok || err != nil {
		return interval, err
	}
	secrets, err := client.List[*corev1.Secret](ctx, c.cfg.Client, client.Query{})
	if err != nil {
		return 0, err
	}
	var failed error
	for _, s := range secrets {
		// Most are nothing of ours, and their accounts not worth a look.
		if is, wrong := old(s, now, c.cfg.Period); is || wrong != nil {
			failed = errors.Join(failed, c.one(ctx, s, now))
		}
	}
	return interval, failed
}

// one does to a Secret what is decided.
func (c *Controller) one(ctx context.Context, s *corev1.Secret, now time.Time) error {
	key := s.Namespace + "/" + s.Name
	var sa *corev1.ServiceAccount
	if name := s.Annotations[corev1.ServiceAccountNameKey]; name != "" {
		var err error
		if sa, err = client.Get[*corev1.ServiceAccount](ctx, c.cfg.Client, s.Namespace, name); apierrors.IsNotFound(err) {
			sa = nil
		} else if err != nil {
			return err
		}
	}
	pods, err := client.List[*corev1.Pod](ctx, c.cfg.Client, client.Query{Namespace: s.Namespace})
	if err != nil {
		return err
	}
	mounted := func() bool {
		for _, p := range pods {
			if podspec.UsesSecret(p, s.Name) {
				return true
			}
		}
		return false
	}
	d := decide(s, sa, mounted, now, c.cfg.Period)
	switch {
	case d.err != nil:
		c.cfg.Log.Error("when a token was used last cannot be said", "key", key, "err", d.err)
	case d.mark != "":
		c.cfg.Log.Info("token that nobody uses is marked invalid", "key", key, "since", d.mark)
		_, err = c.cfg.Client.Patch(ctx, client.KindOf[*corev1.Secret](c.cfg.Client), client.Patch{Namespace: s.Namespace, Name: s.Name, Type: types.MergePatchType,
			Data: []byte(`{"metadata":{"uid":"` + string(s.UID) + `","labels":{"` + legacytoken.InvalidSince + `":"` + d.mark + `"}}}`)})
	case d.remove:
		c.cfg.Log.Info("token that nobody has used or missed is deleted", "key", key, "created", s.CreationTimestamp.Time,
			"used", s.Labels[legacytoken.LastUsed], "invalid", s.Labels[legacytoken.InvalidSince])
		// The version too: somebody may use it just now.
		err = client.Delete[*corev1.Secret](ctx, c.cfg.Client, s.Namespace, s.Name, &metav1.DeleteOptions{
			Preconditions: &metav1.Preconditions{UID: &s.UID, ResourceVersion: &s.ResourceVersion}})
	}
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // it is another by now; tomorrow is early enough
	}
	return err
}
