// Package quota writes into each ResourceQuota's status how much of it is
// used. What counts for what is said in cluster/kind/quota, what the status is
// to be in decide.go; this file finds out what has changed.
//
// Kinds that no quota counts are not followed; with no quota in the cluster
// nothing is but quotas. Admission keeps to the quotas without this
// controller: it counts for itself.
package quota

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/controller/loop"
	"sampan/cluster/kind"
	"sampan/cluster/kind/quota"
)

// Config is what the controller needs.
type Config struct {
	Client  client.Client
	Log     *slog.Logger
	Workers int // quotas worked on at once; default 4
}

// Controller counts. See the package comment.
type Controller struct {
	cfg      Config
	loop     loop.Loop[types.NamespacedName]
	counting chan struct{}
}

// New returns a controller.
func New(cfg Config) *Controller {
	if cfg.Workers == 0 {
		cfg.Workers = 4
	}
	c := &Controller{cfg: cfg, counting: make(chan struct{}, 1)}
	c.loop = loop.Loop[types.NamespacedName]{Name: "quota", Workers: cfg.Workers, Log: cfg.Log, Sync: c.sync}
	return c
}

// Run works until ctx ends. It returns when nothing of it runs any more.
func (c *Controller) Run(ctx context.Context) error {
	return c.loop.Drive(ctx, c.follow,
		client.Changes(c.cfg.Client, client.Query{}, func(_ context.Context, e client.Change[*corev1.ResourceQuota]) {
			if e.Type == client.Modified && equality.Semantic.DeepEqual(e.Old.Spec, e.Object.Spec) &&
				equality.Semantic.DeepEqual(e.Old.Status, e.Object.Status) {
				return
			}
			if e.Type != client.Deleted {
				c.loop.Add(key(e.Object))
			}
			if e.Type != client.Modified || !equality.Semantic.DeepEqual(e.Old.Spec, e.Object.Spec) {
				c.turn()
			}
		}))
}

func key(q *corev1.ResourceQuota) types.NamespacedName {
	return types.NamespacedName{Namespace: q.Namespace, Name: q.Name}
}

// turn has the controller follow what quotas count now. It never blocks.
func (c *Controller) turn() {
	select {
	case c.counting <- struct{}{}:
	default: // the one that waits will see all
	}
}

// follow is a loop.Source: it watches the kinds that some quota counts.
func (c *Controller) follow(ctx context.Context, seen func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	failed := make(chan error, 1)
	followed := map[*kind.Kind]context.CancelFunc{}
	seen() // what a sync counts it reads from the cache
	for {
		changed := c.cfg.Client.Kinds().Changed()
		wanted, err := c.counted(ctx)
		if err != nil {
			return err
		}
		for k, stop := range followed {
			if !wanted[k] {
				stop()
				delete(followed, k)
			}
		}
		for k := range wanted {
			if followed[k] != nil {
				continue
			}
			inner, stop := context.WithCancel(ctx)
			followed[k] = stop
			all.Go(func() {
				if err := c.watch(inner, k); err != nil {
					select {
					case failed <- fmt.Errorf("follow %s: %w", k, err):
					default: // one is enough to end Run
					}
				}
			})
		}
		select {
		case <-c.counting:
		case <-changed:
			// What was no resource may be one now, or the other way round.
			if err := c.wake(ctx, ""); err != nil {
				return err
			}
		case err := <-failed:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

// counted are the kinds that some quota counts.
func (c *Controller) counted(ctx context.Context) (map[*kind.Kind]bool, error) {
	quotas, err := client.List[*corev1.ResourceQuota](ctx, c.cfg.Client, client.Query{})
	if err != nil {
		return nil, err
	}
	all := map[*kind.Kind]bool{}
	for _, k := range c.cfg.Client.Kinds().All() {
		for _, q := range quotas {
			if len(quota.Concerned(k, q.Spec.Hard)) > 0 {
				all[k] = true
				break
			}
		}
	}
	return all, nil
}

// watch wakes the quotas of each namespace in which an object of kind k comes,
// goes, or counts for something else than before.
func (c *Controller) watch(ctx context.Context, k *kind.Kind) error {
	w, err := c.cfg.Client.Watch(ctx, k, client.Query{})
	if err != nil {
		return err
	}
	for {
		events, err := w.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		touched := map[string]bool{}
		for _, e := range events {
			if e.Type == client.Synced || touched[e.Object.GetNamespace()] || e.Type == client.Modified && !counts(e.Old, e.Object) {
				continue
			}
			touched[e.Object.GetNamespace()] = true
		}
		for ns := range touched {
			if err := c.wake(ctx, ns); err != nil {
				return err
			}
		}
	}
}

// wake has the quotas of a namespace counted anew; of all for an empty name.
func (c *Controller) wake(ctx context.Context, namespace string) error {
	quotas, err := client.List[*corev1.ResourceQuota](ctx, c.cfg.Client, client.Query{Namespace: namespace})
	for _, q := range quotas {
		c.loop.Add(key(q))
	}
	return err
}

// sync writes the status of one quota.
func (c *Controller) sync(ctx context.Context, key types.NamespacedName) (again time.Duration, err error) {
	q, err := client.Get[*corev1.ResourceQuota](ctx, c.cfg.Client, key.Namespace, key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	table := c.cfg.Client.Kinds()
	stored := map[*kind.Kind][]kind.Object{}
	for _, k := range table.All() {
		if len(quota.Concerned(k, q.Spec.Hard)) == 0 {
			continue
		}
		if stored[k], err = c.cfg.Client.List(ctx, k, client.Query{Namespace: key.Namespace}); err != nil {
			return 0, err
		}
	}
	status, again := decide(q, table, stored, time.Now())
	if equality.Semantic.DeepEqual(status, q.Status) {
		return again, nil
	}
	next := q.DeepCopy()
	next.Status = status
	_, err = client.UpdateStatus(ctx, c.cfg.Client, next)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	return again, err
}
