// Package routes makes the pods of other nodes reachable: each node's range of
// addresses is behind that node's own address, as its Node object says.
//
// Nodes that share a link need no more than a route each. What is to be is
// decided in decide.go; the routes stay when the program is away, and those of
// nodes that went are removed. It knows nothing of this node's own pods.
package routes

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/client"
	"sampan/internal/fault"
	"sampan/internal/netlink"
)

// Config is what Keep needs. It works on the network namespace of the process.
type Config struct {
	Client client.Reader // may read all nodes
	Node   string        // this node's name
	Pods   netip.Prefix  // of all nodes; routes elsewhere are not touched
	Log    *slog.Logger
}

// Keeper keeps the routes. Make it with New.
type Keeper struct {
	cfg  Config
	wake chan struct{}
}

// New returns a keeper. It touches nothing.
func New(cfg Config) *Keeper {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Keeper{cfg: cfg, wake: make(chan struct{}, 1)}
}

// How often routes that the kernel refused are tried again: a link may be down.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// Run keeps the routes until ctx ends. They stay as they are then.
func (k *Keeper) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	defer func() { cancel(); <-ended }()
	synced := false // Follow's goroutine only
	go func() {
		ended <- client.Follow(ctx, k.cfg.Client, client.Query{}, func(e client.Change[*corev1.Node]) {
			synced = synced || e.Type == client.Synced
			if synced && (e.Type != client.Modified || e.Old == nil || !same(e.Old, e.Object)) {
				k.poke()
			}
		})
	}()
	retry := time.NewTimer(time.Hour)
	retry.Stop()
	defer retry.Stop()
	for wait := firstRetry; ; {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ended:
			ended <- err
			return err
		case <-k.wake:
		case <-retry.C:
		}
		if err := k.settle(ctx); err != nil && ctx.Err() == nil {
			k.cfg.Log.Error("routes to pods of other nodes not made", "retry", wait, "err", err)
			retry.Reset(wait)
			wait = min(2*wait, lastRetry)
			continue
		}
		wait = firstRetry
	}
}

func (k *Keeper) poke() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// settle makes the kernel's routes those that are wanted.
func (k *Keeper) settle(ctx context.Context) error {
	nodes, err := client.List[*corev1.Node](ctx, k.cfg.Client, client.Query{})
	if err != nil {
		return err
	}
	h, err := netlink.Open()
	if err != nil {
		return err
	}
	defer h.Close()
	have, err := Existing(h, k.cfg.Pods)
	if err != nil {
		return err
	}
	gone, come := differ(have, wanted(nodes, k.cfg.Node, k.cfg.Pods))
	var errs []error
	for _, r := range gone {
		errs = append(errs, h.DelRoute(r))
	}
	for _, r := range come {
		if err := h.SetRoute(r); err != nil {
			errs = append(errs, &fault.Error{Op: "reach pods of", On: r.Dst.String(), Err: err,
				Fix: "nodes have to share a link: see that " + r.Via.String() + " answers there"})
		}
	}
	return errors.Join(errs...)
}

// Existing are the routes below pods that lead to another machine.
func Existing(h *netlink.Handle, pods netip.Prefix) (found []netlink.Route, err error) {
	all, err := h.Routes()
	for _, r := range all {
		if r.Via.IsValid() && inside(r.Dst, pods) {
			found = append(found, r)
		}
	}
	return found, err
}
