package api

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/kind"
	"sampan/cluster/object"
)

// pieces keeps for some seconds how parts of long lists were encoded: clients
// that list the same do so at nearly the same time (when a server is there
// again, when a program starts that has many watches), and of what they list
// little has changed. A piece is of some objects that follow each other in a
// list; it is used again where the very same objects do so, whatever comes
// before and after, and whoever lists. Pieces are in two generations, as the
// frames of events are: the older one goes when the younger one is full, or
// after a while. Nothing runs when there are none. It is safe for concurrent use.
type pieces struct {
	most int // bytes of one generation, and of one list

	mu         sync.Mutex // guards all below
	forms      map[form]int
	young, old map[pieceKey]*piece
	bytes      int         // of young
	timer      *time.Timer // nil: there are none
}

// form is what an object's encoding depends on beside the object.
type form struct {
	kind      *kind.Kind
	gvk       schema.GroupVersionKind
	mediaType string
}

type pieceKey struct {
	form  int
	first kind.Object
}

// piece is what was made of some objects. It is never changed.
type piece struct {
	of   []kind.Object // shared; held, so that nothing else comes to be at their addresses
	data []byte        // with what separates two objects before each
}

const (
	piecesAge   = 5 * time.Second // after twice this a piece is gone
	piecesBytes = 32 << 20        // the most of a server
	pieceBytes  = 64 << 10        // about as large is one
	pieceItems  = 64              // of no more objects than these
)

// number of a form, which is quicker to look up.
func (p *pieces) number(f form) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n, ok := p.forms[f]
	if !ok {
		if p.forms == nil {
			p.forms, p.young = map[form]int{}, map[pieceKey]*piece{}
		}
		n = len(p.forms) // there are as many as kinds have versions
		p.forms[f] = n
	}
	return n
}

// find returns the piece that items begin with; nil if there is none, and then
// how many of them would be one: up to where the next known one begins.
func (p *pieces) find(form int, items []kind.Object) (*piece, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := pieceKey{form, items[0]}
	known, young := p.young[key]
	if !young {
		known = p.old[key]
	}
	if known != nil && len(known.of) <= len(items) && slices.Equal(known.of, items[:len(known.of)]) {
		if !young {
			delete(p.old, key)
			p.addLocked(key, known)
		}
		return known, len(known.of)
	}
	n := 1
	for n < min(len(items), pieceItems) && !p.beginsLocked(pieceKey{form, items[n]}) {
		n++
	}
	return nil, n
}

func (p *pieces) beginsLocked(key pieceKey) bool {
	_, young := p.young[key]
	if young {
		return true
	}
	_, old := p.old[key]
	return old
}

func (p *pieces) keep(form int, made *piece) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.addLocked(pieceKey{form, made.of[0]}, made)
	if p.timer == nil {
		p.timer = time.AfterFunc(piecesAge, p.age)
	}
}

func (p *pieces) addLocked(key pieceKey, made *piece) {
	if p.bytes+len(made.data) > p.most {
		p.turnLocked()
	}
	if have := p.young[key]; have != nil {
		p.bytes -= len(have.data)
	}
	p.young[key] = made
	p.bytes += len(made.data)
}

// turnLocked makes the young ones old and forgets those that were.
func (p *pieces) turnLocked() {
	p.old, p.young, p.bytes = p.young, map[pieceKey]*piece{}, 0
}

func (p *pieces) age() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turnLocked()
	p.timer = nil
	if len(p.old) > 0 {
		p.timer = time.AfterFunc(piecesAge, p.age)
	}
}

// maker makes the pieces of one list.
type maker struct {
	pieces  *pieces // nil: none are kept
	listing *object.Listing
	form    int
	made    atomic.Int64 // bytes, those that were there already included
}

// full says that no more is to be kept of this list.
func (m *maker) full() bool { return m.pieces == nil || m.made.Load() > int64(m.pieces.most) }

// next returns the encoding of the first of items, and of how many, kept for
// the next who asks. scratch is room to encode in, and returned.
func (m *maker) next(items []kind.Object, scratch []byte) (data []byte, n int, room []byte, err error) {
	known, n := m.pieces.find(m.form, items)
	if known == nil {
		if scratch, n, err = m.encode(scratch, items[:n]); err != nil {
			return nil, n, scratch, err
		}
		known = &piece{of: slices.Clone(items[:n]), data: bytes.Clone(scratch)}
		m.pieces.keep(m.form, known)
	}
	m.made.Add(int64(len(known.data)))
	return known.data, n, scratch, nil
}

// encode is next without keeping: in room, from its beginning.
func (m *maker) encode(room []byte, items []kind.Object) ([]byte, int, error) {
	if room == nil {
		room = make([]byte, 0, pieceBytes+pieceBytes/2)
	}
	return m.listing.Items(append(room[:0], m.listing.Between()...), items, pieceBytes)
}
