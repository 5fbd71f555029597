package api

import (
	"io"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/kind"
	"sampan/cluster/object"
	"sampan/cluster/request"
)

// longList is from how many objects on a list is worth to be sent by two: one
// encodes what the other writes.
const longList = 64

// sendLongList answers with a list whose parts are kept for a while, and made
// while others are on their way.
func (c *call) sendLongList(a accepted, r request.Request, meta metav1.ListMeta, objs []kind.Object) {
	out := c.stream(http.StatusOK, a.mediaType)
	w := writeBehind(out)
	defer w.end() // also after a panic
	err := c.longList(w, a, r, meta, objs)
	if failed := w.end(); err == nil {
		err = failed
	}
	if err != nil {
		out.abandon(err)
		return
	}
	out.Close()
}

func (c *call) longList(w *behind, a accepted, r request.Request, meta metav1.ListMeta, objs []kind.Object) error {
	l, err := c.s.codec.Listing(r.Kind, r.GVK, a.mediaType)
	if err != nil {
		return err
	}
	if objs, err = object.AllAs(r.Kind, objs, r.GVK); err != nil {
		return err
	}
	m := &maker{listing: l}
	if r.Kind.Custom == nil { // what others convert may come out another way
		m.pieces, m.form = &c.s.pieces, c.s.pieces.number(form{r.Kind, r.GVK, a.mediaType})
	}
	stretches := []stretch{{rest: objs}}
	if l.Sized() {
		if stretches, err = m.stretches(objs); err != nil {
			return err
		}
	}
	size := 0
	for _, s := range stretches {
		size += s.size
	}
	head, err := l.Head(nil, meta, size)
	if err != nil {
		return err
	}
	w.write(head)
	skip := len(l.Between()) // before the first
	for _, s := range stretches {
		for _, data := range s.made {
			w.write(data[skip:])
			skip = 0
		}
		if skip, err = m.stream(w, s.rest, skip); err != nil {
			return err
		}
	}
	w.write(l.End(nil))
	return nil
}

// stream writes items as they are encoded.
func (m *maker) stream(w *behind, items []kind.Object, skip int) (int, error) {
	var scratch []byte
	for len(items) > 0 && !w.failed.Load() {
		var data []byte
		var n int
		var err error
		if m.full() {
			if data, n, err = m.encode(w.room(), items); err != nil {
				return skip, err
			}
			w.lend(data, skip)
		} else {
			if data, n, scratch, err = m.next(items, scratch); err != nil {
				return skip, err
			}
			w.write(data[skip:])
		}
		items, skip = items[n:], 0
	}
	return skip, nil
}

// stretch is a part of a list whose size is known: pieces, and objects behind
// them of which none are kept.
type stretch struct {
	made [][]byte
	rest []kind.Object
	size int // of both
}

// stretches finds out how long a list will be, as protobuf has it before its
// first byte, on all cores.
func (m *maker) stretches(objs []kind.Object) ([]stretch, error) {
	all := make([]stretch, min(runtime.GOMAXPROCS(0), 1+len(objs)/(4*pieceItems)))
	errs := make([]error, len(all))
	panics := make([]any, len(all))
	var others sync.WaitGroup
	for i := range all {
		part := objs[len(objs)*i/len(all) : len(objs)*(i+1)/len(all)]
		if i == len(all)-1 {
			all[i], errs[i] = m.stretch(part)
			break
		}
		others.Go(func() {
			defer func() { panics[i] = recover() }()
			all[i], errs[i] = m.stretch(part)
		})
	}
	others.Wait()
	for i := range all {
		if panics[i] != nil {
			panic(panics[i]) // where ServeHTTP sees it
		}
		if errs[i] != nil {
			return nil, errs[i]
		}
	}
	return all, nil
}

func (m *maker) stretch(objs []kind.Object) (s stretch, err error) {
	var scratch, data []byte
	for len(objs) > 0 && !m.full() {
		var n int
		if data, n, scratch, err = m.next(objs, scratch); err != nil {
			return s, err
		}
		s.made, s.size, objs = append(s.made, data), s.size+len(data), objs[n:]
	}
	s.rest = objs
	size, err := m.listing.Size(objs)
	s.size += size
	return s, err
}

// behind writes what it is given in a goroutine of its own, so that what comes
// next can be made meanwhile. All but that goroutine is for one caller.
type behind struct {
	to     io.Writer
	todo   chan buffer
	rooms  chan []byte // that were written and may be used again
	done   chan struct{}
	ended  bool
	failed atomic.Bool
	err    error // before done
}

// buffer is what is to be written.
type buffer struct {
	data []byte
	room []byte // what data is a part of, to be used again; nil: data is shared
}

const aheadOfWriter = 4 // buffers

func writeBehind(to io.Writer) *behind {
	w := &behind{to: to, todo: make(chan buffer, aheadOfWriter), rooms: make(chan []byte, aheadOfWriter+2), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		for b := range w.todo {
			if w.err == nil {
				if w.err = w.put(b.data); w.err != nil {
					w.failed.Store(true)
				}
			}
			if b.room != nil {
				select {
				case w.rooms <- b.room:
				default:
				}
			}
		}
	}()
	return w
}

func (w *behind) put(data []byte) (err error) {
	defer func() {
		if recover() != nil {
			err = errPanic
		}
	}()
	_, err = w.to.Write(data)
	return err
}

// write has data, which is never changed, written.
func (w *behind) write(data []byte) { w.todo <- buffer{data: data} }

// lend has what is in room written but for the first bytes, and then room used
// again.
func (w *behind) lend(room []byte, skip int) { w.todo <- buffer{data: room[skip:], room: room} }

// room is one that was lent, or nil.
func (w *behind) room() []byte {
	select {
	case b := <-w.rooms:
		return b
	default:
		return nil
	}
}

// end waits until all is written, and returns what went wrong. It may be called
// twice.
func (w *behind) end() error {
	if !w.ended {
		w.ended = true
		close(w.todo)
	}
	<-w.done
	return w.err
}
