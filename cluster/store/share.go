package store

import (
	"hash/maphash"
	"maps"
	"math"
	"reflect"
	"sync"
	"unsafe"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"sampan/cluster/kind"
)

// sharing makes what objects have alike one: pods of a template hold the same
// volumes, probes and owned fields, and a changed object most of what it was.
// An object is held against the state before it and against its neighbour in
// the order of keys, which is mostly of the same owner; equal parts are taken
// from there. So nothing has to be looked up, and nothing to be forgotten. It
// rests on the rule of the house that nobody writes to an object of the cache
// (docs/decisions/053).
//
// It is safe for concurrent use.
type sharing struct {
	shapes sync.Map // of top types: reflect.Type → *shape
	words  words
}

// share returns obj with the parts that are equal in one of like taken from
// there: a new object, unless obj is fresh, which means that no part of it is
// anybody else's yet. obj is not written to unless it is fresh. nils in like
// are ignored.
func (s *sharing) share(obj kind.Object, fresh bool, like ...kind.Object) kind.Object {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		return s.shareContent(u, like)
	}
	v := reflect.ValueOf(obj)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return obj
	}
	if !fresh {
		own := reflect.New(v.Type().Elem())
		own.Elem().Set(v.Elem())
		v = own
	}
	var models likes
	for _, l := range like {
		if lv := reflect.ValueOf(l); l != nil && lv.Type() == v.Type() {
			models.add(lv.UnsafePointer())
		}
	}
	w := walk{s, fresh}
	w.settle(s.shape(v.Type().Elem()), v.UnsafePointer(), models)
	return v.Interface().(kind.Object)
}

// alike are the objects of the cache that one to be stored under k is held
// against.
func (s *Store) alike(k Key) []kind.Object {
	set, err := s.set(k.Kind)
	if err != nil {
		return nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	like := make([]kind.Object, 0, most)
	set.tree.Descend(&entry{namespace: k.Namespace, name: k.Name}, func(e *entry) bool {
		like = append(like, e.obj)
		return len(like) < most
	})
	return like
}

// shareContent is share for an object without a Go type. Its outermost maps
// stay its own: they have the resourceVersion, which is set later.
func (s *sharing) shareContent(u *unstructured.Unstructured, like []kind.Object) kind.Object {
	var models []map[string]any
	for _, l := range like {
		if l, ok := l.(*unstructured.Unstructured); ok && l != nil {
			models = append(models, l.Object)
		}
	}
	w := walk{s, false}
	content := w.content(u.Object, models)
	if meta, ok := u.Object["metadata"].(map[string]any); ok {
		var metas []map[string]any
		for _, m := range models {
			if m, ok := m["metadata"].(map[string]any); ok {
				metas = append(metas, m)
			}
		}
		content["metadata"] = w.content(meta, metas)
	}
	return &unstructured.Unstructured{Object: content}
}

// most is how many objects one is held against.
const most = 2

// likes are where the same part is in the objects that are held against, and
// where a list has a part of the kind just before.
type likes struct {
	n  int
	at [most + 1]unsafe.Pointer
}

func (l *likes) add(p unsafe.Pointer) {
	if p != nil && l.n < len(l.at) {
		l.at[l.n] = p
		l.n++
	}
}

// walk goes through one object, by the addresses of its parts: reflection would
// take ten times as long.
type walk struct {
	*sharing
	fresh bool // what is met is nobody else's, and may be written to
}

// settle makes what is at p, which is nobody else's, refer to parts of like
// where they are equal.
func (w walk) settle(sh *shape, p unsafe.Pointer, like likes) {
	switch sh.kind {
	case reflect.String:
		w.text(sh, (*string)(p), like)
	case reflect.Struct:
		for i := range sh.fields {
			if f := &sh.fields[i]; f.shape.refers {
				var parts likes
				for _, l := range like.at[:like.n] {
					parts.add(unsafe.Add(l, f.offset))
				}
				w.settle(f.shape, unsafe.Add(p, f.offset), parts)
			}
		}
	case reflect.Pointer:
		w.pointer(sh, (*unsafe.Pointer)(p), like)
	case reflect.Slice:
		w.slice(sh, (*slice)(p), like)
	case reflect.Map:
		if m := reflect.NewAt(sh.typ, p).Elem(); m.Len() > 0 && !taken(sh, p, like) && sh.typ == textsType {
			w.texts((*map[string]string)(p))
		}
	}
}

// taken makes the map or slice at p that of like which is equal, if one is.
func taken(sh *shape, p unsafe.Pointer, like likes) bool {
	for _, l := range like.at[:like.n] {
		if same(sh, p, l) {
			reflect.NewAt(sh.typ, p).Elem().Set(reflect.NewAt(sh.typ, l).Elem())
			return true
		}
	}
	return false
}

func (w walk) text(sh *shape, p *string, like likes) {
	if *p == "" {
		return
	}
	for _, l := range like.at[:like.n] {
		if other := *(*string)(l); other == *p {
			*p = other
			return
		}
	}
	if !sh.single {
		*p = w.words.of(*p)
	}
}

// texts makes a map of its own of one that may be another's.
func (w walk) texts(p *map[string]string) {
	own := make(map[string]string, len(*p))
	for k, text := range *p {
		own[w.words.of(k)] = w.words.of(text)
	}
	*p = own
}

func (w walk) pointer(sh *shape, p *unsafe.Pointer, like likes) {
	if *p == nil {
		return
	}
	var parts likes
	for _, l := range like.at[:like.n] {
		other := *(*unsafe.Pointer)(l)
		if other != nil && (other == *p || same(sh.elem, *p, other)) {
			*p = other
			return
		}
		parts.add(other)
	}
	if !sh.elem.refers {
		return
	}
	if !w.fresh {
		own := reflect.New(sh.elem.typ)
		own.Elem().Set(reflect.NewAt(sh.elem.typ, *p).Elem())
		*p = own.UnsafePointer()
	}
	w.settle(sh.elem, *p, parts)
}

// slice is what a slice of any type is in memory.
type slice struct {
	at       unsafe.Pointer
	len, cap int
}

func (w walk) slice(sh *shape, p *slice, like likes) {
	if p.len == 0 || taken(sh, unsafe.Pointer(p), like) {
		return
	}
	size := sh.elem.typ.Size()
	// Decoders make room that is not used.
	roomy := uintptr(p.cap-p.len)*size >= 64
	if roomy || !w.fresh && sh.elem.refers {
		v := reflect.NewAt(sh.typ, unsafe.Pointer(p)).Elem()
		own := reflect.MakeSlice(sh.typ, p.len, p.len)
		reflect.Copy(own, v)
		v.Set(own)
	}
	p.cap = p.len // who appends to a copy of the object must not write behind what others have
	if !sh.elem.refers {
		return
	}
	for i := range p.len {
		var parts likes
		for _, l := range like.at[:like.n] {
			if other := (*slice)(l); i < other.len {
				parts.add(unsafe.Add(other.at, uintptr(i)*size))
			}
		}
		at := unsafe.Add(p.at, uintptr(i)*size)
		if i > 0 && sh.elem.kind == reflect.Struct { // versions of a definition mostly have one schema
			parts.add(unsafe.Add(p.at, uintptr(i-1)*size))
		}
		w.settle(sh.elem, at, parts)
	}
}

// content is a copy of m, with equal parts taken from like.
func (w walk) content(m map[string]any, like []map[string]any) map[string]any {
	own := make(map[string]any, len(m))
	parts := make([]any, 0, most)
	for k, v := range m {
		parts = parts[:0]
		for _, l := range like {
			if part, ok := l[k]; ok {
				parts = append(parts, part)
			}
		}
		own[w.words.of(k)] = w.value(v, parts)
	}
	return own
}

func (w walk) value(v any, like []any) any {
	for _, l := range like {
		if sameValue(v, l) {
			return l
		}
	}
	switch v := v.(type) {
	case string:
		if short := w.words.of(v); unsafe.StringData(short) != unsafe.StringData(v) {
			return short
		}
	case map[string]any:
		var models []map[string]any
		for _, l := range like {
			if l, ok := l.(map[string]any); ok {
				models = append(models, l)
			}
		}
		return w.content(v, models)
	case []any:
		own := make([]any, len(v))
		for i, e := range v {
			var models []any
			for _, l := range like {
				if l, ok := l.([]any); ok && i < len(l) {
					models = append(models, l[i])
				}
			}
			own[i] = w.value(e, models)
		}
		return own
	}
	return v
}

// same says whether what is at a and at b is equal, to the last bit that any
// encoding shows: nil is not empty.
func same(sh *shape, a, b unsafe.Pointer) bool {
	if sh.plain {
		return string(unsafe.Slice((*byte)(a), sh.typ.Size())) == string(unsafe.Slice((*byte)(b), sh.typ.Size()))
	}
	switch sh.kind {
	case reflect.String:
		return *(*string)(a) == *(*string)(b)
	case reflect.Struct:
		for i := range sh.fields {
			if f := &sh.fields[i]; !same(f.shape, unsafe.Add(a, f.offset), unsafe.Add(b, f.offset)) {
				return false
			}
		}
		return true
	case reflect.Pointer:
		pa, pb := *(*unsafe.Pointer)(a), *(*unsafe.Pointer)(b)
		return pa == pb || pa != nil && pb != nil && same(sh.elem, pa, pb)
	case reflect.Slice:
		return sameSlice(sh, (*slice)(a), (*slice)(b))
	case reflect.Map:
		return sameMap(sh, a, b)
	case reflect.Interface:
		return reflect.NewAt(sh.typ, a).Elem().IsNil() && reflect.NewAt(sh.typ, b).Elem().IsNil()
	}
	return false
}

func sameSlice(sh *shape, a, b *slice) bool {
	if a.len != b.len || (a.at == nil) != (b.at == nil) {
		return false
	}
	size := sh.elem.typ.Size()
	if a.at == b.at || a.len == 0 || size == 0 {
		return true
	}
	if sh.elem.plain {
		n := uintptr(a.len) * size
		return string(unsafe.Slice((*byte)(a.at), n)) == string(unsafe.Slice((*byte)(b.at), n))
	}
	for i := range a.len {
		if !same(sh.elem, unsafe.Add(a.at, uintptr(i)*size), unsafe.Add(b.at, uintptr(i)*size)) {
			return false
		}
	}
	return true
}

func sameMap(sh *shape, pa, pb unsafe.Pointer) bool {
	a, b := reflect.NewAt(sh.typ, pa).Elem(), reflect.NewAt(sh.typ, pb).Elem()
	if a.Len() != b.Len() || a.IsNil() != b.IsNil() {
		return false
	}
	if a.UnsafePointer() == b.UnsafePointer() {
		return true
	}
	switch sh.typ {
	case textsType:
		return maps.Equal(*(*map[string]string)(pa), *(*map[string]string)(pb))
	case amountsType:
		return maps.Equal(*(*corev1.ResourceList)(pa), *(*corev1.ResourceList)(pb))
	}
	one, other := reflect.New(sh.elem.typ), reflect.New(sh.elem.typ)
	for at := a.MapRange(); at.Next(); {
		found := b.MapIndex(at.Key())
		if !found.IsValid() {
			return false
		}
		one.Elem().Set(at.Value())
		other.Elem().Set(found)
		if !same(sh.elem, one.UnsafePointer(), other.UnsafePointer()) {
			return false
		}
	}
	return true
}

// sameValue is same for what JSON is decoded to.
func sameValue(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) || (a == nil) != (b == nil) {
			return false
		}
		for k, v := range a {
			if o, ok := b[k]; !ok || !sameValue(v, o) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) || (a == nil) != (b == nil) {
			return false
		}
		for i, v := range a {
			if !sameValue(v, b[i]) {
				return false
			}
		}
		return true
	case float64:
		b, ok := b.(float64)
		return ok && math.Float64bits(a) == math.Float64bits(b)
	case nil, string, bool, int64:
		return a == b
	}
	return false
}

// shape is what a type is made of, as far as sharing has to know.
type shape struct {
	typ    reflect.Type
	kind   reflect.Kind
	plain  bool    // equal means the same bytes
	refers bool    // there may be something to share behind it
	single bool    // a string that is another one in each object
	elem   *shape  // of pointers, slices and maps
	fields []field // of structs
}

type field struct {
	offset uintptr
	shape  *shape
}

var (
	textsType   = reflect.TypeFor[map[string]string]()
	amountsType = reflect.TypeFor[corev1.ResourceList]()
	metaType    = reflect.TypeFor[metav1.ObjectMeta]()
)

func (s *sharing) shape(t reflect.Type) *shape {
	if known, ok := s.shapes.Load(t); ok {
		return known.(*shape)
	}
	known, _ := s.shapes.LoadOrStore(t, shapeOf(t, map[reflect.Type]*shape{}))
	return known.(*shape)
}

// shapeOf looks at a type once; types may contain themselves.
func shapeOf(t reflect.Type, seen map[reflect.Type]*shape) *shape {
	if sh := seen[t]; sh != nil {
		return sh
	}
	sh := &shape{typ: t, kind: t.Kind()}
	seen[t] = sh
	switch sh.kind {
	case reflect.String:
		sh.refers = true
	case reflect.Pointer, reflect.Slice, reflect.Map:
		sh.refers = true
		sh.elem = shapeOf(t.Elem(), seen)
	case reflect.Interface:
	case reflect.Struct:
		closed := false // it has fields of its own
		for i := range t.NumField() {
			closed = closed || !t.Field(i).IsExported()
		}
		sh.plain = true
		for i := range t.NumField() {
			f, of := t.Field(i), (*shape)(nil)
			switch name := f.Name; {
			case closed:
				of = closedShape(f.Type, seen)
			case t == metaType && (name == "Name" || name == "UID" || name == "ResourceVersion"):
				of = &shape{typ: f.Type, kind: reflect.String, refers: true, single: true}
			default:
				of = shapeOf(f.Type, seen)
			}
			sh.fields = append(sh.fields, field{f.Offset, of})
			sh.refers = sh.refers || of.refers && !closed
			sh.plain = sh.plain && of.plain
		}
	default:
		sh.plain = true // numbers; a float is its bits
	}
	return sh
}

// closedShape is that of a field of a type which is not looked into, such as
// time.Time: what such a type refers to is equal if it is the same.
func closedShape(t reflect.Type, seen map[reflect.Type]*shape) *shape {
	switch t.Kind() {
	case reflect.String, reflect.Struct:
		return shapeOf(t, seen)
	}
	return &shape{typ: t, kind: t.Kind(), plain: true}
}

// words are short strings that were met lately: names of nodes and images,
// addresses, keys. A string that falls into the place of another replaces it.
type words struct {
	mu  sync.Mutex // guards all below
	met *[4096]string
}

// longest is the longest string that is remembered, in bytes.
const longest = 80

// of returns an equal string, that met before if there is one.
func (w *words) of(text string) string {
	if text == "" || len(text) > longest {
		return text
	}
	i := maphash.String(seed, text) % uint64(len(w.met))
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.met == nil {
		w.met = new([4096]string)
	}
	if known := w.met[i]; known == text {
		return known
	}
	w.met[i] = text
	return text
}
