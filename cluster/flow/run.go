package flow

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	flowv1 "k8s.io/api/flowcontrol/v1"

	"sampan/cluster/client"
)

// Run follows the objects until ctx ends, puts each change to work, writes what
// their status should say, and keeps those that every cluster has.
func (f *Flow) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	changed := make(chan struct{}, 1)
	wake := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	var all sync.WaitGroup
	defer all.Wait()
	var read atomic.Int32 // kinds of which all objects were read
	synced := func() { read.Add(1) }
	seen := func() {
		if read.Load() == 2 {
			wake()
		}
	}
	failed := make(chan error, 2)
	all.Go(func() { failed <- follow[*flowv1.FlowSchema](ctx, f.cfg.Objects, synced, seen) })
	all.Go(func() { failed <- follow[*flowv1.PriorityLevelConfiguration](ctx, f.cfg.Objects, synced, seen) })
	defer cancel() // before the wait above
	const first, longest = 200 * time.Millisecond, time.Minute
	wait := first
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-changed:
		}
		if err := f.sync(ctx); err == nil {
			wait = first
			continue
		} else if ctx.Err() == nil {
			f.cfg.Log.Warn("the objects of priority and fairness are not all as they should be, trying again", "after", wait, "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
			wait = min(2*wait, longest)
			wake()
		}
	}
}

// follow calls synced once, when all objects of a kind were read, and changed
// then and at each change after that.
func follow[T client.Typed](ctx context.Context, r client.Reader, synced, changed func()) error {
	told := false
	return client.Follow(ctx, r, client.Query{}, func(c client.Change[T]) {
		switch {
		case c.Type == client.Synced && !told:
			told = true
			synced()
			changed()
		case told:
			changed()
		}
	})
}

// sync reads all objects and does what follows of them.
func (f *Flow) sync(ctx context.Context) error {
	var o objects
	var err error
	if o.levels, err = client.List[*flowv1.PriorityLevelConfiguration](ctx, f.cfg.Objects, client.Query{}); err != nil {
		return err
	}
	if o.schemas, err = client.List[*flowv1.FlowSchema](ctx, f.cfg.Objects, client.Query{}); err != nil {
		return err
	}
	f.configure(o)
	if err := f.keepObjects(ctx, o); err != nil {
		return err
	}
	return f.say(ctx, o)
}
