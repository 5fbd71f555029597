package verb

import (
	"context"
	"errors"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/kind"
	"sampan/cluster/request"
	"sampan/cluster/store"
)

var errPending = errors.New("verb: not written yet")

var _ kind.Object = (*autoscalingv1.Scale)(nil)

type pages struct{}

// Create makes a new object.
func (a *API) Create(ctx context.Context, r request.Request, b Body) (kind.Object, error) {
	return nil, errPending
}

// Get returns one object.
func (a *API) Get(ctx context.Context, r request.Request, o metav1.GetOptions) (kind.Object, error) {
	return nil, errPending
}

// List is the answer to a list: hubs, shared.
type List struct {
	Objects         []kind.Object
	ResourceVersion string
	Continue        string
	Remaining       *int64
}

// List returns objects in order of namespace and name. r.Name is empty.
func (a *API) List(ctx context.Context, r request.Request, o metav1.ListOptions) (*List, error) {
	return nil, errPending
}

// Watch follows objects. Close it. A failure later on is an error of Next.
func (a *API) Watch(ctx context.Context, r request.Request, o metav1.ListOptions) (*Watch, error) {
	return nil, errPending
}

// Watch is a running watch, used by one goroutine.
type Watch struct{}

// WatchEvent is one change as the watch's selectors see it.
type WatchEvent struct {
	Type             string      // "ADDED", "MODIFIED", "DELETED", "BOOKMARK"
	Object           kind.Object // hub, shared; nil for BOOKMARK
	ResourceVersion  string      // of the event; for DELETED it is newer than Object's
	InitialEventsEnd bool        // BOOKMARK: all initial events were sent

	event *store.Event
}

// Next blocks until there are events, ctx ends, or the watch cannot go on
// (Expired: 410). Bookmarks come only by Bookmark, but for the one that ends
// the initial events.
func (w *Watch) Next(ctx context.Context) ([]WatchEvent, error) { return nil, errPending }

// Bookmark returns an event that says up to which resourceVersion everything
// was delivered. Call it between calls of Next.
func (w *Watch) Bookmark() WatchEvent { return WatchEvent{} }

// Close frees the watch.
func (w *Watch) Close() {}

// Encoded returns what make returned for the same event and key, in whatever
// watch: the shared encoding. key names media type, version, and frame.
func (e *WatchEvent) Encoded(key string, make func() []byte) []byte { return make() }

// Update replaces an object, or the part r.Subresource names. created is true
// where the kind lets a PUT create.
func (a *API) Update(ctx context.Context, r request.Request, b Body) (obj kind.Object, created bool, err error) {
	return nil, false, errPending
}

// Patch changes an object by a document of type pt (JSON, merge, strategic
// merge, or apply as YAML). created is true after an apply of a new object.
func (a *API) Patch(ctx context.Context, r request.Request, pt types.PatchType, data []byte) (obj kind.Object, created bool, err error) {
	return nil, false, errPending
}

// Delete removes an object. done is false while it still exists, for its
// grace period or its finalizers (202 Accepted is not sent by upstream for
// it; the answer is the object). With done the answer is a *metav1.Status, or
// the object's last state for kinds with DeleteReturnsObject.
func (a *API) Delete(ctx context.Context, r request.Request, o *metav1.DeleteOptions) (answer runtime.Object, done bool, err error) {
	return nil, false, errPending
}

// DeleteCollection deletes what l selects, and returns the objects.
func (a *API) DeleteCollection(ctx context.Context, r request.Request, o *metav1.DeleteOptions, l metav1.ListOptions) (*List, error) {
	return nil, errPending
}

// Act posts to a subresource with a body of its own: "binding", "token",
// "eviction". The answer is encoded as it is.
func (a *API) Act(ctx context.Context, r request.Request, b Body) (runtime.Object, error) {
	return nil, errPending
}

// As returns a client that reads and writes as user, in this process.
func (a *API) As(user request.User) client.Client { return nil }

// NewReader returns a reader of the store that asks nobody: for admission and
// authentication only.
func NewReader(kinds *kind.Table, s *store.Store) client.Reader { return nil }
