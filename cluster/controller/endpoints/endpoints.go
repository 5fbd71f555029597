// Package endpoints keeps the Endpoints object of each service that selects
// pods (decide.go), and mirrors the Endpoints that somebody wrote for a
// service without a selector into EndpointSlices (mirror.go), which are what
// is read nowadays.
//
// It does not keep the EndpointSlices of services with a selector: see package
// endpointslice.
package endpoints

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/client/event"
	"sampan/cluster/controller/loop"
)

// Config is what the controller needs.
type Config struct {
	Client  client.Client
	Mirror  client.Client // for slices, which upstream's role keeps apart; default Client
	Log     *slog.Logger
	Workers int // services worked on at once; default 5, as upstream's
}

// Controller keeps Endpoints and their mirrors. See the package comment.
type Controller struct {
	cfg           Config
	collectEvents *event.Recorder
	mirrorEvents  *event.Recorder
	collecting    *loop.Loop[types.NamespacedName] // of services
	mirroring     *loop.Loop[types.NamespacedName] // of Endpoints, which have the service's name
}

// New returns a controller.
func New(cfg Config) *Controller {
	if cfg.Workers == 0 {
		cfg.Workers = 5
	}
	if cfg.Mirror == nil {
		cfg.Mirror = cfg.Client
	}
	c := &Controller{cfg: cfg,
		collectEvents: &event.Recorder{Client: cfg.Client, Component: "endpoint-controller", Log: cfg.Log},
		mirrorEvents:  &event.Recorder{Client: cfg.Mirror, Component: "endpoint-slice-mirroring-controller", Log: cfg.Log},
	}
	c.collecting = &loop.Loop[types.NamespacedName]{Name: "endpoints", Workers: cfg.Workers, Log: cfg.Log, Sync: c.collect}
	c.mirroring = &loop.Loop[types.NamespacedName]{Name: "endpoints-mirror", Workers: cfg.Workers, Log: cfg.Log, Sync: c.mirror}
	return c
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	failed := make(chan error, 4)
	follow := func(watch func() error) { all.Go(func() { failed <- watch() }) }
	follow(func() error {
		return client.Follow(ctx, c.cfg.Client, client.Query{}, c.onService)
	})
	follow(func() error {
		return client.Follow(ctx, c.cfg.Client, client.Query{}, func(e client.Change[*corev1.Pod]) { c.onPod(ctx, e) })
	})
	started := false
	follow(func() error {
		return client.Follow(ctx, c.cfg.Client, client.Query{}, func(e client.Change[*corev1.Endpoints]) {
			if e.Type == client.Synced {
				started = true
				return
			}
			c.onEndpoints(e, started)
		})
	})
	follow(func() error {
		return client.Follow(ctx, c.cfg.Mirror, client.Query{}, c.onSlice)
	})
	all.Go(func() { c.collectEvents.Run(ctx) })
	all.Go(func() { c.mirrorEvents.Run(ctx) })
	all.Go(func() { c.collecting.Run(ctx) })
	all.Go(func() { c.mirroring.Run(ctx) })
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

func (c *Controller) onService(e client.Change[*corev1.Service]) {
	if e.Type == client.Synced {
		return
	}
	key := types.NamespacedName{Namespace: e.Object.Namespace, Name: e.Object.Name}
	c.collecting.Add(key)
	selects := len(e.Object.Spec.Selector) > 0
	if selected := e.Old != nil && len(e.Old.Spec.Selector) > 0; !selects || selected != selects {
		c.mirroring.Add(key)
	}
}

func (c *Controller) onPod(ctx context.Context, e client.Change[*corev1.Pod]) {
	if e.Type == client.Synced || e.Type == client.Modified && e.Old != nil && !matters(e.Old, e.Object) {
		return
	}
	if e.Type == client.Added && e.Object.Status.PodIP == "" {
		return // no service reaches it yet
	}
	services, err := client.List[*corev1.Service](ctx, c.cfg.Client, client.Query{Namespace: e.Object.Namespace})
	if err != nil {
		if ctx.Err() == nil {
			c.cfg.Log.Error("services not read", "key", e.Object.Namespace+"/"+e.Object.Name, "err", err)
		}
		return
	}
	for _, svc := range services {
		if selects(svc, e.Object) || e.Old != nil && selects(svc, e.Old) {
			c.collecting.Add(types.NamespacedName{Namespace: svc.Namespace, Name: svc.Name})
		}
	}
}

func (c *Controller) onEndpoints(e client.Change[*corev1.Endpoints], started bool) {
	key := types.NamespacedName{Namespace: e.Object.Namespace, Name: e.Object.Name}
	c.mirroring.Add(key)
	// One of ours that somebody deleted comes back; one whose service went
	// while nobody watched goes as well.
	if e.Object.Labels[managedBy] == manager && (e.Type == client.Deleted || !started) {
		c.collecting.Add(key)
	}
}

func (c *Controller) onSlice(e client.Change[*discoveryv1.EndpointSlice]) {
	for _, s := range []*discoveryv1.EndpointSlice{e.Object, e.Old} {
		if s != nil && s.Labels[discoveryv1.LabelManagedBy] == mirrorManager {
			c.mirroring.Add(types.NamespacedName{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]})
		}
	}
}

// collect keeps the Endpoints of a service.
func (c *Controller) collect(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	svc, err := client.Get[*corev1.Service](ctx, c.cfg.Client, key.Namespace, key.Name)
	if apierrors.IsNotFound(err) {
		err = client.Delete[*corev1.Endpoints](ctx, c.cfg.Client, key.Namespace, key.Name, nil)
		if apierrors.IsNotFound(err) {
			err = nil
		}
		return 0, err
	}
	if err != nil || !collected(svc) {
		return 0, err
	}
	have, err := client.Get[*corev1.Endpoints](ctx, c.cfg.Client, key.Namespace, key.Name)
	if apierrors.IsNotFound(err) {
		have, err = nil, nil
	}
	if err != nil {
		return 0, err
	}
	pods, err := client.List[*corev1.Pod](ctx, c.cfg.Client, client.Query{Namespace: key.Namespace})
	if err != nil {
		return 0, err
	}
	var mine []*corev1.Pod
	for _, p := range pods {
		if selects(svc, p) {
			mine = append(mine, p)
		}
	}
	next := decide(svc, mine, have)
	switch {
	case have == nil:
		if _, err = client.Create(ctx, c.cfg.Client, next); gone(err) {
			return 0, nil
		}
		if err != nil {
			c.collectEvents.Eventf(svc, corev1.EventTypeWarning, "FailedToCreateEndpoint",
				"Failed to create endpoint for service %v/%v: %v", svc.Namespace, svc.Name, err)
		}
	case next != have:
		_, err = client.Update(ctx, c.cfg.Client, next)
		if err != nil && !apierrors.IsConflict(err) {
			c.collectEvents.Eventf(have, corev1.EventTypeWarning, "FailedToUpdateEndpoint",
				"Failed to update endpoint %v/%v: %v", svc.Namespace, svc.Name, err)
		}
	}
	return 0, err
}

// gone is the refusal of a namespace that is on its way out: nothing is to be
// made there any more.
func gone(err error) bool {
	return apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

// mirror keeps the slices that mirror a user's Endpoints.
func (c *Controller) mirror(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	e, err := client.Get[*corev1.Endpoints](ctx, c.cfg.Mirror, key.Namespace, key.Name)
	if err != nil && !apierrors.IsNotFound(err) {
		return 0, err
	}
	if e != nil {
		svc, err := client.Get[*corev1.Service](ctx, c.cfg.Mirror, key.Namespace, key.Name)
		if err != nil && !apierrors.IsNotFound(err) {
			return 0, err
		}
		if !mirrorable(e, svc) {
			e = nil
		}
	}
	slices, err := client.List[*discoveryv1.EndpointSlice](ctx, c.cfg.Mirror, client.Query{
		Namespace: key.Namespace, Index: discoveryv1.LabelServiceName, Value: key.Name})
	if err != nil {
		return 0, err
	}
	r := reflect(e, mirrors(slices))
	if r.invalid > 0 {
		c.mirrorEvents.Eventf(e, corev1.EventTypeWarning, "InvalidIPAddress",
			"Skipped %d invalid IP addresses when mirroring to EndpointSlices", r.invalid)
	}
	if r.skipped > 0 {
		c.mirrorEvents.Eventf(e, corev1.EventTypeWarning, "TooManyAddressesToMirror",
			"A max of %d addresses can be mirrored to EndpointSlices per Endpoints subset. %d addresses were skipped", mostMirrored, r.skipped+r.invalid)
	}
	return 0, c.carryOut(ctx, r)
}

func (c *Controller) carryOut(ctx context.Context, r reflection) error {
	var errs []error
	for _, s := range r.create {
		if _, err := client.Create(ctx, c.cfg.Mirror, s); err != nil && !gone(err) {
			errs = append(errs, err)
		}
	}
	for _, s := range r.update {
		if _, err := client.Update(ctx, c.cfg.Mirror, s); err != nil {
			errs = append(errs, err)
		}
	}
	for _, s := range r.remove {
		uid := s.UID
		err := client.Delete[*discoveryv1.EndpointSlice](ctx, c.cfg.Mirror, s.Namespace, s.Name,
			&metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid}})
		if err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
