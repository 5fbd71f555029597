// Package definition settles what a CustomResourceDefinition is called, says
// when its objects are served, and deletes them before it goes. What to write
// is decided in decide.go, from the definitions of a group alone; this file
// carries it out.
//
// It does not know what a definition's objects are like, and serves nothing:
// package crd does, and the table of kinds tells.
package definition

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/controller/loop"
	"sampan/cluster/kind"
)

// Config is what the controller needs.
type Config struct {
	Client client.Client
	Log    *slog.Logger
}

// Controller looks after definitions. See the package comment.
type Controller struct {
	cfg  Config
	loop loop.Loop[string]

	mu       sync.Mutex                    // guards all below
	followed map[string]context.CancelFunc // the objects of definitions that end, by its name
	found    map[string]verdict            // what is wrong with their schemas, by their names
	watchers sync.WaitGroup
}

// New returns a controller.
func New(cfg Config) *Controller {
	c := &Controller{cfg: cfg, followed: map[string]context.CancelFunc{}, found: map[string]verdict{}}
	// Names are given out one at a time.
	c.loop = loop.Loop[string]{Name: "definition", Log: cfg.Log, Sync: c.sync}
	return c
}

// Run works until ctx ends. It returns when nothing of it runs any more.
func (c *Controller) Run(ctx context.Context) error {
	defer c.watchers.Wait()
	return c.loop.Drive(ctx, loop.Beside(c.served),
		client.Changes(c.cfg.Client, client.Query{}, func(ctx context.Context, e client.Change[*apiextensionsv1.CustomResourceDefinition]) {
			c.loop.Add(e.Object.Name)
			if e.Type == client.Deleted {
				c.forget(e.Object.Name)
			}
			if e.Type == client.Deleted || e.Old != nil && !equality.Semantic.DeepEqual(e.Old.Status.AcceptedNames, e.Object.Status.AcceptedNames) {
				c.group(ctx, e.Object.Spec.Group) // a name may be free now
			}
		}))
}

// served wakes definitions that waited for being served.
func (c *Controller) served(ctx context.Context) {
	for {
		changed := c.cfg.Client.Kinds().Changed()
		all, err := c.all(ctx)
		if err != nil {
			return // ctx has ended; nothing else makes a read of memory fail
		}
		there := map[schema.GroupResource]bool{}
		for _, k := range c.cfg.Client.Kinds().All() {
			there[k.GroupResource()] = k.Custom != nil
		}
		for _, d := range all {
			if !isTrue(d, apiextensionsv1.Established) && there[resource(d)] {
				c.loop.Add(d.Name)
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func (c *Controller) all(ctx context.Context) ([]*apiextensionsv1.CustomResourceDefinition, error) {
	return client.List[*apiextensionsv1.CustomResourceDefinition](ctx, c.cfg.Client, client.Query{})
}

// group wakes the definitions of a group that want a name which they have not.
func (c *Controller) group(ctx context.Context, name string) {
	all, err := c.all(ctx)
	if err != nil {
		return
	}
	for _, d := range all {
		if d.Spec.Group == name && !equality.Semantic.DeepEqual(d.Spec.Names, d.Status.AcceptedNames) {
			c.loop.Add(d.Name)
		}
	}
}

// resource is what a definition's objects are called.
func resource(d *apiextensionsv1.CustomResourceDefinition) schema.GroupResource {
	return schema.GroupResource{Group: d.Spec.Group, Resource: d.Status.AcceptedNames.Plural}
}

// kind is under which a definition's objects are served, nil if they are not.
func (c *Controller) kind(d *apiextensionsv1.CustomResourceDefinition) *kind.Kind {
	want := resource(d)
	for _, k := range c.cfg.Client.Kinds().All() {
		if k.Custom != nil && k.GroupResource() == want {
			return k
		}
	}
	return nil
}

func (c *Controller) sync(ctx context.Context, name string) (time.Duration, error) {
	d, err := client.Get[*apiextensionsv1.CustomResourceDefinition](ctx, c.cfg.Client, "", name)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if d.DeletionTimestamp != nil {
		return 0, c.end(ctx, d)
	}
	all, err := c.all(ctx)
	if err != nil {
		return 0, err
	}
	_, err = c.write(ctx, d, decide(d, all, c.faults(d), c.kind(d) != nil, time.Now()))
	return 0, err
}

// verdict is what keeps the schemas of one state of a definition from being
// structural, nil if nothing does.
type verdict struct {
	uid        types.UID
	generation int64
	faults     *condition
}

// faults looks at the schemas of a definition, once for each state of them:
// they may be long.
func (c *Controller) faults(d *apiextensionsv1.CustomResourceDefinition) *condition {
	c.mu.Lock()
	have, ok := c.found[d.Name]
	c.mu.Unlock()
	if ok && have.uid == d.UID && have.generation == d.Generation && d.Generation != 0 {
		return have.faults
	}
	now := verdict{d.UID, d.Generation, nonStructural(d)}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.found[d.Name] = now
	return now.faults
}

// write writes next, which has the spec of d, if it differs. Who was faster
// wakes us.
func (c *Controller) write(ctx context.Context, d, next *apiextensionsv1.CustomResourceDefinition) (*apiextensionsv1.CustomResourceDefinition, error) {
	if equality.Semantic.DeepEqual(d.Status, next.Status) && equality.Semantic.DeepEqual(d.ObjectMeta, next.ObjectMeta) {
		return d, nil
	}
	stored, err := client.UpdateStatus(ctx, c.cfg.Client, next)
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil, nil
	}
	return stored, err
}

// end deletes the objects of a definition, and lets it go when none is left.
func (c *Controller) end(ctx context.Context, d *apiextensionsv1.CustomResourceDefinition) error {
	if !cleansUp(d) {
		return nil
	}
	if !isTrue(d, apiextensionsv1.Established) {
		_, err := c.write(ctx, d, ended(d, neverEstablished, time.Now()))
		return err
	}
	d, err := c.write(ctx, d, with(d, inProgress, time.Now()))
	if d == nil || err != nil {
		return err
	}
	left, err := c.empty(ctx, d)
	if err != nil {
		failed := inProgress
		failed.Reason, failed.Message = "InstanceDeletionFailed", "could not issue all deletes: "+err.Error()
		_, written := c.write(ctx, d, with(d, failed, time.Now()))
		return errors.Join(err, written)
	}
	if left {
		return nil // who leaves wakes us
	}
	_, err = c.write(ctx, d, ended(d, completed, time.Now()))
	return err
}

// empty deletes what there is of a definition's objects, and says whether some
// of it stays for a while.
func (c *Controller) empty(ctx context.Context, d *apiextensionsv1.CustomResourceDefinition) (left bool, err error) {
	k := c.kind(d)
	if k == nil {
		return false, errors.New("its objects are not served yet")
	}
	objects, err := c.cfg.Client.List(ctx, k, client.Query{})
	if err != nil || len(objects) == 0 {
		return false, err
	}
	if err := c.follow(ctx, d.Name, k); err != nil {
		return false, err
	}
	var errs []error
	for _, o := range objects {
		if o.GetDeletionTimestamp() != nil {
			continue
		}
		if err := c.cfg.Client.Delete(ctx, k, o.GetNamespace(), o.GetName(), nil); err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return false, errors.Join(errs...)
	}
	// Who came in meanwhile counts; nobody comes in any more once the
	// definition is known to end.
	objects, err = c.cfg.Client.List(ctx, k, client.Query{})
	return len(objects) > 0, err
}

// follow wakes a definition whenever one of its objects leaves. The watch
// exists only as long as the definition ends.
func (c *Controller) follow(ctx context.Context, name string, k *kind.Kind) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.followed[name] != nil {
		return nil
	}
	ctx, stop := context.WithCancel(ctx)
	w, err := c.cfg.Client.Watch(ctx, k, client.Query{})
	if err != nil {
		stop()
		return err
	}
	c.followed[name] = stop
	c.watchers.Go(func() {
		for {
			events, err := w.Next(ctx)
			if err != nil {
				return // the watch's only error is its end
			}
			for _, e := range events {
				if e.Type == client.Deleted {
					c.loop.Add(name)
				}
			}
		}
	})
	return nil
}

// forget ends what there is for a definition that is gone.
func (c *Controller) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.found, name)
	if stop := c.followed[name]; stop != nil {
		stop()
		delete(c.followed, name)
	}
}
