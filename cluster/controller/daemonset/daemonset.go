// Package daemonset keeps a pod of one template on every node that it fits,
// and moves these pods from one template to the next. What to do is decided in
// decide.go, roll.go, status.go and revision.go, from cached state alone; this
// file carries it out.
//
// It binds no pod: each asks, by a node affinity, for its node, and the
// scheduler gives it that one.
package daemonset

import (
	"context"
	"errors"
	"log/slog"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/client/event"
	"sampan/cluster/controller/claim"
	"sampan/cluster/controller/history"
	"sampan/cluster/controller/loop"
	"sampan/cluster/controller/pods"
	"sampan/cluster/controller/report"
	"sampan/cluster/kind"
)

// Name is this controller's, in events. It is not the name of its user.
const Name = "daemonset-controller"

// Config is what the controller needs.
type Config struct {
	Client  client.Client
	Log     *slog.Logger
	Workers int // daemon sets worked on at once; default 2
}

// Controller keeps daemon sets. See the package comment.
type Controller struct {
	cfg       Config
	owner     *kind.Kind
	events    *event.Recorder
	control   pods.Control
	loop      loop.Loop[types.NamespacedName]
	pods      claim.Claims[*corev1.Pod]
	revisions claim.Claims[*appsv1.ControllerRevision]
	status    report.Status[*appsv1.DaemonSet, appsv1.DaemonSetStatus]
	patience  patience
}

// New returns a controller.
func New(cfg Config) *Controller {
	if cfg.Workers == 0 {
		cfg.Workers = 2
	}
	c := &Controller{
		cfg:    cfg,
		owner:  client.KindOf[*appsv1.DaemonSet](cfg.Client),
		events: &event.Recorder{Client: cfg.Client, Component: Name, Log: cfg.Log},
	}
	c.control = pods.Control{Client: cfg.Client, Events: c.events}
	c.pods = claim.Claims[*corev1.Pod]{Client: cfg.Client, Owner: c.owner}
	c.revisions = claim.Claims[*appsv1.ControllerRevision]{Client: cfg.Client, Owner: c.owner}
	c.status = report.Status[*appsv1.DaemonSet, appsv1.DaemonSetStatus]{Client: cfg.Client, Of: func(ds *appsv1.DaemonSet) appsv1.DaemonSetStatus { return ds.Status }}
	c.loop = loop.Loop[types.NamespacedName]{Name: "daemonset", Workers: cfg.Workers, Log: cfg.Log, Sync: c.sync}
	return c
}

// Run works until ctx ends. It returns when nothing of it runs any more.
func (c *Controller) Run(ctx context.Context) error {
	return c.loop.Drive(ctx, loop.Beside(c.events.Run),
		claim.Watch(&c.pods, selector, c.loop.Add),
		history.Watch(&c.revisions, selector, c.loop.Add),
		client.Changes(c.cfg.Client, client.Query{}, c.node),
		c.status.Watch(c.loop.Add))
}

func selector(ds *appsv1.DaemonSet) *metav1.LabelSelector { return ds.Spec.Selector }

func key(ds *appsv1.DaemonSet) types.NamespacedName {
	return types.NamespacedName{Namespace: ds.Namespace, Name: ds.Name}
}

// node wakes the daemon sets that want something else of a node than before.
// Of what happens to nodes, most is neither a label nor a taint.
func (c *Controller) node(ctx context.Context, e client.Change[*corev1.Node]) {
	if e.First || e.Type == client.Modified && equality.Semantic.DeepEqual(e.Old.Labels, e.Object.Labels) &&
		equality.Semantic.DeepEqual(e.Old.Spec.Taints, e.Object.Spec.Taints) {
		return // at the start all daemon sets are looked at
	}
	all, err := client.List[*appsv1.DaemonSet](ctx, c.cfg.Client, client.Query{})
	if err != nil {
		return // ctx has ended; nothing else makes a read of memory fail
	}
	for _, ds := range all {
		f := newFitting(ds)
		var before, after verdict
		if e.Type != client.Added {
			before = f.node(e.Old)
		}
		if e.Type != client.Deleted {
			after = f.node(e.Object)
		}
		if before != after {
			c.loop.Add(key(ds))
		}
	}
}

// sync brings one daemon set's pods, revisions and status to what it asks for.
func (c *Controller) sync(ctx context.Context, key types.NamespacedName) (again time.Duration, err error) {
	ds, selector, err := claim.Owner(ctx, c.cfg.Client, key, selector, c.cfg.Log)
	if selector == nil || ds.DeletionTimestamp != nil {
		// Of one that goes, the revisions may go before the pods: what it has
		// cannot be told any more.
		return 0, err
	}
	if selector.Empty() {
		c.events.Eventf(ds, corev1.EventTypeWarning, "SelectingAll",
			"This daemon set is selecting all pods. A non-empty selector is required.")
		return 0, nil
	}
	past, err := c.past(ctx, ds, selector)
	if err != nil {
		return 0, err
	}
	v, err := c.look(ctx, ds, selector, past.hash())
	if err != nil {
		return 0, err
	}
	failed := c.drive(ctx, &v, selector, past)
	status, again := v.status()
	return sooner(again, v.again), errors.Join(failed, c.writeStatus(ctx, ds, status))
}

// drive carries out what is decided, and leaves in v what is there then.
func (c *Controller) drive(ctx context.Context, v *view, selector labels.Selector, past past) error {
	for _, decide := range []func(*view) decision{(*view).keep, (*view).roll} {
		d := decide(v)
		v.again = sooner(v.again, d.again)
		if len(d.create)+len(d.remove) == 0 {
			continue
		}
		failed := c.carryOut(ctx, v, d)
		next, err := c.look(ctx, v.ds, selector, v.hash)
		if err != nil {
			return errors.Join(failed, err)
		}
		next.again = v.again
		*v = next
		if failed != nil {
			return failed
		}
	}
	return c.forget(ctx, v, past)
}

// look reads what decisions are made of.
func (c *Controller) look(ctx context.Context, ds *appsv1.DaemonSet, selector labels.Selector, hash string) (view, error) {
	nodes, err := client.List[*corev1.Node](ctx, c.cfg.Client, client.Query{})
	if err != nil {
		return view{}, err
	}
	owned, err := c.pods.Of(ctx, ds, selector)
	if err != nil {
		return view{}, err
	}
	now := time.Now()
	return newView(ds, nodes, owned, hash, now, func(node string) time.Duration {
		return c.patience.wait(attempt{ds.UID, ds.Status.ObservedGeneration, node}, now)
	}), nil
}

func (c *Controller) carryOut(ctx context.Context, v *view, d decision) error {
	ds := v.ds
	for _, o := range d.over {
		p := o.pod
		if p.Status.Phase == corev1.PodSucceeded {
			c.events.Eventf(ds, corev1.EventTypeNormal, "SucceededDaemonPod",
				"Found succeeded daemon pod %s/%s on node %s, will try to delete it", p.Namespace, p.Name, o.node)
			continue
		}
		c.patience.failed(attempt{ds.UID, ds.Status.ObservedGeneration, o.node}, v.now)
		c.events.Eventf(ds, corev1.EventTypeWarning, "FailedDaemonPod",
			"Found failed daemon pod %s/%s on node %s, will try to kill it", p.Namespace, p.Name, o.node)
	}
	create, remove := d.create[:min(len(d.create), most)], d.remove[:min(len(d.remove), most)]
	template := podTemplate(ds, v.hash)
	err := pods.Growing(len(create), func(i int) error {
		p := pods.FromTemplate(ds, c.owner, template)
		p.Spec.Affinity = onNode(p.Spec.Affinity, create[i])
		return c.control.Create(ctx, ds, p)
	})
	return errors.Join(err, pods.Together(len(remove), func(i int) error { return c.control.Delete(ctx, ds, remove[i]) }))
}

func (c *Controller) writeStatus(ctx context.Context, ds *appsv1.DaemonSet, s appsv1.DaemonSetStatus) error {
	if equality.Semantic.DeepEqual(s, ds.Status) {
		return nil
	}
	next := ds.DeepCopy()
	next.Status = s
	return c.status.Write(ctx, next)
}
