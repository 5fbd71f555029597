package engine

import (
	"context"
	"time"

	"sampan/engine/snapshot"
	"sampan/internal/cgroup"
)

// Stats is what a container uses now.
type Stats struct {
	At     time.Time
	Cgroup cgroup.Stats // zero if it is not running
	Disk   snapshot.Usage
}

// Stats measures a container. Reading the disk's part walks the files it
// wrote.
func (e *Engine) Stats(ctx context.Context, id string) (Stats, error) {
	c, err := e.Inspect(ctx, id)
	if err != nil {
		return Stats{}, err
	}
	out := Stats{At: time.Now()}
	if c.Status.State == Running {
		pod, err := e.Runtime.OpenPod(ctx, c.Sandbox)
		if err != nil {
			return out, err
		}
		if out.Cgroup, err = pod.Stats(ctx, c.ID); err != nil {
			return out, in("measure container", short(c.ID), err)
		}
	}
	out.Disk, err = e.Snapshots.Usage(ctx, c.ID)
	return out, err
}
