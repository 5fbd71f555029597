package remote

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/kind"
	"sampan/internal/fault"
)

// Times of a view.
const (
	linger     = 10 * time.Minute // of all objects of a kind, after the last use
	firstRetry = 200 * time.Millisecond
	lastRetry  = 30 * time.Second
	watchLasts = 5 * time.Minute // at least, and at most twice that (upstream's reflector)
)

// view keeps what a selection selects, as of the last event: a list, then a
// watch that resumes where it ended. It is used by followers, and by reads.
type view struct {
	c   *Client
	sel selection

	users int                // guarded by Client.mu, as the next two
	idle  *time.Timer        // of a view that stays for a while without users
	stop  context.CancelFunc // does nothing before the view was started

	full chan struct{} // closed when it was filled for the first time

	mu        sync.Mutex // guards all below; after Client.mu
	objects   map[types.NamespacedName]kind.Object
	indexes   map[string]index // those that were asked for
	followers map[*follower]struct{}
	used      time.Time // when it was last asked for
}

// index finds objects by a value.
type index map[string]map[types.NamespacedName]kind.Object

// viewLocked is the view of a selection; it is made if there is none.
func (c *Client) viewLocked(s selection) *view {
	v := c.views[s]
	if v == nil {
		v = &view{c: c, sel: s, stop: func() {}, full: make(chan struct{}), objects: map[types.NamespacedName]kind.Object{},
			indexes: map[string]index{}, followers: map[*follower]struct{}{}}
		c.views[s] = v
		if s == (selection{kind: s.kind}) {
			v.idle = time.AfterFunc(linger, func() { c.retire(v) })
		}
		c.startLocked(v)
	}
	v.mu.Lock()
	v.used = time.Now()
	v.mu.Unlock()
	return v
}

// startLocked lets v follow the server, if Run runs.
func (c *Client) startLocked(v *view) {
	if c.running == nil {
		return
	}
	ctx, stop := context.WithCancel(c.running)
	v.stop = stop
	c.group.Go(func() { v.run(ctx) })
}

// release notes that a user of v has gone.
func (c *Client) release(v *view) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v.users--
	switch {
	case v.users > 0:
	case v.idle != nil:
		v.idle.Reset(linger)
	default:
		v.stop()
		delete(c.views, v.sel)
	}
}

// retire ends a view that nobody has used for a while.
func (c *Client) retire(v *view) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v.users > 0 {
		return // release begins again
	}
	v.mu.Lock()
	left := time.Until(v.used.Add(linger))
	v.mu.Unlock()
	if left > 0 {
		v.idle.Reset(left)
		return
	}
	v.stop()
	delete(c.views, v.sel)
}

func (v *view) ready() bool {
	select {
	case <-v.full:
		return true
	default:
		return false
	}
}

// filled waits until all objects are there, for the first time.
func (v *view) filled(ctx context.Context) error {
	if v.ready() {
		return nil
	}
	wait := time.NewTimer(fillWait)
	defer wait.Stop()
	select {
	case <-v.full:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-wait.C:
		return &fault.Error{Class: fault.Unavailable, Op: "read", On: v.sel.String(),
			Err: errors.New("the server has not answered yet"), Fix: "see whether " + v.c.cfg.Server + " can be reached from here"}
	}
}

func (v *view) get(name types.NamespacedName) kind.Object {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.objects[name]
}

// list returns what matches, in no order.
func (v *view) list(q client.Query, match func(kind.Object) bool) (found []kind.Object) {
	v.mu.Lock()
	defer v.mu.Unlock()
	from := v.objects
	if q.Index != "" {
		from = v.indexLocked(q.Index)[q.Value]
	}
	for _, obj := range from {
		if match(obj) {
			found = append(found, obj)
		}
	}
	return found
}

// indexLocked is an index, which is made when it is first asked for.
func (v *view) indexLocked(name string) index {
	x := v.indexes[name]
	if x == nil {
		x = index{}
		for key, obj := range v.objects {
			x.put(v.sel.kind.Indexes[name](obj), key, obj)
		}
		v.indexes[name] = x
	}
	return x
}

func (x index) put(values []string, key types.NamespacedName, obj kind.Object) {
	for _, value := range values {
		if x[value] == nil {
			x[value] = map[types.NamespacedName]kind.Object{}
		}
		x[value][key] = obj
	}
}

func (x index) drop(values []string, key types.NamespacedName) {
	for _, value := range values {
		delete(x[value], key)
		if len(x[value]) == 0 {
			delete(x, value)
		}
	}
}

// run follows the server until ctx ends.
func (v *view) run(ctx context.Context) {
	log := v.c.cfg.Log.With("of", v.sel.String())
	revision, retry := "", firstRetry
	for ctx.Err() == nil {
		began := time.Now()
		heard, err := v.round(ctx, &revision)
		if ctx.Err() != nil {
			return
		}
		if heard || time.Since(began) > watchLasts {
			retry = firstRetry
		}
		switch {
		case apierrors.IsResourceExpired(err) || apierrors.IsGone(err),
			apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge): // of a store that was restored
			revision = "" // what happened meanwhile is found by a list
		case err == nil && heard:
			continue // a watch does not last for ever
		case err != nil:
			log.Warn("watch ended", "retry", retry, "err", err)
		}
		// Spread over time: after a restart of the server all come back.
		wait := time.NewTimer(retry/2 + rand.N(retry))
		select {
		case <-ctx.Done():
			wait.Stop()
		case <-wait.C:
		}
		retry = min(2*retry, lastRetry)
	}
}

// round lists if need be, and watches until the watch ends. heard is whether
// the server said anything.
func (v *view) round(ctx context.Context, revision *string) (heard bool, err error) {
	if *revision == "" {
		all, at, err := v.c.list(ctx, v.sel)
		if err != nil {
			return false, err
		}
		v.replace(all)
		*revision, heard = at, true
	}
	lasts := watchLasts + rand.N(watchLasts)
	q := v.sel.query()
	q.Set("watch", "true")
	q.Set("allowWatchBookmarks", "true")
	q.Set("resourceVersion", *revision)
	q.Set("timeoutSeconds", strconv.Itoa(int(lasts/time.Second)))
	ctx, cancel := context.WithTimeout(ctx, lasts+patience) // a server that forgot to end it
	defer cancel()
	media := mediaOf(v.sel.kind)
	resp, err := v.c.send(ctx, request{method: http.MethodGet, path: path(v.sel.kind, v.sel.namespace, "", ""), query: q, accept: media + ";stream=watch," + media})
	if err != nil {
		return heard, err
	}
	defer resp.Body.Close()
	next := frames(resp)
	for {
		e, err := next()
		if err != nil {
			return heard, v.ended(ctx, err)
		}
		heard = true
		if err := v.take(e, revision); err != nil {
			return heard, err
		}
	}
}

// replace makes a list the state, and tells followers the difference.
func (v *view) replace(all []kind.Object) {
	now := make(map[types.NamespacedName]kind.Object, len(all))
	for _, obj := range all {
		now[keyOf(obj)] = obj
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	events := compare(v.objects, now)
	v.objects, v.indexes = now, map[string]index{}
	first := !v.ready()
	if first {
		close(v.full)
	}
	for f := range v.followers {
		f.push(events...)
		if first {
			f.push(client.Event{Type: client.Synced})
		}
	}
}

// compare says how to get from one state to another, and keeps in now those
// objects of old that have not changed. Events are in the order of names.
func compare(old, now map[types.NamespacedName]kind.Object) (events []client.Event) {
	for _, key := range slices.SortedFunc(maps.Keys(old), order) {
		if was := old[key]; now[key] == nil {
			events = append(events, client.Event{Type: client.Deleted, Object: was, Old: was})
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(now), order) {
		was, is := old[key], now[key]
		switch {
		case was == nil:
			events = append(events, client.Event{Type: client.Added, Object: is})
		case was.GetUID() != is.GetUID():
			events = append(events, client.Event{Type: client.Deleted, Object: was, Old: was}, client.Event{Type: client.Added, Object: is})
		case was.GetResourceVersion() == is.GetResourceVersion():
			now[key] = was
		default:
			events = append(events, client.Event{Type: client.Modified, Object: is, Old: was})
		}
	}
	return events
}

// change makes an event of a watch part of the state. An object that the
// server calls new may be known, from the list.
func (v *view) change(deleted bool, obj kind.Object) {
	key := keyOf(obj)
	v.mu.Lock()
	defer v.mu.Unlock()
	old := v.objects[key]
	var events []client.Event
	switch {
	case deleted && old == nil:
		return
	case deleted:
		events = append(events, client.Event{Type: client.Deleted, Object: obj, Old: old})
	case old == nil:
		events = append(events, client.Event{Type: client.Added, Object: obj})
	case old.GetUID() != obj.GetUID():
		events = append(events, client.Event{Type: client.Deleted, Object: old, Old: old}, client.Event{Type: client.Added, Object: obj})
	default:
		events = append(events, client.Event{Type: client.Modified, Object: obj, Old: old})
	}
	for name, x := range v.indexes {
		values := v.sel.kind.Indexes[name]
		if old != nil {
			x.drop(values(old), key)
		}
		if !deleted {
			x.put(values(obj), key, obj)
		}
	}
	if deleted {
		delete(v.objects, key)
	} else {
		v.objects[key] = obj
	}
	for f := range v.followers {
		f.push(events...)
	}
}

func keyOf(obj kind.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}
}
