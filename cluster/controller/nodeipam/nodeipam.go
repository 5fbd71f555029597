// Package nodeipam gives each node its share of the cluster's pod addresses:
// spec.podCIDR, upstream's node-ipam-controller. Which one is decided in
// decide.go; a node keeps it for as long as its object lives.
//
// It does not know how addresses come to pods.
package nodeipam

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/client/event"
	"sampan/cluster/controller/loop"
)

// Config is what a Controller needs. Client, Range and Log are required.
type Config struct {
	Client client.Client
	Range  netip.Prefix // of all pods
	Bits   int          // length of a node's range; default 24

	// Fixed are the ranges of nodes that have to have a certain one, by name.
	// Nobody else gets it.
	Fixed map[string]netip.Prefix
	Log   *slog.Logger
}

// Controller gives out ranges. See the package comment.
type Controller struct {
	cfg    Config
	loop   *loop.Loop[string]
	events *event.Recorder
}

// New returns a controller.
func New(cfg Config) *Controller {
	if cfg.Bits == 0 {
		cfg.Bits = 24
	}
	c := &Controller{cfg: cfg, events: &event.Recorder{Client: cfg.Client, Component: "cidrAllocator", Log: cfg.Log}}
	// One worker: two at once could choose the same range.
	c.loop = &loop.Loop[string]{Name: "nodeipam", Log: cfg.Log, Sync: c.sync}
	return c
}

// Run works until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	all.Go(func() { c.events.Run(ctx) })
	all.Go(func() { c.loop.Run(ctx) })
	synced := false
	return client.Follow(ctx, c.cfg.Client, client.Query{}, func(e client.Change[*corev1.Node]) {
		switch {
		case e.Type == client.Synced, e.Type == client.Deleted:
			// Until all nodes are known, a range that is in use would look free;
			// and when one goes, another may have waited for its range.
			synced = synced || e.Type == client.Synced
			c.addAll(ctx)
		case synced && e.Object.Spec.PodCIDR == "":
			c.loop.Add(e.Object.Name)
		}
	})
}

func (c *Controller) addAll(ctx context.Context) {
	nodes, err := client.List[*corev1.Node](ctx, c.cfg.Client, client.Query{})
	if err != nil {
		if ctx.Err() == nil {
			c.cfg.Log.Error("nodes without a pod range not read", "err", err)
		}
		return
	}
	for _, n := range nodes {
		if n.Spec.PodCIDR == "" {
			c.loop.Add(n.Name)
		}
	}
}

func (c *Controller) sync(ctx context.Context, name string) (time.Duration, error) {
	nodes, err := client.List[*corev1.Node](ctx, c.cfg.Client, client.Query{})
	if err != nil {
		return 0, err
	}
	node, pods, ok := choose(nodes, name, c.cfg)
	switch {
	case node == nil:
		return 0, nil // it has one, or is gone
	case !ok:
		c.cfg.Log.Error("no pod range is left for a node", "key", name, "range", c.cfg.Range)
		c.events.Eventf(node, corev1.EventTypeNormal, "CIDRNotAvailable", "Node %s status is now: %s", name, "CIDRNotAvailable")
		return 0, nil // a node that goes wakes this one
	}
	patch, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": node.UID},
		"spec":     map[string]any{"podCIDR": pods.String(), "podCIDRs": []string{pods.String()}}})
	if err != nil {
		return 0, err
	}
	_, err = c.cfg.Client.Patch(ctx, client.KindOf[*corev1.Node](c.cfg.Client),
		client.Patch{Name: name, Type: types.StrategicMergePatchType, Data: patch})
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	return 0, err
}
