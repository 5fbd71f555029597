package store

import (
	"sync"
	"sync/atomic"
	"time"
)

// encodings are the forms in which an event was sent, made once each.
type encodings struct {
	of *frames // set before the event is handed out

	mu    sync.Mutex // guards all below
	forms []*encoded // few, and looked for more often than made
}

// encoded is one form.
type encoded struct {
	key  string
	once sync.Once
	data []byte
	made atomic.Bool // data may be read
}

// maxEncodings bounds the forms kept of one event; further ones are made each
// time they are asked for.
const maxEncodings = 8

// Made returns what Encoded has returned for key; nil if that was not asked for
// yet, or some time ago.
func (e *Event) Made(key string) []byte {
	if f := e.enc.find(key); f != nil && f.made.Load() {
		return f.data
	}
	return nil
}

// Encoded returns what make returns, called once per key for all watchers that
// ask for it within some seconds. key says everything that the bytes depend
// on: media type, version, what of the object is sent. The bytes are shared.
func (e *Event) Encoded(key string, make func() []byte) []byte {
	f, first := e.enc.findOrAdd(key)
	f.once.Do(func() {
		f.data = make()
		f.made.Store(true)
	})
	if first && e.enc.of != nil {
		e.enc.of.made(&e.enc, len(f.data))
	}
	return f.data
}

func (e *encodings) find(key string) *encoded {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.findLocked(key)
}

func (e *encodings) findLocked(key string) *encoded {
	for _, f := range e.forms {
		if f.key == key {
			return f
		}
	}
	return nil
}

func (e *encodings) findOrAdd(key string) (f *encoded, added bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if f = e.findLocked(key); f != nil {
		return f, false
	}
	f = &encoded{key: key}
	if len(e.forms) < maxEncodings {
		e.forms = append(e.forms, f)
	}
	return f, true
}

// forget drops the forms; who is sending one goes on.
func (e *encodings) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forms = nil
}

// frames bounds the forms of events that are kept, in bytes and in time. All
// watchers send an event at nearly the same time, while the log keeps it for
// minutes: of a large object the forms would be more than the object. They are
// in two generations; the older one goes when the younger one is full, or after
// a while in which the younger one was not. Nothing runs when there are none.
// It is safe for concurrent use, and takes no other lock with its own held.
type frames struct {
	mu         sync.Mutex // guards all below
	young, old []*encodings
	bytes      int         // of young
	timer      *time.Timer // nil: there are none
	over       bool
}

const (
	framesAge   = 5 * time.Second // after twice this a form is gone
	framesBytes = 16 << 20        // of one generation
)

// made takes note of a further form of e.
func (f *frames) made(e *encodings, size int) {
	for _, gone := range f.note(e, size) {
		gone.forget()
	}
}

func (f *frames) note(e *encodings, size int) (gone []*encodings) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.young = append(f.young, e)
	f.bytes += size
	if f.bytes > framesBytes {
		gone = f.turnLocked()
	}
	if f.timer == nil && !f.over {
		f.timer = time.AfterFunc(framesAge, f.age)
	}
	return gone
}

// turnLocked makes the young ones old and returns those that were.
func (f *frames) turnLocked() (gone []*encodings) {
	gone, f.old, f.young, f.bytes = f.old, f.young, nil, 0
	return gone
}

func (f *frames) age() {
	f.mu.Lock()
	gone := f.turnLocked()
	f.timer = nil
	if len(f.old) > 0 && !f.over {
		f.timer = time.AfterFunc(framesAge, f.age)
	}
	f.mu.Unlock()
	for _, e := range gone {
		e.forget()
	}
}

// stop ends the timer for good.
func (f *frames) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.over = true
	if f.timer != nil {
		f.timer.Stop()
		f.timer = nil
	}
}
