// Package servicecidr keeps the objects that say which addresses services have:
// a ServiceCIDR gets its finalizer and its condition, and stays until no address
// needs it (upstream's service-cidr-controller); each address of a service has
// an IPAddress (KEP-1880), which comes and goes with it.
//
// It gives no addresses: admission does, and what a Service says is the truth.
package servicecidr

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/controller/loop"
	"sampan/cluster/kind/networking"
)

const (
	// finalizer keeps a range until its addresses are somebody else's.
	finalizer = "networking.k8s.io/service-cidr-finalizer"

	// grace is how long a range that nobody needs stays, for services that were
	// being written when its deletion began. Upstream's.
	grace = 10 * time.Second
)

// Config is what the controller needs.
type Config struct {
	Client    client.Client // for ServiceCIDRs
	Addresses client.Client // for IPAddresses; default: Client
	Log       *slog.Logger
}

// Controller keeps the objects. See the package comment.
type Controller struct {
	client, addresses client.Client

	ranges   loop.Loop[string]
	services loop.Loop[types.NamespacedName]
}

// New returns a controller.
func New(cfg Config) *Controller {
	c := &Controller{client: cfg.Client, addresses: cfg.Addresses}
	if c.addresses == nil {
		c.addresses = c.client
	}
	c.ranges = loop.Loop[string]{Name: "servicecidr", Log: cfg.Log, Sync: c.syncRange}
	c.services = loop.Loop[types.NamespacedName]{Name: "ipaddress", Log: cfg.Log, Sync: c.syncService}
	return c
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		defer cancel()
		ended <- c.services.Drive(ctx,
			client.Changes(c.addresses, client.Query{}, func(_ context.Context, e client.Change[*corev1.Service]) {
				if e.Type == client.Deleted || e.Old == nil || !slices.Equal(addresses(e.Old), addresses(e.Object)) {
					c.services.Add(types.NamespacedName{Namespace: e.Object.Namespace, Name: e.Object.Name})
				}
			}),
			client.Changes(c.addresses, client.Query{}, func(ctx context.Context, e client.Change[*networkingv1.IPAddress]) {
				if p := e.Object.Spec.ParentRef; p != nil && networking.Allocated(e.Object) {
					c.services.Add(types.NamespacedName{Namespace: p.Namespace, Name: p.Name})
				} else if e.Type == client.Deleted {
					c.free(ctx, e.Object.Name)
				}
			}))
	}()
	err := c.ranges.Drive(ctx,
		client.Changes(c.client, client.Query{}, func(ctx context.Context, e client.Change[*networkingv1.ServiceCIDR]) {
			c.ranges.Add(e.Object.Name)
			if e.Type != client.Modified {
				c.wake(ctx, func(other *networkingv1.ServiceCIDR) bool { return touches(e.Object, other) })
			}
		}),
		client.Changes(c.client, client.Query{}, func(ctx context.Context, e client.Change[*networkingv1.IPAddress]) {
			addr, err := netip.ParseAddr(e.Object.Name)
			if e.Type == client.Deleted && err == nil {
				c.wake(ctx, func(other *networkingv1.ServiceCIDR) bool { return holds(other, netip.PrefixFrom(addr, addr.BitLen())) })
			}
		}))
	cancel()
	if other := <-ended; err == nil {
		err = other
	}
	return err
}

// free looks at the service that has an address under whose name a user's object
// was until now.
func (c *Controller) free(ctx context.Context, name string) {
	all, err := client.List[*corev1.Service](ctx, c.addresses, client.Query{})
	if err != nil {
		return // only if ctx has ended
	}
	for _, s := range all {
		if slices.Contains(s.Spec.ClusterIPs, name) {
			c.services.Add(types.NamespacedName{Namespace: s.Namespace, Name: s.Name})
		}
	}
}

// wake looks at ranges that are being deleted and that fits is true for.
func (c *Controller) wake(ctx context.Context, fits func(*networkingv1.ServiceCIDR) bool) {
	all, err := client.List[*networkingv1.ServiceCIDR](ctx, c.client, client.Query{})
	if err != nil {
		return // only if ctx has ended
	}
	for _, other := range all {
		if other.DeletionTimestamp != nil && fits(other) {
			c.ranges.Add(other.Name)
		}
	}
}

func (c *Controller) syncRange(ctx context.Context, name string) (time.Duration, error) {
	have, err := client.Get[*networkingv1.ServiceCIDR](ctx, c.client, "", name)
	if err != nil {
		return 0, gone(err)
	}
	if have.DeletionTimestamp == nil {
		if !slices.Contains(have.Finalizers, finalizer) {
			next := have.DeepCopy()
			next.Finalizers = append(next.Finalizers, finalizer)
			if have, err = client.Update(ctx, c.client, next); err != nil {
				return 0, gone(err)
			}
		}
		return 0, c.report(ctx, have, false)
	}
	all, err := client.List[*networkingv1.ServiceCIDR](ctx, c.client, client.Query{})
	if err != nil {
		return 0, err
	}
	taken, err := client.List[*networkingv1.IPAddress](ctx, c.client, client.Query{})
	if err != nil {
		return 0, err
	}
	switch left := grace - time.Since(have.DeletionTimestamp.Time); {
	case !removable(have, all, taken):
		return 0, c.report(ctx, have, true)
	case left > 0:
		return left, nil
	case !slices.Contains(have.Finalizers, finalizer):
		return 0, nil
	}
	next := have.DeepCopy()
	next.Finalizers = slices.DeleteFunc(next.Finalizers, func(f string) bool { return f == finalizer })
	_, err = client.Update(ctx, c.client, next)
	return 0, gone(err)
}

// report writes a range's condition, if it is another.
func (c *Controller) report(ctx context.Context, have *networkingv1.ServiceCIDR, stuck bool) error {
	want := condition(have, stuck, metav1.Now())
	if is := meta.FindStatusCondition(have.Status.Conditions, want.Type); is != nil &&
		is.Status == want.Status && is.Reason == want.Reason && is.Message == want.Message {
		return nil
	}
	next := have.DeepCopy()
	meta.SetStatusCondition(&next.Status.Conditions, want)
	_, err := client.UpdateStatus(ctx, c.client, next)
	return gone(err)
}

// gone is err unless it says that there is nothing left to do.
func gone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// syncService makes the IPAddresses of a service those that it has.
func (c *Controller) syncService(ctx context.Context, key types.NamespacedName) (time.Duration, error) {
	service, err := client.Get[*corev1.Service](ctx, c.addresses, key.Namespace, key.Name)
	if gone(err) != nil {
		return 0, err
	}
	if err != nil {
		service = nil
	}
	have, err := client.List[*networkingv1.IPAddress](ctx, c.addresses, client.Query{Index: networking.ParentIndex, Value: networking.Parent("services", key.Namespace, key.Name)})
	if err != nil {
		return 0, err
	}
	want := addresses(service)
	for _, a := range have {
		addr, err := netip.ParseAddr(a.Name)
		if err == nil && slices.Contains(want, addr) {
			want = slices.DeleteFunc(want, func(w netip.Addr) bool { return w == addr })
			continue
		}
		if !networking.Allocated(a) {
			continue // a user's own
		}
		if err := gone(client.Delete[*networkingv1.IPAddress](ctx, c.addresses, "", a.Name, nil)); err != nil {
			return 0, err
		}
	}
	for _, addr := range want {
		_, err := client.Create(ctx, c.addresses, object(addr, key.Namespace, key.Name))
		if apierrors.IsAlreadyExists(err) {
			// A user's own stays, and wakes us when it goes. That of the service
			// which had the address before is about to go.
			if other, err := client.Get[*networkingv1.IPAddress](ctx, c.addresses, "", addr.String()); err == nil && !networking.Allocated(other) {
				continue
			}
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, nil
}
