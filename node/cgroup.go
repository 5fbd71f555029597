package node

import (
	"context"
	"errors"
	"log/slog"
	"path"
	"sync"

	"sampan/internal/cgroup"
	"sampan/node/resource"
)

// cgroups makes and removes the control groups of pods, with what all
// containers of a pod may use together. The runtime puts containers below.
type cgroups struct {
	log *slog.Logger

	detect sync.Once
	tree   *cgroup.Tree
	err    error
}

func (c *cgroups) load() error {
	c.detect.Do(func() { c.tree, c.err = cgroup.Detect() })
	return c.err
}

// Make makes a pod's group, or sets the limits of one that exists.
func (c *cgroups) Make(name string, l resource.Limits) error {
	if err := c.load(); err != nil {
		return err
	}
	g := c.tree.Group(name)
	if err := g.Create(); err != nil {
		return err
	}
	r := cgroup.Resources{CPUShares: uint64(l.CPUShares), CPUQuota: l.CPUQuota, CPUPeriod: uint64(l.CPUPeriod), MemoryLimit: l.MemoryBytes}
	warnings, err := g.Apply(r)
	for _, w := range warnings {
		c.log.Warn("limit of a pod not set", "cgroup", name, "reason", w)
	}
	if parent := g.Parent(); err == nil && path.Base(parent.Path()) == "besteffort" {
		// Together they get what nobody else wants.
		_, err = parent.Apply(cgroup.Resources{CPUShares: 2})
	}
	return err
}

// Remove removes groups; one that does not exist is no error.
func (c *cgroups) Remove(ctx context.Context, names ...string) error {
	if err := c.load(); err != nil {
		return err
	}
	var all error
	for _, name := range names {
		all = errors.Join(all, c.tree.Group(name).Destroy(ctx))
	}
	return all
}
