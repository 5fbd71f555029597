// Package replicaset keeps as many pods of one template alive as its
// ReplicaSet asks for. What to do is decided in decide.go, and whom to stop in
// rank.go, from cached state alone; this file carries it out.
//
// There are no "expectations" as upstream has them: a write returns when the
// cache shows it, so the next look counts the pods that this one made.
//
// It knows neither nodes nor containers.
package replicaset

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/client/event"
	"sampan/cluster/controller/claim"
	"sampan/cluster/controller/loop"
	"sampan/cluster/kind"
)

// Name is this controller's, in events.
const Name = "replicaset-controller"

// Config is what the controller needs.
type Config struct {
	Client  client.Client
	Log     *slog.Logger
	Workers int // replica sets worked on at once; default 5
}

// Controller keeps replica sets. See the package comment.
type Controller struct {
	cfg    Config
	events *event.Recorder
	loop   loop.Loop[types.NamespacedName]
	claims claim.Claims[*corev1.Pod]
}

// New returns a controller.
func New(cfg Config) *Controller {
	if cfg.Workers == 0 {
		cfg.Workers = 5
	}
	c := &Controller{
		cfg:    cfg,
		events: &event.Recorder{Client: cfg.Client, Component: Name, Log: cfg.Log},
		claims: claim.Claims[*corev1.Pod]{Client: cfg.Client, Owner: client.KindOf[*appsv1.ReplicaSet](cfg.Client)},
	}
	c.loop = loop.Loop[types.NamespacedName]{Name: "replicaset", Workers: cfg.Workers, Log: cfg.Log, Sync: c.sync}
	return c
}

// Run works until ctx ends. It returns when nothing of it runs any more.
func (c *Controller) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	defer all.Wait()
	failed := make(chan error, 2)
	all.Go(func() { c.events.Run(ctx) })

	// The loop starts when all pods were seen: with some of them unseen, an
	// orphan that is to be adopted would be made again.
	seen := make(chan struct{})
	all.Go(func() {
		failed <- client.Follow(ctx, c.cfg.Client, client.Query{}, func(e client.Change[*corev1.Pod]) {
			if e.Type == client.Synced {
				close(seen)
				return
			}
			c.pod(ctx, e)
		})
	})
	all.Go(func() {
		failed <- client.Follow(ctx, c.cfg.Client, client.Query{}, func(e client.Change[*appsv1.ReplicaSet]) {
			if e.Type != client.Synced && e.Type != client.Deleted && asked(e.Old, e.Object) {
				c.loop.Add(key(e.Object))
			}
		})
	})
	all.Go(func() {
		select {
		case <-seen:
			c.loop.Run(ctx)
		case <-ctx.Done():
		}
	})
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// asked is false for a change of the status alone: it is mostly our own, and
// looking again would take a failure for a wish and forget its back-off.
func asked(old, now *appsv1.ReplicaSet) bool {
	return old == nil || old.UID != now.UID || old.Generation != now.Generation ||
		(old.DeletionTimestamp == nil) != (now.DeletionTimestamp == nil)
}

// pod wakes the replica sets that a pod's change concerns.
func (c *Controller) pod(ctx context.Context, e client.Change[*corev1.Pod]) {
	c.claims.Note(e)
	for _, key := range claim.Concerned(ctx, c.cfg.Client, e, selector) {
		c.loop.Add(key)
	}
}

func selector(rs *appsv1.ReplicaSet) *metav1.LabelSelector { return rs.Spec.Selector }

func key(rs *appsv1.ReplicaSet) types.NamespacedName {
	return types.NamespacedName{Namespace: rs.Namespace, Name: rs.Name}
}

// sync brings one replica set's pods and status to what it asks for.
func (c *Controller) sync(ctx context.Context, key types.NamespacedName) (again time.Duration, err error) {
	rs, err := client.Get[*appsv1.ReplicaSet](ctx, c.cfg.Client, key.Namespace, key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	selector, err := metav1.LabelSelectorAsSelector(rs.Spec.Selector)
	if err != nil {
		c.cfg.Log.Warn("replica set has a selector that cannot be", "key", key, "err", err)
		return 0, nil // a change of it wakes us
	}
	owned, err := c.claims.Of(ctx, rs, selector)
	if err != nil {
		return 0, err
	}
	failed, acted := c.act(ctx, rs, owned)
	if acted {
		// The status is of what is there now, not of what was found: one
		// write less, and nobody reads a count that is known to be old.
		if owned, err = c.claims.Of(ctx, rs, selector); err != nil {
			return 0, err
		}
	}
	again, err = c.writeStatus(ctx, rs, owned, failed)
	return again, errors.Join(failed, err)
}

// act decides and carries out. acted is true if something was tried.
func (c *Controller) act(ctx context.Context, rs *appsv1.ReplicaSet, owned []*corev1.Pod) (failed error, acted bool) {
	d := decide(rs, owned, nil, time.Now())
	switch {
	case d.create > 0:
		return c.create(ctx, rs, d.create), true
	case len(d.remove) > 0:
		related, err := c.related(ctx, rs)
		if err != nil {
			return err, false
		}
		d = decide(rs, owned, related, time.Now())
		return c.remove(ctx, rs, d.remove), true
	}
	return nil, false
}

// related are the pods of all replica sets that the owner of rs has.
func (c *Controller) related(ctx context.Context, rs *appsv1.ReplicaSet) (all []*corev1.Pod, err error) {
	sets := []*appsv1.ReplicaSet{rs}
	if ref := metav1.GetControllerOfNoCopy(rs); ref != nil {
		sets, err = client.List[*appsv1.ReplicaSet](ctx, c.cfg.Client, client.Query{
			Namespace: rs.Namespace, Index: kind.OwnerIndex, Value: string(ref.UID)})
		if err != nil {
			return nil, err
		}
	}
	for _, set := range sets {
		some, err := client.List[*corev1.Pod](ctx, c.cfg.Client, client.Query{
			Namespace: rs.Namespace, Index: kind.OwnerIndex, Value: string(set.UID)})
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

// create makes n pods: first one, then two, then four at once, so that a
// fault that concerns all of them is met once and not 500 times.
func (c *Controller) create(ctx context.Context, rs *appsv1.ReplicaSet, n int) error {
	template := newPod(rs)
	for batch := 1; n > 0; batch *= 2 {
		batch = min(batch, n)
		n -= batch
		err := together(batch, func(int) error {
			p, err := client.Create(ctx, c.cfg.Client, template.DeepCopy())
			switch {
			case err == nil:
				c.events.Eventf(rs, corev1.EventTypeNormal, "SuccessfulCreate", "Created pod: %v", p.Name)
			case apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
				return nil // the namespace goes, and this set with it
			case ctx.Err() == nil:
				c.events.Eventf(rs, corev1.EventTypeWarning, "FailedCreate", "Error creating: %v", err)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Controller) remove(ctx context.Context, rs *appsv1.ReplicaSet, all []*corev1.Pod) error {
	return together(len(all), func(i int) error {
		p := all[i]
		err := client.Delete[*corev1.Pod](ctx, c.cfg.Client, p.Namespace, p.Name,
			&metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(p.UID))})
		switch {
		case err == nil:
			c.events.Eventf(rs, corev1.EventTypeNormal, "SuccessfulDelete", "Deleted pod: %v", p.Name)
		case apierrors.IsNotFound(err):
			return nil
		case ctx.Err() == nil:
			c.events.Eventf(rs, corev1.EventTypeWarning, "FailedDelete", "Error deleting: %v", err)
		}
		return err
	})
}

// together calls do for 0 … n-1, some at a time, and returns one of the errors:
// the others say the same of other pods. Writes that come together share a
// flush of the store's log.
func together(n int, do func(i int) error) error {
	const width = 16
	var all sync.WaitGroup
	errs := make([]error, n)
	slots := make(chan struct{}, width)
	for i := range n {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			errs[i] = do(i)
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// newPod is the pod that rs asks for. The name is chosen at creation.
func newPod(rs *appsv1.ReplicaSet) *corev1.Pod {
	t := rs.Spec.Template.DeepCopy()
	prefix := rs.Name + "-"
	if len(validation.NameIsDNSSubdomain(prefix, true)) > 0 {
		prefix = rs.Name
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: rs.Namespace, GenerateName: prefix,
			Labels: t.Labels, Annotations: t.Annotations, Finalizers: t.Finalizers,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(rs, appsv1.SchemeGroupVersion.WithKind("ReplicaSet"))},
		},
		Spec: t.Spec,
	}
}

func (c *Controller) writeStatus(ctx context.Context, rs *appsv1.ReplicaSet, owned []*corev1.Pod, failed error) (again time.Duration, err error) {
	s, again := status(rs, owned, failed, time.Now())
	if equality.Semantic.DeepEqual(s, rs.Status) {
		return again, nil
	}
	next := rs.DeepCopy()
	next.Status = s
	_, err = client.UpdateStatus(ctx, c.cfg.Client, next)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	return again, err
}
