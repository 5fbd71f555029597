// Package endpointslice writes down which pods are behind a service, and which
// of them are ready, in EndpointSlices. What they say is decided in decide.go
// and endpoint.go, from cached state alone; this file carries it out.
//
// It knows nothing of how traffic gets to an endpoint.
package endpointslice

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/client/event"
	"sampan/cluster/controller/loop"
	"sampan/cluster/controller/pods"
)

// Name is this controller's, in events.
const Name = "endpoint-slice-controller"

// Config is what the controller needs.
type Config struct {
	Client  client.Client
	Log     *slog.Logger
	Workers int // services worked on at once; default 5
}

// Controller keeps endpoint slices. See the package comment.
type Controller struct {
	cfg    Config
	events *event.Recorder
	loop   loop.Loop[types.NamespacedName]
}

// New returns a controller.
func New(cfg Config) *Controller {
	if cfg.Workers == 0 {
		cfg.Workers = 5
	}
	c := &Controller{
		cfg:    cfg,
		events: &event.Recorder{Client: cfg.Client, Component: Name, Log: cfg.Log},
	}
	c.loop = loop.Loop[types.NamespacedName]{Name: "endpointslice", Workers: cfg.Workers, Log: cfg.Log, Sync: c.sync}
	return c
}

// Run works until ctx ends. It returns when nothing of it runs any more.
func (c *Controller) Run(ctx context.Context) error {
	return c.loop.Drive(ctx, loop.Beside(c.events.Run),
		client.Changes(c.cfg.Client, client.Query{}, func(_ context.Context, e client.Change[*corev1.Service]) {
			if e.Type != client.Deleted {
				c.loop.Add(key(e.Object))
			}
		}),
		// At the start all services are looked at anyway.
		client.Changes(c.cfg.Client, client.Query{}, func(ctx context.Context, e client.Change[*corev1.Pod]) {
			if !e.First {
				c.pod(ctx, e)
			}
		}),
		client.Changes(c.cfg.Client, client.Query{}, func(_ context.Context, e client.Change[*discoveryv1.EndpointSlice]) {
			if e.First {
				return
			}
			c.slice(e.Object)
			if e.Old != nil {
				c.slice(e.Old)
			}
		}),
		client.Changes(c.cfg.Client, client.Query{}, func(ctx context.Context, e client.Change[*corev1.Node]) {
			if !e.First && (e.Type != client.Modified || zone(e.Old) != zone(e.Object)) {
				c.everything(ctx)
			}
		}))
}

func key(svc *corev1.Service) types.NamespacedName {
	return types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name}
}

func zone(n *corev1.Node) string { return n.Labels[corev1.LabelTopologyZone] }

// pod wakes the services that a pod is, or was, behind, if it changed in what
// they say of it. Most changes of a pod are not of this kind.
func (c *Controller) pod(ctx context.Context, e client.Change[*corev1.Pod]) {
	if e.Old != nil && e.Type == client.Modified && !tells(e.Old, e.Object) {
		return
	}
	all, err := client.List[*corev1.Service](ctx, c.cfg.Client, client.Query{Namespace: e.Object.Namespace})
	if err != nil {
		return // ctx has ended; nothing else makes a read of memory fail
	}
	for _, svc := range all {
		if len(svc.Spec.Selector) == 0 {
			continue
		}
		selector := labels.SelectorFromSet(svc.Spec.Selector)
		if selector.Matches(labels.Set(e.Object.Labels)) || e.Old != nil && selector.Matches(labels.Set(e.Old.Labels)) {
			c.loop.Add(key(svc))
		}
	}
}

// tells is true if old and now look different to a service.
func tells(old, now *corev1.Pod) bool {
	return old.UID != now.UID ||
		pods.Ready(old) != pods.Ready(now) ||
		pods.Over(old) != pods.Over(now) ||
		(old.DeletionTimestamp == nil) != (now.DeletionTimestamp == nil) ||
		old.Spec.NodeName != now.Spec.NodeName ||
		old.Spec.Hostname != now.Spec.Hostname || old.Spec.Subdomain != now.Spec.Subdomain ||
		old.Status.PodIP != now.Status.PodIP ||
		!equality.Semantic.DeepEqual(old.Status.PodIPs, now.Status.PodIPs) ||
		!maps.Equal(old.Labels, now.Labels)
}

// slice wakes the service of a slice, so that what somebody else did to it is
// set right.
func (c *Controller) slice(s *discoveryv1.EndpointSlice) {
	if s.Labels[discoveryv1.LabelManagedBy] == ManagedBy && s.Labels[discoveryv1.LabelServiceName] != "" {
		c.loop.Add(types.NamespacedName{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]})
	}
}

func (c *Controller) everything(ctx context.Context) {
	all, err := client.List[*corev1.Service](ctx, c.cfg.Client, client.Query{})
	if err != nil {
		return // as in pod
	}
	for _, svc := range all {
		c.loop.Seed(key(svc))
	}
}

// sync brings one service's slices to what its pods are.
func (c *Controller) sync(ctx context.Context, key types.NamespacedName) (again time.Duration, err error) {
	svc, err := client.Get[*corev1.Service](ctx, c.cfg.Client, key.Namespace, key.Name)
	if apierrors.IsNotFound(err) {
		return 0, nil // its slices are the garbage collector's
	}
	if err != nil {
		return 0, err
	}
	// Without a selector somebody else writes the slices; an ExternalName has
	// none, and keeps what it had (kubernetes issue 105986).
	if len(svc.Spec.Selector) == 0 || svc.Spec.Type == corev1.ServiceTypeExternalName || svc.DeletionTimestamp != nil {
		return 0, nil
	}
	s := state{service: svc, node: func(name string) *corev1.Node {
		n, err := client.Get[*corev1.Node](ctx, c.cfg.Client, "", name)
		if err != nil {
			return nil // NotFound; reads of memory fail in no other way
		}
		return n
	}}
	s.pods, err = client.List[*corev1.Pod](ctx, c.cfg.Client, client.Query{
		Namespace: svc.Namespace, Labels: labels.SelectorFromSet(svc.Spec.Selector)})
	if err != nil {
		return 0, err
	}
	s.slices, err = client.List[*discoveryv1.EndpointSlice](ctx, c.cfg.Client, client.Query{
		Namespace: svc.Namespace, Index: discoveryv1.LabelServiceName, Value: svc.Name})
	if err != nil {
		return 0, err
	}
	s.slices = filter(s.slices, func(e *discoveryv1.EndpointSlice) bool {
		return e.Labels[discoveryv1.LabelManagedBy] == ManagedBy
	})
	if err := c.carryOut(ctx, svc.Namespace, decide(s)); err != nil {
		if !apierrors.IsConflict(err) && ctx.Err() == nil {
			c.events.Eventf(svc, corev1.EventTypeWarning, "FailedToUpdateEndpointSlices",
				"Error updating Endpoint Slices for Service %s/%s: %v", svc.Namespace, svc.Name, err)
		}
		return 0, err
	}
	return 0, nil
}

func (c *Controller) carryOut(ctx context.Context, namespace string, d decision) error {
	var errs []error
	// Copies: what is decided shares labels, and names with pods.
	for _, e := range d.create {
		_, err := client.Create(ctx, c.cfg.Client, e.DeepCopy())
		if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			continue
		}
		errs = append(errs, err)
	}
	for _, e := range d.update {
		_, err := client.Update(ctx, c.cfg.Client, e.DeepCopy())
		errs = append(errs, err)
	}
	for _, e := range d.remove {
		err := client.Delete[*discoveryv1.EndpointSlice](ctx, c.cfg.Client, namespace, e.Name,
			&metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(e.UID))})
		if !apierrors.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		for _, err := range errs {
			if apierrors.IsConflict(err) {
				return err // joined, it would not be known as one
			}
		}
		return err
	}
	return nil
}
