// Package event writes Event objects: what a controller, the scheduler or a
// node wants a person to read in `kubectl describe`.
//
// The same thing said again about the same object raises the count of the
// event that exists; an object that is talked about too often is muted for a
// while. Nothing waits for an event to be written, and none is worth failing
// for.
package event

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/client"
	"sampan/cluster/kind"
)

// Limits of client-go's correlator, so that users see the counts they know.
const (
	burst    = 25              // events of one object before it is muted …
	refill   = 5 * time.Minute // … and the time that earns it one more
	remember = 10 * time.Minute
	queued   = 1000 // waiting to be written; more are dropped
	known    = 4096 // objects and events remembered for counting
)

// Recorder writes events of one component. Set the exported fields, then call
// Run; Eventf may be called before, and from any goroutine.
type Recorder struct {
	Client    client.Client
	Component string // "deployment-controller", "kubelet"
	Host      string // the node's name, for events of a node
	Log       *slog.Logger

	once  sync.Once
	last  atomic.Int64 // the latest stamp in an event's name
	queue chan *corev1.Event

	// Used by Run's goroutine only.
	written map[string]seen
	budgets map[types.UID]budget
}

type seen struct {
	namespace, name string
	first, last     time.Time
	count           int32
}

type budget struct {
	tokens float64
	at     time.Time
}

// Eventf notes that something happened to obj. It never blocks. kind is
// corev1.EventTypeNormal or EventTypeWarning.
func (r *Recorder) Eventf(obj kind.Object, eventType, reason, format string, args ...any) {
	r.EventAbout(r.reference(obj), eventType, reason, format, args...)
}

// EventAbout is Eventf for an object of which only a reference is known, or a
// part of one, such as a container of a pod.
func (r *Recorder) EventAbout(ref corev1.ObjectReference, eventType, reason, format string, args ...any) {
	r.init()
	now := metav1.Now()
	namespace := ref.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	message := format
	if len(args) > 0 {
		message = fmt.Sprintf(format, args...)
	}
	const limit = 1024 // the API's limit on a message
	if len(message) > limit {
		message = message[:limit-3] + "..."
	}
	e := &corev1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s.%x", ref.Name, r.stamp(now.UnixNano()))},
		InvolvedObject:      ref,
		Type:                eventType,
		Reason:              reason,
		Message:             message,
		Source:              corev1.EventSource{Component: r.Component, Host: r.Host},
		ReportingController: r.Component,
		ReportingInstance:   r.Host,
		FirstTimestamp:      now,
		LastTimestamp:       now,
		Count:               1,
	}
	select {
	case r.queue <- e:
	default:
		r.Log.Warn("event dropped: too many are waiting", "key", ref.Namespace+"/"+ref.Name, "reason", reason)
	}
}

// stamp makes names of events unique even if two come in the same nanosecond.
func (r *Recorder) stamp(now int64) int64 {
	for {
		last := r.last.Load()
		next := max(now, last+1)
		if r.last.CompareAndSwap(last, next) {
			return next
		}
	}
}

// Run writes events until ctx ends.
func (r *Recorder) Run(ctx context.Context) {
	r.init()
	r.written, r.budgets = map[string]seen{}, map[types.UID]budget{}
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-r.queue:
			if err := r.write(ctx, e); err != nil && ctx.Err() == nil && !expected(err) {
				r.Log.Warn("event not written", "key", e.Namespace+"/"+e.InvolvedObject.Name, "reason", e.Reason, "err", err)
			}
		}
	}
}

// expected are errors that events meet in a namespace that is going away.
func expected(err error) bool {
	return apierrors.IsNotFound(err) || apierrors.IsForbidden(err) || apierrors.IsAlreadyExists(err)
}

func (r *Recorder) init() {
	r.once.Do(func() { r.queue = make(chan *corev1.Event, queued) })
}

func (r *Recorder) write(ctx context.Context, e *corev1.Event) error {
	now := e.LastTimestamp.Time
	if !r.afford(e.InvolvedObject.UID, now) {
		return nil
	}
	if len(r.written) > known {
		clear(r.written)
	}
	about := e.InvolvedObject
	about.ResourceVersion = "" // the object may have changed; what is said of it has not
	key := fmt.Sprint(about, e.Type, e.Reason, e.Message)
	if s, again := r.written[key]; again && now.Sub(s.last) < remember {
		s.count, s.last = s.count+1, now
		patch, err := json.Marshal(map[string]any{"count": s.count, "lastTimestamp": e.LastTimestamp})
		if err != nil {
			return err
		}
		_, err = r.Client.Patch(ctx, client.KindOf[*corev1.Event](r.Client), client.Patch{
			Namespace: s.namespace, Name: s.name, Type: types.MergePatchType, Data: patch})
		if err == nil {
			r.written[key] = s
			return nil
		}
		if !apierrors.IsNotFound(err) {
			return err
		}
	}
	if _, err := client.Create(ctx, r.Client, e); err != nil {
		return err
	}
	r.written[key] = seen{namespace: e.Namespace, name: e.Name, first: now, last: now, count: 1}
	return nil
}

// afford takes a token of the object's budget.
func (r *Recorder) afford(uid types.UID, now time.Time) bool {
	if len(r.budgets) > known {
		clear(r.budgets)
	}
	b, ok := r.budgets[uid]
	if !ok {
		b = budget{tokens: burst, at: now}
	}
	b.tokens = min(burst, b.tokens+now.Sub(b.at).Seconds()/refill.Seconds())
	b.at = now
	enough := b.tokens >= 1
	if enough {
		b.tokens--
	}
	r.budgets[uid] = b
	return enough
}

func (r *Recorder) reference(obj kind.Object) corev1.ObjectReference {
	ref := corev1.ObjectReference{
		Namespace: obj.GetNamespace(), Name: obj.GetName(),
		UID: obj.GetUID(), ResourceVersion: obj.GetResourceVersion(),
	}
	if k := r.Client.Kinds().ByType(reflect.TypeOf(obj)); k != nil {
		ref.APIVersion, ref.Kind = k.GVK.ToAPIVersionAndKind()
	}
	return ref
}
