package verb

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/kind"
	"sampan/cluster/object"
	"sampan/cluster/request"
	"sampan/cluster/store"
)

// Local is a client.Client in this process: the same steps as over HTTP, but
// for the encoding. Reads are from the cache as it is.
type Local struct {
	reader
	api  *API
	user request.User
}

// As returns a client that reads and writes as user.
func (a *API) As(user request.User) *Local {
	return &Local{reader: reader{kinds: a.Kinds, store: a.Store, api: a, user: user}, api: a, user: user}
}

var _ client.Client = (*Local)(nil)

// WithCache returns a client that writes as user and reads as the one whose
// cache it shares: upstream's controllers, each with an identity of its own,
// all read from the informers of system:kube-controller-manager. Reading one
// object from that cache takes what filling it took, the right to list; the
// audit trail is told when it is followed, and not of each look.
func (a *API) WithCache(user, cache request.User) *Local {
	l := a.As(user)
	l.reader.user, l.reader.cached = cache, true
	return l
}

// request is what the call of a method says, in the words of package request.
func (l *Local) request(verb string, k *kind.Kind, namespace, name, sub string) request.Request {
	return request.Request{Verb: verb, Kind: k, GVK: k.GVK, Namespace: namespace, Name: name, Subresource: sub,
		User: l.user, FieldManager: component(l.user), FieldValidation: string(object.Strict)}
}

// component is the name that upstream's program for a user's work has in
// managedFields.
func component(u request.User) string {
	switch {
	case strings.HasPrefix(u.Name, "system:node:"):
		return "kubelet"
	case strings.HasPrefix(u.Name, "system:serviceaccount:kube-system:"):
		return "kube-controller-manager"
	case strings.HasPrefix(u.Name, "system:kube-"):
		return strings.TrimPrefix(u.Name, "system:")
	}
	return "sampan"
}

// Create implements client.Client.
func (l *Local) Create(ctx context.Context, k *kind.Kind, obj kind.Object) (kind.Object, error) {
	r := l.request("create", k, obj.GetNamespace(), "", "")
	obj.GetObjectKind().SetGroupVersionKind(k.GVK)
	return recorded(l.api, r, sent{object: obj}, func(r request.Request) (kind.Object, int, error) {
		if err := l.api.Authorizer.Authorize(ctx, r); err != nil {
			return nil, 0, err
		}
		stored, err := l.api.create(ctx, r, obj)
		return stored, http.StatusCreated, err
	})
}

// Update implements client.Client.
func (l *Local) Update(ctx context.Context, k *kind.Kind, obj kind.Object, sub string) (kind.Object, error) {
	r := l.request("update", k, obj.GetNamespace(), obj.GetName(), sub)
	obj.GetObjectKind().SetGroupVersionKind(k.GVK)
	return recorded(l.api, r, sent{object: obj}, func(r request.Request) (kind.Object, int, error) {
		if err := l.api.Authorizer.Authorize(ctx, r); err != nil {
			return nil, 0, err
		}
		if err := part(r); err != nil {
			return nil, 0, err
		}
		stored, created, err := l.api.update(ctx, r, obj)
		return stored, okOrCreated(created), err
	})
}

// Patch implements client.Client.
func (l *Local) Patch(ctx context.Context, k *kind.Kind, p client.Patch) (kind.Object, error) {
	r := l.request("patch", k, p.Namespace, p.Name, p.Sub)
	r.Force = p.Force
	if p.FieldManager != "" {
		r.FieldManager = p.FieldManager
	} else if p.Type == types.ApplyYAMLPatchType {
		r.FieldManager = ""
	}
	return recorded(l.api, r, sent{patch: &p}, func(r request.Request) (kind.Object, int, error) {
		obj, created, err := l.api.Patch(ctx, r, p.Type, p.Data)
		return obj, okOrCreated(created), err
	})
}

func okOrCreated(created bool) int {
	if created {
		return http.StatusCreated
	}
	return http.StatusOK
}

// Delete implements client.Client.
func (l *Local) Delete(ctx context.Context, k *kind.Kind, namespace, name string, opts *metav1.DeleteOptions) error {
	_, err := recorded(l.api, l.request("delete", k, namespace, name, ""), sent{options: opts}, func(r request.Request) (runtime.Object, int, error) {
		answer, _, err := l.api.Delete(ctx, r, opts)
		return answer, http.StatusOK, err
	})
	return err
}

// Act implements client.Client.
func (l *Local) Act(ctx context.Context, k *kind.Kind, namespace, name, sub string, body runtime.Object) (runtime.Object, error) {
	r := l.request("create", k, namespace, name, sub)
	action, ok := k.Actions[sub]
	if ok {
		body.GetObjectKind().SetGroupVersionKind(action.GVK)
	}
	return recorded(l.api, r, sent{object: body}, func(r request.Request) (runtime.Object, int, error) {
		if err := l.api.Authorizer.Authorize(ctx, r); err != nil {
			return nil, 0, err
		}
		if !ok {
			return nil, 0, apierrors.NewMethodNotSupported(resource(r), r.Verb)
		}
		answer, err := l.api.act(ctx, r, action, body)
		return answer, http.StatusCreated, err
	})
}

// NewReader returns a reader of the store that asks nobody: for admission and
// authentication only.
func NewReader(kinds *kind.Table, s *store.Store) client.Reader {
	return reader{kinds: kinds, store: s}
}

// reader reads the store's cache.
type reader struct {
	kinds *kind.Table
	store *store.Store

	api    *API         // nil: nobody is asked, and nobody told
	user   request.User // who reads
	cached bool         // as upstream's parts do from their own memory; see WithCache
}

// ask says whether the reader may.
func (l reader) ask(ctx context.Context, r request.Request) error {
	if l.api == nil {
		return nil
	}
	r.User = l.user
	if l.cached && r.Verb == "get" {
		r.Verb, r.Name = "list", ""
	}
	return l.api.Authorizer.Authorize(ctx, r)
}

// told says whether the audit trail is to know of gets and lists.
func (l reader) told() bool { return l.api != nil && l.api.Audit != nil && !l.cached }

// Kinds implements client.Reader.
func (l reader) Kinds() *kind.Table { return l.kinds }

// Get implements client.Reader.
func (l reader) Get(ctx context.Context, k *kind.Kind, namespace, name string) (kind.Object, error) {
	r := request.Request{Verb: "get", Kind: k, GVK: k.GVK, Namespace: namespace, Name: name}
	if !l.told() {
		return l.get(ctx, r)
	}
	r.User = l.user
	return recorded(l.api, r, sent{}, func(r request.Request) (kind.Object, int, error) {
		obj, err := l.get(ctx, r)
		return obj, http.StatusOK, err
	})
}

func (l reader) get(ctx context.Context, r request.Request) (kind.Object, error) {
	if err := l.ask(ctx, r); err != nil {
		return nil, err
	}
	if obj, ok := l.store.Get(key(r, r.Name)); ok {
		return obj, nil
	}
	return nil, missing(l.store, r)
}

// List implements client.Reader.
func (l reader) List(ctx context.Context, k *kind.Kind, q client.Query) ([]kind.Object, error) {
	r := asked("list", k, q)
	if !l.told() {
		return l.list(ctx, r, q)
	}
	r.User = l.user
	all, err := recorded(l.api, r, sent{}, func(r request.Request) (listed, int, error) {
		objs, err := l.list(ctx, r, q)
		return listed{objs}, http.StatusOK, err
	})
	return all.objects, err
}

func (l reader) list(ctx context.Context, r request.Request, q client.Query) ([]kind.Object, error) {
	if err := l.ask(ctx, r); err != nil {
		return nil, err
	}
	by, err := queried(r, q)
	if err != nil {
		return nil, err
	}
	k := r.Kind
	if by.name != "" && (by.namespace != "" || k.Cluster) {
		if obj, ok := l.store.Get(key(r, by.name)); ok && by.matches(obj) {
			return []kind.Object{obj}, nil
		}
		return nil, nil
	}
	all, err := l.store.List(k, store.ListOptions{Namespace: by.namespace, Index: by.index, Value: by.value})
	if err != nil {
		return nil, failure(r, err)
	}
	return by.of(all), nil
}

// asked is a list or watch as a request: an index that is a selectable field
// narrows it down as the field selector would.
func asked(verb string, k *kind.Kind, q client.Query) request.Request {
	r := request.Request{Verb: verb, Kind: k, GVK: k.GVK, Namespace: q.Namespace, Name: q.Name, Fields: q.Fields, Labels: q.Labels}
	if q.Index != "" && q.Fields == nil && k.Fields[q.Index] != nil {
		r.Fields = fields.OneTermEqualSelector(q.Index, q.Value)
	}
	return r
}

// queried turns a Query into what lists and watches select by.
func queried(r request.Request, q client.Query) (*selected, error) {
	by := &selected{kind: r.Kind, namespace: q.Namespace, name: q.Name, labels: q.Labels}
	if r.Kind.Cluster {
		by.namespace = ""
	}
	if q.Fields != nil {
		if err := by.require(q.Fields, r.Kind.Fields); err != nil {
			return nil, err
		}
	}
	if q.Index != "" {
		values := r.Kind.Indexes[q.Index]
		if values == nil {
			return nil, apierrors.NewBadRequest("list " + r.Kind.String() + ": there is no index " + q.Index)
		}
		by.index, by.value = q.Index, q.Value
		by.fields = append(by.fields, func(obj kind.Object) bool { return slices.Contains(values(obj), q.Value) })
	}
	return by, nil
}

func (s *selected) of(l *store.List) []kind.Object {
	if s.all() {
		return l.Slice()
	}
	var all []kind.Object
	for obj := range l.All() {
		if s.matches(obj) {
			all = append(all, obj)
		}
	}
	return all
}

// Watch implements client.Reader.
func (l reader) Watch(ctx context.Context, k *kind.Kind, q client.Query) (client.Watcher, error) {
	r := asked("watch", k, q)
	if l.api == nil || l.api.Audit == nil {
		return l.watch(ctx, r, q)
	}
	r.User = l.user
	return recordedWatch(ctx, l.api, r, func(r request.Request) (client.Watcher, error) { return l.watch(ctx, r, q) })
}

func (l reader) watch(ctx context.Context, r request.Request, q client.Query) (client.Watcher, error) {
	if err := l.ask(ctx, r); err != nil {
		return nil, err
	}
	by, err := queried(r, q)
	if err != nil {
		return nil, err
	}
	f := &follower{ctx: ctx, store: l.store, by: by, request: r}
	all, cursor, err := l.store.ListAndWatch(r.Kind, f.options())
	if err != nil {
		return nil, failure(r, err)
	}
	f.cursor, f.seen = cursor, all.Revision
	for _, obj := range by.of(all) {
		f.ready = append(f.ready, client.Event{Type: client.Added, Object: obj})
	}
	f.ready = append(f.ready, client.Event{Type: client.Synced})
	context.AfterFunc(ctx, cursor.Close)
	return f, nil
}

// follower is a client.Watcher on the store's log.
type follower struct {
	ctx     context.Context // of Watch: the watch ends with it
	store   *store.Store
	by      *selected
	request request.Request
	cursor  *store.Cursor
	seen    int64
	ready   []client.Event
}

func (f *follower) options() store.ListOptions {
	return store.ListOptions{Namespace: f.by.namespace, Index: f.by.index, Value: f.by.value}
}

// Next implements client.Watcher.
func (f *follower) Next(ctx context.Context) ([]client.Event, error) {
	for {
		if err := f.ctx.Err(); err != nil {
			return nil, err
		}
		if events := f.ready; len(events) > 0 {
			f.ready = nil
			return events, nil
		}
		changes, seen, err := f.cursor.Next()
		var expired *store.Expired
		if errors.As(err, &expired) {
			if err := f.resume(ctx); err != nil {
				return nil, err
			}
			continue
		}
		var ended *store.Ended
		switch {
		case errors.As(err, &ended) && ended.Gone:
			// Who follows kinds that come and go ends this when they see it go.
			select {
			case <-f.ctx.Done():
				return nil, f.ctx.Err()
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		case errors.As(err, &ended):
			if err := f.resume(ctx); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			return nil, failure(f.request, err)
		}
		for _, c := range changes {
			if e, ok := f.by.event(c); ok {
				f.ready = append(f.ready, e)
			}
		}
		f.seen = max(f.seen, seen)
		if len(f.ready) > 0 {
			continue
		}
		select {
		case <-f.cursor.More():
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-f.ctx.Done():
			return nil, f.ctx.Err()
		}
	}
}

// event is a change as the selectors see it, with the state before.
func (s *selected) event(c *store.Event) (client.Event, bool) {
	was := c.Old != nil && s.matches(c.Old)
	if c.Type == store.Deleted {
		was = was || c.Old == nil && s.matches(c.Object)
		return client.Event{Type: client.Deleted, Object: c.Object, Old: c.Old}, was
	}
	switch is := s.matches(c.Object); {
	case is && was:
		return client.Event{Type: client.Modified, Object: c.Object, Old: c.Old}, true
	case is:
		return client.Event{Type: client.Added, Object: c.Object}, true
	case was:
		return client.Event{Type: client.Deleted, Object: c.Old, Old: c.Old}, true
	}
	return client.Event{}, false
}

// resume goes on after the log has run away: what changed meanwhile is found
// by comparing the state that was seen last, as etcd still has it, with the
// present one. If etcd has it no more, the watch fails.
func (f *follower) resume(ctx context.Context) error {
	before, err := f.store.ListAt(ctx, f.request.Kind, f.seen, store.ListOptions{Namespace: f.by.namespace})
	if err != nil {
		return failure(f.request, err)
	}
	old := map[types.NamespacedName]kind.Object{}
	for obj := range before.All() {
		if f.by.matches(obj) {
			old[types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}] = obj
		}
	}
	all, cursor, err := f.store.ListAndWatch(f.request.Kind, f.options())
	if err != nil {
		return failure(f.request, err)
	}
	f.cursor.Close()
	f.cursor, f.seen = cursor, all.Revision
	context.AfterFunc(f.ctx, cursor.Close)
	f.ready = nil
	for _, obj := range f.by.of(all) {
		name := types.NamespacedName{Namespace: obj.GetNamespace(), Name: obj.GetName()}
		was := old[name]
		delete(old, name)
		switch {
		case was == nil:
			f.ready = append(f.ready, client.Event{Type: client.Added, Object: obj})
		case was.GetUID() != obj.GetUID():
			f.ready = append(f.ready, client.Event{Type: client.Deleted, Object: was, Old: was},
				client.Event{Type: client.Added, Object: obj})
		case was.GetResourceVersion() != obj.GetResourceVersion():
			f.ready = append(f.ready, client.Event{Type: client.Modified, Object: obj, Old: was})
		}
	}
	for _, was := range old {
		f.ready = append(f.ready, client.Event{Type: client.Deleted, Object: was, Old: was})
	}
	return nil
}
