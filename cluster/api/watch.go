package api

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"sampan/cluster/kind"
	"sampan/cluster/object"
	"sampan/cluster/request"
	"sampan/cluster/verb"
	"sampan/internal/counted"
)

// watch streams events until the client leaves, the time is over, the server
// ends, or the watch cannot go on.
func (c *call) watch(r request.Request, q url.Values) {
	offer := c.offer(r)
	offer.yamlOff = true
	a, err := negotiate(c.r, offer)
	var o metav1.ListOptions
	if err == nil {
		o, err = listOptions(q)
	}
	if err == nil && r.Name != "" { // by the deprecated prefix
		o.FieldSelector, err = only(r.Name, o.FieldSelector)
	}
	if err != nil {
		c.refuse(r, err)
		return
	}
	r.Name = ""
	topts, err := tableOptions(q)
	if err != nil {
		c.fail(err)
		return
	}
	ctx, end := c.lasting()
	defer end()
	w, err := c.s.cfg.Verbs.Watch(ctx, r, o)
	if err != nil && !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
		c.fail(err)
		return
	}
	if wsstream.IsWebSocketRequest(c.r) {
		c.watchSocket(ctx, a.mediaType, func(ctx context.Context) { c.events(ctx, newEventWriter(c, r, a, topts).alone(), w, o, err) })
		return
	}
	c.events(ctx, newEventWriter(c, r, a, topts), w, o, err)
}

// events sends those of w until ctx ends, the time is over, or the watch cannot
// go on; none, if it could not begin.
func (c *call) events(ctx context.Context, e *eventWriter, w *verb.Watch, o metav1.ListOptions, expired error) {
	defer e.patience.end()
	lasts := c.s.cfg.Limits.Watch + rand.N(c.s.cfg.Limits.Watch)
	if o.TimeoutSeconds != nil && *o.TimeoutSeconds != 0 { // less than none is over at once
		lasts = time.Duration(*o.TimeoutSeconds) * time.Second
	}
	contentType := e.a.mediaType
	if contentType != object.JSON {
		contentType += ";stream=watch"
	}
	c.w.Header().Set("Content-Type", contentType)
	c.code = http.StatusOK
	c.w.WriteHeader(http.StatusOK)
	if expired != nil {
		e.fail(expired) // upstream: what cannot be resumed is an event of a watch
		return
	}
	defer w.Close()
	if e.control.Flush() != nil {
		return
	}
	if w.Initial() == 0 {
		c.settled()
	}
	over := c.s.cfg.Now().Add(lasts)
	quiet := c.s.cfg.Now() // since then nothing was sent
	due := func() time.Time {
		if b := quiet.Add(c.s.cfg.BookmarkEvery); o.AllowWatchBookmarks && b.Before(over) {
			return b
		}
		return over
	}
	timer := time.NewTimer(due().Sub(quiet))
	defer timer.Stop()
	for p := (pace{waiting: &c.s.long.paced}); ; {
		events, err := w.Poll(e.events[:0])
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, verb.ErrEnded) {
				e.fail(err)
			}
			return
		}
		if e.events = events; len(events) > 0 {
			if e.write(events) != nil {
				return
			}
			c.settled()
			quiet = c.s.cfg.Now()
			if !p.wait(ctx, quiet) {
				return
			}
			continue
		}
		select {
		case <-w.More():
		case <-ctx.Done():
			return
		case <-timer.C: // it is not set anew for each event, so that it may come too soon
			now := c.s.cfg.Now()
			switch until := due(); {
			case now.Before(until):
			case until.Equal(over):
				return
			default:
				if e.write([]verb.WatchEvent{w.Bookmark()}) != nil {
					return
				}
				quiet = now
			}
			timer.Reset(due().Sub(now))
		}
	}
}

// only narrows a selector of fields down to the object that the path names.
func only(name, selector string) (string, error) {
	if selector != "" {
		f, err := fields.ParseSelector(selector)
		if err != nil {
			return "", apierrors.NewBadRequest(err.Error())
		}
		if selected, ok := f.RequiresExactMatch("metadata.name"); !f.Empty() && (!ok || selected != name) {
			return "", apierrors.NewBadRequest("fieldSelector metadata.name doesn't match requested name")
		} else if ok {
			return selector, nil
		}
	}
	return fields.OneTermEqualSelector("metadata.name", name).String(), nil
}

// eventWriter frames events for one watcher.
type eventWriter struct {
	c        *call
	r        request.Request
	a        accepted
	options  metav1.TableOptions
	headed   bool // the first table has the columns, the others rows only
	control  *http.ResponseController
	patience *patience
	together int               // bytes that are written at once, at most
	form     string            // what the encoding depends on, but for the type of the event
	keys     map[string]string // by type
	sent     *counted.Values   // for metrics
	events   []verb.WatchEvent // room for what is written
}

func newEventWriter(c *call, r request.Request, a accepted, options metav1.TableOptions) *eventWriter {
	control := http.NewResponseController(c.w)
	return &eventWriter{c: c, r: r, a: a, options: options, control: control, patience: newPatience(c, control), together: atOnce,
		form: a.mediaType + "|" + a.as + a.version + "|" + r.GVK.Version + "|" + r.GVK.Group + "|" + r.Subresource + "|",
		keys: make(map[string]string, 3), sent: c.s.metrics.eventsOf(r)}
}

// alone has each event written by itself.
func (e *eventWriter) alone() *eventWriter {
	e.together = 0
	return e
}

// atOnce is how much is written together: each piece is some messages between
// the goroutines of the connection.
const atOnce = 32 << 10

// keepEvents bounds the room for events that a watch keeps.
const keepEvents = 64

// write sends events and flushes once. An error means that the client is
// gone or too slow; or that an event could not be encoded, which was said.
func (e *eventWriter) write(events []verb.WatchEvent) error {
	defer e.patience.stop()
	defer func() {
		clear(events) // the room for them must not keep objects
		if cap(events) > keepEvents {
			e.events = nil
		}
	}()
	var many []byte
	if len(events) > 1 {
		b := buffers.Get().(*[]byte)
		many = (*b)[:0]
		defer func() { release(b, many) }()
	}
	for i := range events {
		frame, err := e.frame(&events[i])
		if err != nil {
			e.put(many)
			e.fail(err)
			return err
		}
		e.sent.Add(int64(len(frame)))
		if len(events) > 1 && len(many)+len(frame) <= e.together {
			many = append(many, frame...)
			continue
		}
		if err := e.put(many); err != nil {
			return err
		}
		many = many[:0]
		if err := e.put(frame); err != nil {
			return err
		}
	}
	if err := e.put(many); err != nil {
		return err
	}
	e.patience.start()
	return e.control.Flush()
}

// put sends what was made of events.
func (e *eventWriter) put(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	e.patience.start() // again for each: many may take long
	_, err := e.c.w.Write(data)
	return err
}

// frame is an event as it goes over the wire. All watchers of the same form
// share one encoding, but for tables, whose ages differ.
func (e *eventWriter) frame(ev *verb.WatchEvent) ([]byte, error) {
	if e.a.as == "Table" || ev.Type == "BOOKMARK" {
		return e.encode(ev)
	}
	key, ok := e.keys[string(ev.Type)]
	if !ok {
		key = e.form + string(ev.Type)
		e.keys[string(ev.Type)] = key
	}
	if data := ev.Made(key); data != nil {
		return data, nil // as for all watchers but the first
	}
	return e.firstFrame(ev, key)
}

func (e *eventWriter) firstFrame(ev *verb.WatchEvent, key string) ([]byte, error) {
	var failed error
	data := ev.Encoded(key, func() []byte {
		data, err := e.encode(ev)
		failed = err
		return data
	})
	if failed == nil && len(data) == 0 {
		return e.encode(ev) // another watcher's attempt failed: find out why
	}
	return data, failed
}

func (e *eventWriter) encode(ev *verb.WatchEvent) ([]byte, error) {
	obj, err := e.object(ev)
	if err != nil {
		return nil, err
	}
	data, err := e.c.s.codec.Encode(nil, obj, e.a.mediaType)
	if err != nil {
		return nil, err
	}
	return frame(string(ev.Type), data, e.a.mediaType)
}

// object is what goes into the event, in the form asked for.
func (e *eventWriter) object(ev *verb.WatchEvent) (runtime.Object, error) {
	hub := ev.Object
	if ev.Type == "BOOKMARK" {
		if hub = e.r.Kind.New(); hub == nil {
			return nil, errPanic
		}
		hub.GetObjectKind().SetGroupVersionKind(e.r.Kind.GVK)
		if ev.InitialEventsEnd {
			hub.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
		}
	}
	if hub.GetResourceVersion() != ev.ResourceVersion && ev.ResourceVersion != "" {
		hub = hub.DeepCopyObject().(kind.Object)
		hub.SetResourceVersion(ev.ResourceVersion)
	}
	switch e.a.as {
	case "Table":
		objs := []kind.Object{hub}
		t, err := e.c.s.table(e.a, e.r, e.options, objs, metav1.ListMeta{ResourceVersion: hub.GetResourceVersion()}, !e.headed)
		e.headed = true
		return t, err
	case "PartialObjectMetadata":
		return partial(hub, e.a.version), nil
	}
	return object.As(e.r.Kind, hub, e.r.GVK)
}

// fail ends the stream with an ERROR event.
func (e *eventWriter) fail(err error) {
	status := statusOf(err)
	data, err := e.c.s.codec.Encode(nil, &status, e.a.mediaType)
	if err != nil {
		return
	}
	if f, err := frame("ERROR", data, e.a.mediaType); err == nil {
		e.c.w.Write(f)
		e.control.Flush()
	}
}

// frame wraps an encoded object into a watch event. JSON events end with a
// newline; protobuf ones are a length of four bytes, big endian, and a
// WatchEvent without the k8s prefix, whose object has it. (Upstream:
// serializer/json/json.go and protobuf.go, LengthDelimitedFramer.)
func frame(typ string, obj []byte, mediaType string) ([]byte, error) {
	if mediaType == object.Protobuf {
		ev := metav1.WatchEvent{Type: typ, Object: runtime.RawExtension{Raw: obj}}
		size := ev.Size()
		data := make([]byte, 4+size)
		binary.BigEndian.PutUint32(data, uint32(size))
		_, err := ev.MarshalToSizedBuffer(data[4:])
		return data, err
	}
	for len(obj) > 0 && obj[len(obj)-1] == '\n' {
		obj = obj[:len(obj)-1]
	}
	const before, between, after = `{"type":"`, `","object":`, "}\n"
	data := make([]byte, 0, len(before)+len(typ)+len(between)+len(obj)+len(after))
	data = append(data, before...)
	data = append(data, typ...)
	data = append(data, between...)
	data = append(data, obj...)
	return append(data, after...), nil
}
