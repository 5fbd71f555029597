// Package clienttest has a client.Client in memory, for tests of whatever uses
// one: controllers, the scheduler, the node.
//
// Fake keeps the API's promises that such code relies on (revisions and
// conflicts, generation, status split, finalizers, grace, watches in order) by
// the same kinds as the server. It knows no admission and no authorization,
// and validates only if asked to.
package clienttest

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/kind"
)

// Fake is a client.Client. The exported fields are set before its first use.
type Fake struct {
	// Before is called before every call that comes through the Client, without
	// a lock held; an error is what the caller gets instead of the action. It
	// may use Put and Drop, to be the one who was faster.
	Before func(Action) error

	// Validate has writes checked by Kind.Validate.
	Validate bool

	// Acts answers actions that have no Do in their kind, by "pods/token".
	// Without an entry "eviction" deletes.
	Acts map[string]func(obj kind.Object, body runtime.Object) (runtime.Object, error)

	kinds *kind.Table

	mu       sync.Mutex // guards all below
	revision int64
	objects  map[name]stored
	watchers map[*watcher]struct{}
	actions  []Action
	written  []string // shared objects that somebody wrote to
}

var _ client.Client = (*Fake)(nil)

// Action is one call. Object is what was asked to be written, a copy.
type Action struct {
	Verb            string // as RBAC names them: "create", "get", "list", "watch", "update", "patch", "delete"
	Kind            *kind.Kind
	Namespace, Name string
	Sub             string
	Object          kind.Object           // create, update
	Patch           *client.Patch         // patch
	Options         *metav1.DeleteOptions // delete; nil as given
	Body            runtime.Object        // of a subresource of another kind; the verb is create
	Query           client.Query          // list, watch
}

// String is the action in one line: "update deployments.apps/status default/web".
func (a Action) String() string {
	s := a.Verb + " " + a.Kind.String()
	if a.Sub != "" {
		s += "/" + a.Sub
	}
	if a.Namespace != "" || a.Name != "" {
		s += " " + strings.TrimPrefix(a.Namespace+"/"+a.Name, "/")
	}
	return s
}

type name struct{ prefix, namespace, name string }

type stored struct {
	kind *kind.Kind
	obj  kind.Object
	hash uint64
}

// New returns a Fake that holds objs as they are, status included; what the
// server would have set (uid, creationTimestamp, generation, revision) is
// filled in, and they are defaulted. At the end of the test it fails if
// somebody wrote to a shared object. t may be nil.
func New(t testing.TB, kinds *kind.Table, objs ...kind.Object) *Fake {
	f := &Fake{kinds: kinds, revision: 1, objects: map[name]stored{}, watchers: map[*watcher]struct{}{}}
	for _, o := range objs {
		f.Put(o)
	}
	if t != nil {
		t.Helper()
		t.Cleanup(func() {
			for _, w := range f.Shared() {
				t.Errorf("%s was written to although it is shared: DeepCopy it first", w)
			}
		})
	}
	return f
}

// Put stores obj, new or instead of the one of its name, without checks and
// without an Action: somebody else's write. obj is copied. It panics if obj is
// of no kind in the table.
func (f *Fake) Put(obj kind.Object) kind.Object {
	k := f.kindOf(obj)
	obj = obj.DeepCopyObject().(kind.Object)
	f.mu.Lock()
	defer f.mu.Unlock()
	k.Default(obj)
	stamp(k, obj)
	return f.putLocked(k, obj)
}

// Drop removes an object at once, finalizers or not; somebody else's delete.
// False if there is none.
func (f *Fake) Drop(k *kind.Kind, namespace, objName string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dropLocked(name{k.Prefix, namespace, objName}) != nil
}

// Actions returns the writes so far, those that failed included.
func (f *Fake) Actions() []Action {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.actions)
}

// Forget empties Actions.
func (f *Fake) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.actions = nil
}

// Shared names the objects that were written to although they were shared.
func (f *Fake) Shared() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for n, s := range f.objects {
		f.unchangedLocked(n, s)
	}
	slices.Sort(f.written)
	return slices.Compact(f.written)
}

// Kinds is the table given to New.
func (f *Fake) Kinds() *kind.Table { return f.kinds }

// Get returns one object, shared.
func (f *Fake) Get(ctx context.Context, k *kind.Kind, namespace, objName string) (kind.Object, error) {
	if err := f.before(ctx, Action{Verb: "get", Kind: k, Namespace: namespace, Name: objName}); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.objects[name{k.Prefix, namespace, objName}]
	if !ok {
		return nil, apierrors.NewNotFound(k.GroupResource(), objName)
	}
	return s.obj, nil
}

// List returns the objects that match, shared, by namespace and name.
func (f *Fake) List(ctx context.Context, k *kind.Kind, q client.Query) ([]kind.Object, error) {
	if err := f.before(ctx, Action{Verb: "list", Kind: k, Namespace: q.Namespace, Query: q}); err != nil {
		return nil, err
	}
	match, err := matcher(k, q)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.listLocked(k, match), nil
}

func (f *Fake) listLocked(k *kind.Kind, match func(kind.Object) bool) []kind.Object {
	var all []kind.Object
	for n, s := range f.objects {
		if n.prefix == k.Prefix && match(s.obj) {
			all = append(all, s.obj)
		}
	}
	slices.SortFunc(all, func(a, b kind.Object) int {
		if c := strings.Compare(a.GetNamespace(), b.GetNamespace()); c != 0 {
			return c
		}
		return strings.Compare(a.GetName(), b.GetName())
	})
	return all
}

// Watch follows the objects that match.
func (f *Fake) Watch(ctx context.Context, k *kind.Kind, q client.Query) (client.Watcher, error) {
	if err := f.before(ctx, Action{Verb: "watch", Kind: k, Namespace: q.Namespace, Query: q}); err != nil {
		return nil, err
	}
	match, err := matcher(k, q)
	if err != nil {
		return nil, err
	}
	w := &watcher{fake: f, ctx: ctx, prefix: k.Prefix, match: match, more: make(chan struct{}, 1)}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range f.listLocked(k, match) {
		w.queue = append(w.queue, client.Event{Type: client.Added, Object: o})
	}
	w.queue = append(w.queue, client.Event{Type: client.Synced})
	f.watchers[w] = struct{}{}
	context.AfterFunc(ctx, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers, w)
	})
	return w, nil
}

// watcher is a client.Watcher. Fake.mu guards queue.
type watcher struct {
	fake   *Fake
	ctx    context.Context // a Watch ends with the context it was made with
	prefix string
	match  func(kind.Object) bool
	more   chan struct{}
	queue  []client.Event
}

func (w *watcher) Next(ctx context.Context) ([]client.Event, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := w.ctx.Err(); err != nil {
			return nil, err
		}
		w.fake.mu.Lock()
		events := w.queue
		w.queue = nil
		w.fake.mu.Unlock()
		if len(events) > 0 {
			return events, nil
		}
		select {
		case <-w.more:
		case <-ctx.Done():
		case <-w.ctx.Done():
		}
	}
}

// sendLocked tells watchers how a change looks through their queries.
func (f *Fake) sendLocked(prefix string, old, now, last kind.Object) {
	for w := range f.watchers {
		if w.prefix != prefix {
			continue
		}
		was, is := old != nil && w.match(old), now != nil && w.match(now)
		switch {
		case was && is:
			w.queue = append(w.queue, client.Event{Type: client.Modified, Object: now, Old: old})
		case is:
			w.queue = append(w.queue, client.Event{Type: client.Added, Object: now})
		case was && now != nil: // it stopped to match
			w.queue = append(w.queue, client.Event{Type: client.Deleted, Object: old, Old: old})
		case was:
			w.queue = append(w.queue, client.Event{Type: client.Deleted, Object: last, Old: old})
		default:
			continue
		}
		select {
		case w.more <- struct{}{}:
		default:
		}
	}
}

func (f *Fake) putLocked(k *kind.Kind, obj kind.Object) kind.Object {
	f.revision++
	obj.SetResourceVersion(strconv.FormatInt(f.revision, 10))
	n := name{k.Prefix, obj.GetNamespace(), obj.GetName()}
	old := f.objects[n]
	f.unchangedLocked(n, old)
	f.objects[n] = stored{k, obj, hash(obj)}
	f.sendLocked(k.Prefix, old.obj, obj, obj)
	return obj
}

func (f *Fake) dropLocked(n name) kind.Object {
	old, ok := f.objects[n]
	if !ok {
		return nil
	}
	f.unchangedLocked(n, old)
	delete(f.objects, n)
	f.revision++
	last := old.obj.DeepCopyObject().(kind.Object)
	last.SetResourceVersion(strconv.FormatInt(f.revision, 10))
	f.sendLocked(n.prefix, old.obj, nil, last)
	return last
}

func (f *Fake) unchangedLocked(n name, s stored) {
	if s.obj != nil && hash(s.obj) != s.hash {
		f.written = append(f.written, fmt.Sprintf("%s %s/%s", s.kind, n.namespace, n.name))
	}
}

func hash(obj kind.Object) uint64 {
	h := fnv.New64a()
	if err := json.NewEncoder(h).Encode(obj); err != nil {
		panic("clienttest: " + err.Error()) // an object that is no JSON can be in no API
	}
	return h.Sum64()
}

func (f *Fake) kindOf(obj kind.Object) *kind.Kind {
	if k := f.kinds.ByType(reflect.TypeOf(obj)); k != nil {
		return k
	}
	if k := f.kinds.ByGVK(obj.GetObjectKind().GroupVersionKind()); k != nil {
		return k
	}
	panic(fmt.Sprintf("clienttest: no kind is declared for %T", obj))
}

// before records writes and asks the test whether the action may go on.
func (f *Fake) before(ctx context.Context, a Action) error {
	switch a.Verb {
	case "get", "list", "watch":
	default:
		f.mu.Lock()
		f.actions = append(f.actions, a)
		f.mu.Unlock()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if f.Before != nil {
		return f.Before(a)
	}
	return nil
}

// matcher is q as a function.
func matcher(k *kind.Kind, q client.Query) (func(kind.Object) bool, error) {
	var index func(kind.Object) []string
	if q.Index != "" {
		if index = k.Indexes[q.Index]; index == nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("%s has no index %q", k, q.Index))
		}
	}
	byField := func(kind.Object) fields.Set { return nil }
	if q.Fields != nil {
		for _, r := range q.Fields.Requirements() {
			if r.Field != "metadata.name" && r.Field != "metadata.namespace" && k.Fields[r.Field] == nil {
				return nil, apierrors.NewBadRequest("field label not supported: " + r.Field)
			}
		}
		byField = func(o kind.Object) fields.Set {
			set := fields.Set{"metadata.name": o.GetName(), "metadata.namespace": o.GetNamespace()}
			for name, value := range k.Fields {
				set[name] = value(o)
			}
			return set
		}
	}
	return func(o kind.Object) bool {
		return (q.Namespace == "" || o.GetNamespace() == q.Namespace) &&
			(q.Name == "" || o.GetName() == q.Name) &&
			(index == nil || slices.Contains(index(o), q.Value)) &&
			(q.Labels == nil || q.Labels.Matches(labels.Set(o.GetLabels()))) &&
			(q.Fields == nil || q.Fields.Matches(byField(o)))
	}, nil
}

// isPatch lists what Patch knows, for its error.
var isPatch = []types.PatchType{types.JSONPatchType, types.MergePatchType, types.StrategicMergePatchType, types.ApplyPatchType}
