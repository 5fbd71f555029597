// Package replicaset keeps as many pods of one template alive as its
// ReplicaSet asks for. What to do is decided in decide.go, and whom to stop in
// rank.go, from cached state alone; this file carries it out.
//
// It keeps two kinds in the same way: see Kind, and package replication.
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
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/client/event"
	"sampan/cluster/controller/claim"
	"sampan/cluster/controller/loop"
	"sampan/cluster/controller/pods"
	"sampan/cluster/controller/report"
	"sampan/cluster/kind"
)

// Config is what the controller needs.
type Config struct {
	Client  client.Client
	Log     *slog.Logger
	Workers int // replica sets worked on at once; default 5
}

// Kind is what the controller has to know of the kind of objects it keeps: how
// they are read and written as replica sets.
type Kind[T client.Typed] struct {
	Name     string // the controller's, in events
	Selector func(T) *metav1.LabelSelector

	// Set is an object as a replica set, which shares everything with it.
	Set func(T) *appsv1.ReplicaSet

	// WithStatus is a copy of an object with this status.
	WithStatus func(T, appsv1.ReplicaSetStatus) T
}

// Controller keeps replica sets, or what is kept like them. See the package
// comment.
type Controller[T client.Typed] struct {
	cfg    Config
	kind   Kind[T]
	owner  *kind.Kind
	events *event.Recorder
	pods   pods.Control
	loop   loop.Loop[types.NamespacedName]
	status report.Status[T, appsv1.ReplicaSetStatus]
	claims claim.Claims[*corev1.Pod]
}

// New returns a controller of replica sets.
func New(cfg Config) *Controller[*appsv1.ReplicaSet] {
	return Of(cfg, Kind[*appsv1.ReplicaSet]{
		Name:     "replicaset-controller",
		Selector: func(rs *appsv1.ReplicaSet) *metav1.LabelSelector { return rs.Spec.Selector },
		Set:      func(rs *appsv1.ReplicaSet) *appsv1.ReplicaSet { return rs },
		WithStatus: func(rs *appsv1.ReplicaSet, s appsv1.ReplicaSetStatus) *appsv1.ReplicaSet {
			rs = rs.DeepCopy()
			rs.Status = s
			return rs
		},
	})
}

// Of returns a controller of objects of kind k.
func Of[T client.Typed](cfg Config, k Kind[T]) *Controller[T] {
	if cfg.Workers == 0 {
		cfg.Workers = 5
	}
	c := &Controller[T]{
		cfg:    cfg,
		kind:   k,
		owner:  client.KindOf[T](cfg.Client),
		events: &event.Recorder{Client: cfg.Client, Component: k.Name, Log: cfg.Log},
	}
	c.pods = pods.Control{Client: cfg.Client, Events: c.events}
	c.claims = claim.Claims[*corev1.Pod]{Client: cfg.Client, Owner: c.owner}
	c.status = report.Status[T, appsv1.ReplicaSetStatus]{Client: cfg.Client, Of: func(obj T) appsv1.ReplicaSetStatus { return k.Set(obj).Status }}
	c.loop = loop.Loop[types.NamespacedName]{Name: c.owner.Singular, Workers: cfg.Workers, Log: cfg.Log, Sync: c.sync}
	return c
}

// Run works until ctx ends. It returns when nothing of it runs any more.
func (c *Controller[T]) Run(ctx context.Context) error {
	return c.loop.Drive(ctx, loop.Beside(c.events.Run),
		claim.Watch(&c.claims, c.kind.Selector, c.loop.Add),
		c.status.Watch(c.loop.Add))
}

// sync brings one set's pods and status to what it asks for.
func (c *Controller[T]) sync(ctx context.Context, key types.NamespacedName) (again time.Duration, err error) {
	obj, selector, err := claim.Owner(ctx, c.cfg.Client, key, c.kind.Selector, c.cfg.Log)
	if selector == nil {
		return 0, err
	}
	owned, err := c.claims.Of(ctx, obj, selector)
	if err != nil {
		return 0, err
	}
	failed, acted := c.act(ctx, obj, owned)
	if acted {
		// The status is of what is there now, not of what was found: one
		// write less, and nobody reads a count that is known to be old.
		if owned, err = c.claims.Of(ctx, obj, selector); err != nil {
			return 0, err
		}
	}
	again, err = c.writeStatus(ctx, obj, owned, failed)
	return again, errors.Join(failed, err)
}

// act decides and carries out. acted is true if something was tried.
func (c *Controller[T]) act(ctx context.Context, obj T, owned []*corev1.Pod) (failed error, acted bool) {
	rs := c.kind.Set(obj)
	d := decide(rs, owned, nil, time.Now())
	switch {
	case d.create > 0:
		template := pods.FromTemplate(obj, c.owner, &rs.Spec.Template)
		return pods.Growing(d.create, func(int) error { return c.pods.Create(ctx, obj, template.DeepCopy()) }), true
	case len(d.remove) > 0:
		related, err := c.related(ctx, obj)
		if err != nil {
			return err, false
		}
		d = decide(rs, owned, related, time.Now())
		return pods.Together(len(d.remove), func(i int) error { return c.pods.Delete(ctx, obj, d.remove[i]) }), true
	}
	return nil, false
}

// related are the pods of all sets that the owner of obj has.
func (c *Controller[T]) related(ctx context.Context, obj T) (all []*corev1.Pod, err error) {
	sets := []T{obj}
	if ref := metav1.GetControllerOfNoCopy(obj); ref != nil {
		sets, err = client.List[T](ctx, c.cfg.Client, client.Query{
			Namespace: obj.GetNamespace(), Index: kind.OwnerIndex, Value: string(ref.UID)})
		if err != nil {
			return nil, err
		}
	}
	for _, set := range sets {
		some, err := client.List[*corev1.Pod](ctx, c.cfg.Client, client.Query{
			Namespace: obj.GetNamespace(), Index: kind.OwnerIndex, Value: string(set.GetUID())})
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

func (c *Controller[T]) writeStatus(ctx context.Context, obj T, owned []*corev1.Pod, failed error) (again time.Duration, err error) {
	rs := c.kind.Set(obj)
	s, again := status(rs, owned, failed, time.Now())
	next := c.kind.WithStatus(obj, s)
	if equality.Semantic.DeepEqual(c.kind.Set(next).Status, rs.Status) { // as far as the kind can say it
		return again, nil
	}
	return again, c.status.Write(ctx, next)
}
