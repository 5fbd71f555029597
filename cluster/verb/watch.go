package verb

import (
	"context"
	"errors"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/watch"

	"sampan/cluster/kind"
	"sampan/cluster/object"
	"sampan/cluster/request"
	"sampan/cluster/store"
)

// Watch is a running watch, used by one goroutine.
type Watch struct {
	by      *selected
	request request.Request
	cursor  *store.Cursor
	seen    int64

	initial []kind.Object // to be sent as Added first
	finish  bool          // a bookmark ends the initial events
}

// WatchEvent is one change as the watch's selectors see it.
type WatchEvent struct {
	Type             watch.EventType // Added, Modified, Deleted, Bookmark
	Object           kind.Object     // hub, shared; nil for Bookmark
	ResourceVersion  string          // of the event
	InitialEventsEnd bool            // Bookmark: all initial events were sent

	shared *store.Event // nil where Object is not the event's own
}

// Watch follows objects. Without a resourceVersion, and with "0", it begins
// with what there is. Close it. What goes wrong later is an error of Next.
func (a *API) Watch(ctx context.Context, r request.Request, o metav1.ListOptions) (*Watch, error) {
	r = narrowed(r, o)
	if err := a.Authorizer.Authorize(ctx, r); err != nil {
		return nil, err
	}
	if o.SendInitialEvents == nil && o.ResourceVersionMatch == "" && (o.ResourceVersion == "" || o.ResourceVersion == "0") {
		// What was always so is, since KEP-3157, what was asked for.
		o.SendInitialEvents, o.ResourceVersionMatch = new(true), metav1.ResourceVersionMatchNotOlderThan
	}
	by, err := selectedBy(r, o, validWatchOptions)
	if err != nil {
		return nil, err
	}
	w := &Watch{by: by, request: r}
	list := o.ResourceVersion == "" || o.ResourceVersion == "0"
	if o.SendInitialEvents != nil {
		list, w.finish = *o.SendInitialEvents, *o.SendInitialEvents && o.AllowWatchBookmarks
	}
	if list {
		if err := a.fresh(ctx, r, o.ResourceVersion); err != nil {
			return nil, err
		}
		all, cursor, err := a.Store.ListAndWatch(r.Kind, store.ListOptions{Namespace: by.namespace, Index: by.index, Value: by.value})
		if err != nil {
			return nil, failure(r, err)
		}
		w.cursor, w.seen = cursor, all.Revision
		if err := by.prepare(r, all); err != nil {
			cursor.Close()
			return nil, err
		}
		if by.all() {
			w.initial = all.Slice()
			return w, nil
		}
		for obj := range all.All() {
			if by.matches(obj) {
				w.initial = append(w.initial, obj)
			}
		}
		return w, nil
	}
	var since int64
	if o.ResourceVersion != "" && o.ResourceVersion != "0" {
		if since, err = revision(o.ResourceVersion); err != nil {
			return nil, err
		}
	}
	if w.cursor, err = a.Store.Watch(r.Kind, store.WatchOptions{Since: since, Index: by.index, Value: by.value}); err != nil {
		return nil, failure(r, err)
	}
	w.seen = since
	return w, nil
}

// validWatchOptions reports what a watch cannot be asked for. (Upstream:
// internalversion/validation.)
func validWatchOptions(o metav1.ListOptions) (errs field.ErrorList) {
	at, match := field.NewPath("resourceVersionMatch"), o.ResourceVersionMatch
	if o.SendInitialEvents != nil && match != metav1.ResourceVersionMatchNotOlderThan {
		errs = append(errs, field.Forbidden(at, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
	}
	if match == "" {
		return errs
	}
	if o.SendInitialEvents == nil {
		errs = append(errs, field.Forbidden(at, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"))
	}
	if match != metav1.ResourceVersionMatchNotOlderThan {
		errs = append(errs, field.NotSupported(at, match, []string{string(metav1.ResourceVersionMatchNotOlderThan)}))
	}
	if o.Continue != "" {
		errs = append(errs, field.Forbidden(at, "resourceVersionMatch is forbidden when continue is provided"))
	}
	return errs
}

// ErrEnded ends the watch of a custom resource whose definition has changed:
// whoever watches asks again.
var ErrEnded = errors.New("the definition has changed")

// Next blocks until there are events, ctx ends, or the watch cannot go on (410:
// it was too slow). Its only bookmark is the one that ends the initial events.
func (w *Watch) Next(ctx context.Context) ([]WatchEvent, error) {
	for {
		if events, err := w.Poll(nil); err != nil || len(events) > 0 {
			return events, err
		}
		select {
		case <-w.More():
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// More has a value when Poll may return something, an error included.
func (w *Watch) More() <-chan struct{} { return w.cursor.More() }

// Poll is Next for whoever does not wait: what there is, appended to events.
func (w *Watch) Poll(events []WatchEvent) ([]WatchEvent, error) {
	if first := w.begin(); len(first) > 0 {
		return append(events, first...), nil
	}
	changes, seen, err := w.cursor.Next()
	var ended *store.Ended
	if errors.As(err, &ended) {
		return nil, ErrEnded
	}
	if err != nil {
		return nil, failure(w.request, err)
	}
	if err := w.prepare(changes); err != nil {
		return nil, err
	}
	for _, c := range changes {
		if e, ok := w.by.view(c); ok {
			events = append(events, e)
		}
	}
	w.seen = max(w.seen, seen)
	return events, nil
}

// prepare has objects converted that are to be selected by fields of the version
// asked for: what cannot be converted is an error, and not an event that nobody
// is told of.
func (w *Watch) prepare(changes []*store.Event) error {
	if w.by.kind.Custom == nil || len(w.by.fields) == 0 {
		return nil
	}
	var objs []kind.Object
	for _, c := range changes {
		objs = append(objs, c.Object)
		if c.Old != nil {
			objs = append(objs, c.Old)
		}
	}
	_, err := object.AllAs(w.by.kind, objs, w.request.GVK)
	return err
}

// Initial is how many events Next has before anything changes.
func (w *Watch) Initial() int {
	if w.finish {
		return len(w.initial) + 1
	}
	return len(w.initial)
}

// begin returns the initial events, once.
func (w *Watch) begin() []WatchEvent {
	var events []WatchEvent
	for _, obj := range w.initial {
		events = append(events, WatchEvent{Type: watch.Added, Object: obj, ResourceVersion: obj.GetResourceVersion()})
	}
	w.initial = nil
	if w.finish {
		w.finish = false
		end := w.Bookmark()
		end.InitialEventsEnd = true
		events = append(events, end)
	}
	return events
}

// Bookmark says up to which resourceVersion everything was returned by Next.
func (w *Watch) Bookmark() WatchEvent {
	return WatchEvent{Type: watch.Bookmark, ResourceVersion: strconv.FormatInt(w.seen, 10)}
}

// Close frees the watch.
func (w *Watch) Close() { w.cursor.Close() }

// view is a change as the selectors see it; false if they do not.
func (s *selected) view(c *store.Event) (WatchEvent, bool) {
	rv := c.Object.GetResourceVersion() // the event's, also of one deleted
	was := c.Old != nil && s.matches(c.Old)
	if c.Type == store.Deleted {
		was = was || c.Old == nil && s.matches(c.Object)
		return WatchEvent{Type: watch.Deleted, Object: c.Object, ResourceVersion: rv, shared: c}, was
	}
	switch is := s.matches(c.Object); {
	case is && was:
		return WatchEvent{Type: watch.Modified, Object: c.Object, ResourceVersion: rv, shared: c}, true
	case is:
		return WatchEvent{Type: watch.Added, Object: c.Object, ResourceVersion: rv, shared: c}, true
	case was:
		// It left the selection: the state before, at the revision of leaving.
		left := c.Old.DeepCopyObject().(kind.Object)
		left.SetResourceVersion(rv)
		return WatchEvent{Type: watch.Deleted, Object: left, ResourceVersion: rv}, true
	}
	return WatchEvent{}, false
}

// Encoded returns what make returns, made once for all watches that send the
// same event with the same key: the Type, media type, version, what of the
// object is sent. The bytes are shared.
func (e *WatchEvent) Encoded(key string, make func() []byte) []byte {
	if e.shared == nil {
		return make()
	}
	return e.shared.Encoded(key, make)
}

// Made returns what Encoded has returned to any watch; nil if it was not asked
// for yet, or some time ago.
func (e *WatchEvent) Made(key string) []byte {
	if e.shared == nil {
		return nil
	}
	return e.shared.Made(key)
}
