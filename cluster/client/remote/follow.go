package remote

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/kind"
)

// follower is a client.Watcher on a view.
type follower struct {
	v     *view
	ctx   context.Context // of Watch: the watch ends with it
	match func(kind.Object) bool
	more  chan struct{}
	queue []client.Event // guarded by view.mu
}

// follow begins with all there is.
func (v *view) follow(ctx context.Context, match func(kind.Object) bool) *follower {
	f := &follower{v: v, ctx: ctx, match: match, more: make(chan struct{}, 1)}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.followers[f] = struct{}{}
	for _, key := range slices.SortedFunc(maps.Keys(v.objects), order) {
		f.push(client.Event{Type: client.Added, Object: v.objects[key]})
	}
	if v.ready() {
		f.push(client.Event{Type: client.Synced})
	}
	return f
}

func (v *view) leave(f *follower) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.followers, f)
	f.queue = nil
}

// queueLimit bounds what waits for a follower that is slow; beyond it, what
// happened to one object is told as one change.
const queueLimit = 4096

// push queues events as they look through the follower's query; view.mu is held.
func (f *follower) push(events ...client.Event) {
	for _, e := range events {
		if e.Type == client.Synced {
			f.queue = append(f.queue, e)
			continue
		}
		is := e.Type != client.Deleted && f.match(e.Object)
		was := e.Old != nil && f.match(e.Old)
		switch {
		case is && was:
			f.queue = append(f.queue, e)
		case is:
			f.queue = append(f.queue, client.Event{Type: client.Added, Object: e.Object})
		case was && e.Type == client.Deleted:
			f.queue = append(f.queue, e)
		case was:
			f.queue = append(f.queue, client.Event{Type: client.Deleted, Object: e.Old, Old: e.Old})
		}
	}
	if len(f.queue) > queueLimit {
		f.queue = merge(f.queue)
	}
	if len(f.queue) > 0 {
		select {
		case f.more <- struct{}{}:
		default:
		}
	}
}

// Next implements client.Watcher.
func (f *follower) Next(ctx context.Context) ([]client.Event, error) {
	for {
		if err := cmp.Or(f.ctx.Err(), ctx.Err()); err != nil {
			return nil, err
		}
		f.v.mu.Lock()
		events := f.queue
		f.queue = nil
		f.v.mu.Unlock()
		if len(events) > 0 {
			return events, nil
		}
		select {
		case <-f.more:
		case <-ctx.Done():
		case <-f.ctx.Done():
		}
	}
}

// merge tells what happened to each object in one event, or two where one
// object took the place of another; and Synced where it was, behind what came
// before it. What came and went is not told.
func merge(events []client.Event) []client.Event {
	type span struct{ first, last client.Event }
	var out []client.Event
	spans := map[types.NamespacedName]*span{}
	var names []types.NamespacedName
	flush := func() {
		for _, name := range names {
			s := spans[name]
			was, last := s.first.Old, s.last
			switch {
			case last.Type == client.Deleted && was == nil:
			case last.Type == client.Deleted:
				out = append(out, client.Event{Type: client.Deleted, Object: last.Object, Old: was})
			case was == nil:
				out = append(out, client.Event{Type: client.Added, Object: last.Object})
			case was.GetUID() != last.Object.GetUID():
				out = append(out, client.Event{Type: client.Deleted, Object: was, Old: was},
					client.Event{Type: client.Added, Object: last.Object})
			default:
				out = append(out, client.Event{Type: client.Modified, Object: last.Object, Old: was})
			}
		}
		clear(spans)
		names = names[:0]
	}
	for _, e := range events {
		if e.Type == client.Synced {
			flush()
			out = append(out, e)
			continue
		}
		name := keyOf(e.Object)
		if s := spans[name]; s != nil {
			s.last = e
			continue
		}
		spans[name] = &span{e, e}
		names = append(names, name)
	}
	flush()
	return out
}

func order(a, b types.NamespacedName) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}
