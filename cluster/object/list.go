package object

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/kind"
)

// EncodeList writes a list of items of k in the version gvk (of one item) to
// w, in JSON or Protobuf, some 64 KiB at a time: a list is never in memory as
// a whole. Items are hubs, shared.
func (c *Codec) EncodeList(w io.Writer, k *kind.Kind, gvk schema.GroupVersionKind, meta metav1.ListMeta, items []kind.Object, mediaType string) error {
	l, err := c.Listing(k, gvk, mediaType)
	if err != nil {
		return err
	}
	if items, err = AllAs(k, items, gvk); err != nil {
		return err
	}
	size, err := l.Size(items)
	if err != nil {
		return err
	}
	buf, err := l.Head(make([]byte, 0, max(4<<10, min(size+size/8, listChunk+listChunk/4))), meta, size)
	for first := true; len(items) > 0 && err == nil; first = false {
		if !first {
			buf = append(buf, l.Between()...)
		}
		var n int
		if buf, n, err = l.Items(buf, items, listChunk); err != nil {
			return err
		}
		if items = items[n:]; len(items) > 0 {
			_, err = w.Write(buf)
			buf = buf[:0]
		}
	}
	if err == nil {
		_, err = w.Write(l.End(buf))
	}
	return err
}

const listChunk = 64 << 10

// Listing makes lists of objects of one kind, in one version and media type,
// part by part: the head, the items, as many at a time as one likes with
// Between in between, and the end. It is safe for concurrent use.
type Listing struct {
	kind     *kind.Kind
	gvk      schema.GroupVersionKind // of an item
	protobuf bool
	prefix   []byte // of an item as JSON that is not repeated in a list
}

// Listing returns what makes lists of k as mediaType, JSON or Protobuf.
func (c *Codec) Listing(k *kind.Kind, gvk schema.GroupVersionKind, mediaType string) (*Listing, error) {
	l := &Listing{kind: k, gvk: gvk, protobuf: mediaType == Protobuf}
	switch mediaType {
	case Protobuf:
		if _, ok := blank(k, gvk).(message); !ok {
			return nil, notAcceptable(JSON, YAML)
		}
	case JSON:
		if k.Type != nil {
			// Items of upstream's typed lists do not repeat kind and apiVersion.
			l.prefix = []byte(`{"kind":` + strconv.Quote(gvk.Kind) + `,"apiVersion":` + strconv.Quote(gvk.GroupVersion().String()) + `,`)
		}
	default:
		return nil, notAcceptable(JSON, Protobuf)
	}
	return l, nil
}

// Sized says whether Head has to know how many bytes the items are.
func (l *Listing) Sized() bool { return l.protobuf }

// Head appends what comes before the items. size is how many bytes these are,
// all together, if the list is Sized.
func (l *Listing) Head(dst []byte, meta metav1.ListMeta, size int) ([]byte, error) {
	version, listKind := l.gvk.GroupVersion().String(), l.gvk.Kind+"List"
	if l.protobuf {
		// All lists of k8s.io/api have metadata as field 1 and items as field 2; a
		// test holds them to it.
		size += 1 + varintSize(meta.Size()) + meta.Size()
		dst = append(append(dst, magic...), 0x0a)
		dst = appendVarint(dst, uint64(1+varintSize(len(version))+len(version)+1+varintSize(len(listKind))+len(listKind)))
		dst = appendBytes(dst, 0x0a, version)
		dst = appendBytes(dst, 0x12, listKind)
		dst = appendVarint(append(dst, 0x12), uint64(size))
		dst = appendVarint(append(dst, 0x0a), uint64(meta.Size()))
		return appendMessage(dst, &meta, meta.Size())
	}
	if l.kind.Custom != nil {
		listKind = l.kind.Custom.List
	}
	head, err := json.Marshal(meta)
	if err != nil {
		return dst, err
	}
	dst = strconv.AppendQuote(append(dst, `{"kind":`...), listKind)
	dst = strconv.AppendQuote(append(dst, `,"apiVersion":`...), version)
	dst = append(append(dst, `,"metadata":`...), head...)
	return append(dst, `,"items":[`...), nil
}

// Between is what separates two items.
func (l *Listing) Between() string {
	if l.protobuf {
		return ""
	}
	return ","
}

// Items appends the first of items, which are hubs and shared, until dst has
// enough bytes or there are no more. n is how many it took.
func (l *Listing) Items(dst []byte, items []kind.Object, enough int) (_ []byte, n int, err error) {
	for n < len(items) && (n == 0 || len(dst) < enough) {
		obj, err := As(l.kind, items[n], l.gvk)
		if err != nil {
			return dst, n, err
		}
		if n > 0 {
			dst = append(dst, l.Between()...)
		}
		if dst, err = l.item(dst, obj); err != nil {
			return dst, n, err
		}
		n++
	}
	return dst, n, nil
}

func (l *Listing) item(dst []byte, obj kind.Object) ([]byte, error) {
	if l.protobuf {
		m := obj.(message)
		size := m.Size()
		return appendMessage(appendVarint(append(dst, 0x12), uint64(size)), m, size)
	}
	start := len(dst)
	dst, err := appendJSON(dst, obj)
	if err != nil {
		return dst, err
	}
	dst = dst[:len(dst)-1] // the newline
	if len(l.prefix) > 0 && bytes.HasPrefix(dst[start:], l.prefix) {
		rest := dst[start+len(l.prefix):]
		dst = append(append(dst[:start], '{'), rest...)
	}
	return dst, nil
}

// Size is how many bytes items are, for a list that is Sized; else 0.
func (l *Listing) Size(items []kind.Object) (size int, err error) {
	if !l.protobuf {
		return 0, nil
	}
	for _, item := range items {
		obj, err := As(l.kind, item, l.gvk)
		if err != nil {
			return 0, err
		}
		n := obj.(message).Size()
		size += 1 + varintSize(n) + n
	}
	return size, nil
}

// End appends what comes after the items.
func (l *Listing) End(dst []byte) []byte {
	if l.protobuf {
		return append(dst, 0x1a, 0, 0x22, 0)
	}
	return append(dst, "]}\n"...)
}
