// Package namespace empties the namespaces that are being deleted, and then
// lets them go: it removes the finalizer "kubernetes" from their spec.
//
// It knows kinds only as a list of what can be in a namespace, so that custom
// resources are no special case.
package namespace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/client"
	"sampan/cluster/controller/loop"
	"sampan/cluster/kind"
)

// Config is what the controller needs.
type Config struct {
	Client  client.Client
	Log     *slog.Logger
	Workers int // namespaces emptied at once; default 10, as upstream's

	// Elsewhere is what other servers keep. Nil: there are none.
	Elsewhere Elsewhere
}

// Elsewhere is what servers behind the API server keep in namespaces.
type Elsewhere interface {
	// Empty deletes it. It returns what is there still, and the group versions
	// of which nobody knows now what they have.
	Empty(ctx context.Context, namespace string) (left map[schema.GroupVersionResource][]*metav1.PartialObjectMetadata, unknown []schema.GroupVersion, err error)
}

// Controller empties namespaces. See the package comment.
type Controller struct {
	cfg  Config
	loop *loop.Loop[string] // of namespaces

	mu       sync.Mutex           // guards all below
	watchers sync.WaitGroup       // of followed
	followed map[string]*follower // by namespace
}

// follower tells when something leaves a namespace that is being emptied.
type follower struct {
	stop  context.CancelFunc
	ctx   context.Context // of the watches of one namespace; ends with it
	kinds map[*kind.Kind]bool
}

// New returns a controller.
func New(cfg Config) *Controller {
	if cfg.Workers == 0 {
		cfg.Workers = 10
	}
	c := &Controller{cfg: cfg, followed: map[string]*follower{}}
	c.loop = &loop.Loop[string]{Name: "namespace", Workers: cfg.Workers, Log: cfg.Log, Sync: c.sync}
	return c
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer c.watchers.Wait() // nothing is added once the loop has ended
	defer all.Wait()
	defer cancel()
	failed := make(chan error, 1)
	all.Go(func() {
		failed <- client.Follow(ctx, c.cfg.Client, client.Query{}, func(e client.Change[*corev1.Namespace]) {
			if e.Type != client.Synced && e.Object.DeletionTimestamp != nil {
				c.loop.Add(e.Object.Name)
			}
		})
	})
	all.Go(func() { c.loop.Run(ctx) })
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

func (c *Controller) sync(ctx context.Context, name string) (time.Duration, error) {
	ns, err := client.Get[*corev1.Namespace](ctx, c.cfg.Client, "", name)
	if apierrors.IsNotFound(err) {
		c.unfollow(name)
		return 0, c.sweep(ctx, name)
	}
	if err != nil {
		return 0, err
	}
	if ns.DeletionTimestamp == nil || len(ns.Spec.Finalizers) == 0 {
		c.unfollow(name)
		return 0, nil
	}
	remain, errs := c.empty(ctx, name)
	further, more := c.emptyElsewhere(ctx, name, remain)
	remain, errs = append(remain, further...), append(errs, more...)
	failures := append(errs, stuck(ns, remain, time.Now())...)
	if ns, err = c.report(ctx, ns, remain, failures); err != nil {
		return 0, err
	}
	if len(errs) > 0 {
		return 0, errors.Join(errs...)
	}
	if len(further) > 0 {
		return elsewhereAgain, nil // nothing wakes us
	}
	if len(remain) > 0 {
		// Who leaves wakes us; the clock matters only to what stuck says.
		return patience(ns, remain, time.Now()), nil
	}
	return 0, c.release(ctx, ns)
}

// empty deletes what is due in a namespace, and returns what of it is there
// still. With nothing left the namespace is empty.
func (c *Controller) empty(ctx context.Context, name string) (remain []content, errs []error) {
	for {
		all, err := c.list(ctx, name)
		if err != nil {
			return nil, []error{err}
		}
		turn := due(all)
		if len(turn) == 0 {
			return nil, nil
		}
		for _, what := range turn {
			left, err := c.remove(ctx, what)
			if err == nil && len(left.objects) > 0 {
				// Looked at once more: it may have gone before the watch was.
				if err = c.follow(ctx, name, left.of); err == nil {
					left, err = c.remove(ctx, left)
				}
			}
			if err != nil {
				errs = append(errs, err)
			} else if len(left.objects) > 0 {
				remain = append(remain, left)
			}
		}
		if len(remain) > 0 || len(errs) > 0 {
			return remain, errs
		}
		// What is next, and what came in while this went on.
	}
}

// elsewhereAgain is when to look again at what other servers keep.
const elsewhereAgain = 5 * time.Second

// emptyElsewhere deletes what other servers keep in a namespace, once its pods
// are gone, and returns what is there still.
func (c *Controller) emptyElsewhere(ctx context.Context, name string, remain []content) (further []content, errs []error) {
	if c.cfg.Elsewhere == nil || slices.ContainsFunc(remain, func(r content) bool { return r.kind == pods }) {
		return nil, nil
	}
	left, unknown, err := c.cfg.Elsewhere.Empty(ctx, name)
	for of, objects := range left {
		one := content{kind: of}
		for _, o := range objects {
			one.objects = append(one.objects, o)
		}
		further = append(further, one)
	}
	if err != nil {
		errs = append(errs, err)
	}
	if len(unknown) > 0 {
		errs = append(errs, undiscovered(unknown))
	}
	return further, errs
}

// list returns what a namespace holds, from memory.
func (c *Controller) list(ctx context.Context, name string) (all []content, err error) {
	for _, k := range c.cfg.Client.Kinds().All() {
		if k.Cluster {
			continue
		}
		objects, err := c.cfg.Client.List(ctx, k, client.Query{Namespace: name})
		if apierrors.IsNotFound(err) {
			continue // the kind has gone meanwhile, and its objects with it
		}
		if err != nil {
			return nil, fmt.Errorf("list %s in namespace %s: %w", k, name, err)
		}
		if len(objects) > 0 {
			all = append(all, content{kind: k.GVR(), of: k, objects: objects})
		}
	}
	return all, nil
}

// remove deletes the doomed among objects of one kind and returns those that
// are there still.
func (c *Controller) remove(ctx context.Context, what content) (left content, err error) {
	left = content{kind: what.kind, of: what.of}
	var errs []error
	for _, o := range what.objects {
		if doomed(o) {
			err := c.delete(ctx, what.of, o)
			if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
				errs = append(errs, err)
			}
		}
		now, err := c.cfg.Client.Get(ctx, what.of, o.GetNamespace(), o.GetName())
		switch {
		case err == nil:
			left.objects = append(left.objects, now)
		case !apierrors.IsNotFound(err):
			errs = append(errs, err)
		}
	}
	return left, errors.Join(errs...)
}

func (c *Controller) delete(ctx context.Context, k *kind.Kind, o kind.Object) error {
	uid, background := o.GetUID(), metav1.DeletePropagationBackground
	return c.cfg.Client.Delete(ctx, k, o.GetNamespace(), o.GetName(), &metav1.DeleteOptions{
		PropagationPolicy: &background, Preconditions: &metav1.Preconditions{UID: &uid}})
}

// report writes what remains and what failed into the namespace's status.
func (c *Controller) report(ctx context.Context, ns *corev1.Namespace, remain []content, failures []error) (*corev1.Namespace, error) {
	next := ns.DeepCopy()
	next.Status.Phase = corev1.NamespaceTerminating
	next.Status.Conditions = conditions(ns.Status.Conditions, remain, failures, time.Now())
	ends := len(remain) == 0 && len(failures) == 0 && len(ns.Finalizers) == 0 &&
		slices.Equal(ns.Spec.Finalizers, []corev1.FinalizerName{corev1.FinalizerKubernetes})
	if ends || equality.Semantic.DeepEqual(ns.Status, next.Status) {
		return ns, nil // nobody could read the report of one that ends now
	}
	now, err := client.UpdateStatus(ctx, c.cfg.Client, next)
	if apierrors.IsNotFound(err) {
		return ns, nil
	}
	return now, err
}

// release removes our finalizer; if it was the last one, the namespace is gone.
func (c *Controller) release(ctx context.Context, ns *corev1.Namespace) error {
	next := ns.DeepCopy()
	next.Spec.Finalizers = slices.DeleteFunc(next.Spec.Finalizers, func(f corev1.FinalizerName) bool { return f == corev1.FinalizerKubernetes })
	if len(next.Spec.Finalizers) == len(ns.Spec.Finalizers) {
		return nil
	}
	_, err := c.cfg.Client.Update(ctx, client.KindOf[*corev1.Namespace](c.cfg.Client), next, "finalize")
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// sweep deletes what was let into a namespace in the moment before its
// deletion began, and arrived after it was seen empty. The list comes before
// the question whether the namespace exists: so nothing of a new namespace of
// that name can be in it.
func (c *Controller) sweep(ctx context.Context, name string) error {
	all, err := c.list(ctx, name)
	if err != nil || len(all) == 0 {
		return err
	}
	if _, err := client.Get[*corev1.Namespace](ctx, c.cfg.Client, "", name); !apierrors.IsNotFound(err) {
		return err
	}
	var errs []error
	for _, what := range all {
		for _, o := range what.objects {
			if err := c.delete(ctx, what.of, o); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// follow looks again whenever something of a kind leaves the namespace. The
// watch exists only as long as the namespace is being emptied.
func (c *Controller) follow(ctx context.Context, name string, k *kind.Kind) error {
	c.mu.Lock()
	f := c.followed[name]
	if f == nil {
		f = &follower{kinds: map[*kind.Kind]bool{}}
		f.ctx, f.stop = context.WithCancel(ctx)
		c.followed[name] = f
	}
	known := f.kinds[k]
	f.kinds[k] = true
	c.mu.Unlock()
	if known {
		return nil
	}
	w, err := c.cfg.Client.Watch(f.ctx, k, client.Query{Namespace: name})
	if err != nil {
		c.mu.Lock()
		delete(f.kinds, k)
		c.mu.Unlock()
		return fmt.Errorf("watch %s in namespace %s: %w", k, name, err)
	}
	c.watchers.Go(func() { c.wakeAt(f.ctx, name, w) })
	return nil
}

func (c *Controller) wakeAt(ctx context.Context, name string, w client.Watcher) {
	start := true
	for {
		events, err := w.Next(ctx)
		if err != nil {
			return // the watch's only error is its end
		}
		wake := false
		for _, e := range events {
			switch {
			case e.Type == client.Synced:
				start = false
			case start: // seen when it was listed
			case e.Type == client.Modified && e.Old != nil &&
				slices.Equal(e.Old.GetFinalizers(), e.Object.GetFinalizers()):
			default:
				wake = true
			}
		}
		if wake {
			c.loop.Add(name)
		}
	}
}

func (c *Controller) unfollow(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.followed[name]; f != nil {
		f.stop()
		delete(c.followed, name)
	}
}
