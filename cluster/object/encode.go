package object

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"sampan/cluster/kind"
)

// Encode appends obj as mediaType to dst. obj is of the version it is to be
// encoded in (see As), with apiVersion and kind set; it is not written to.
// Without a protobuf form of obj the error is upstream's 406.
func (c *Codec) Encode(dst []byte, obj runtime.Object, mediaType string) ([]byte, error) {
	switch mediaType {
	case Protobuf:
		m, ok := obj.(message)
		if !ok {
			return nil, notAcceptable(JSON, YAML)
		}
		return appendEnvelope(dst, obj.GetObjectKind().GroupVersionKind(), m)
	case YAML:
		data, err := yaml.Marshal(obj)
		return append(dst, data...), err
	case JSON:
		return appendJSON(dst, obj)
	}
	return nil, notAcceptable(JSON, YAML, Protobuf)
}

func appendJSON(dst []byte, obj any) ([]byte, error) {
	if u, ok := obj.(*unstructured.Unstructured); ok {
		obj = u.Object
	}
	return appendValue(dst, obj)
}

// appendEnvelope appends magic and a runtime.Unknown: its TypeMeta (field 1),
// the message (2), and the two empty strings (3, 4) that upstream writes.
func appendEnvelope(dst []byte, gvk schema.GroupVersionKind, m message) ([]byte, error) {
	version, k := gvk.GroupVersion().String(), gvk.Kind
	dst = append(dst, magic...)
	dst = append(dst, 0x0a)
	dst = appendVarint(dst, uint64(1+varintSize(len(version))+len(version)+1+varintSize(len(k))+len(k)))
	dst = appendBytes(dst, 0x0a, version)
	dst = appendBytes(dst, 0x12, k)
	dst = append(dst, 0x12)
	size := m.Size()
	dst = appendVarint(dst, uint64(size))
	dst, err := appendMessage(dst, m, size)
	if err != nil {
		return nil, err
	}
	return append(dst, 0x1a, 0, 0x22, 0), nil
}

// appendMessage appends a message of the size given, without a copy.
func appendMessage(dst []byte, m message, size int) ([]byte, error) {
	start := len(dst)
	if cap(dst)-start < size+4 { // room for the envelope's end as well
		grown := make([]byte, start, start+size+4)
		copy(grown, dst)
		dst = grown
	}
	dst = dst[:start+size]
	n, err := m.MarshalToSizedBuffer(dst[start:])
	if err == nil && n != size {
		err = fmt.Errorf("encode protobuf: %d bytes announced, %d written", size, n)
	}
	return dst, err
}

func appendBytes(dst []byte, tag byte, s string) []byte {
	dst = appendVarint(append(dst, tag), uint64(len(s)))
	return append(dst, s...)
}

func appendVarint(dst []byte, v uint64) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

func varintSize(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

// EncodeList writes a list of items of k in the version gvk (of one item) to
// w, in JSON or Protobuf, some 64 KiB at a time: a list is never in memory as
// a whole. Items are hubs, shared.
func (c *Codec) EncodeList(w io.Writer, k *kind.Kind, gvk schema.GroupVersionKind, meta metav1.ListMeta, items []kind.Object, mediaType string) error {
	items, err := AllAs(k, items, gvk)
	if err != nil {
		return err
	}
	switch mediaType {
	case JSON:
		return encodeJSONList(w, k, gvk, meta, items)
	case Protobuf:
		return encodeProtobufList(w, k, gvk, meta, items)
	}
	return notAcceptable(JSON, Protobuf)
}

func encodeJSONList(w io.Writer, k *kind.Kind, gvk schema.GroupVersionKind, meta metav1.ListMeta, items []kind.Object) error {
	head, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	version := gvk.GroupVersion().String()
	buf := make([]byte, 0, 4096)
	buf = append(buf, `{"kind":`...)
	listKind := gvk.Kind + "List"
	if k.Custom != nil {
		listKind = k.Custom.List
	}
	buf = strconv.AppendQuote(buf, listKind)
	buf = append(buf, `,"apiVersion":`...)
	buf = strconv.AppendQuote(buf, version)
	buf = append(buf, `,"metadata":`...)
	buf = append(buf, head...)
	buf = append(buf, `,"items":[`...)
	// Items of upstream's typed lists do not repeat kind and apiVersion.
	prefix := []byte(`{"kind":` + strconv.Quote(gvk.Kind) + `,"apiVersion":` + strconv.Quote(version) + `,`)
	for i, item := range items {
		obj, err := As(k, item, gvk)
		if err != nil {
			return err
		}
		if i > 0 {
			buf = append(buf, ',')
		}
		start := len(buf)
		if buf, err = appendJSON(buf, obj); err != nil {
			return err
		}
		buf = buf[:len(buf)-1] // the newline
		if rest, ok := bytes.CutPrefix(buf[start:], prefix); ok && k.Type != nil {
			buf = append(append(buf[:start], '{'), rest...)
		}
		if len(buf) > 64<<10 {
			if _, err := w.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	_, err = w.Write(append(buf, "]}\n"...))
	return err
}

// encodeProtobufList relies on all lists of k8s.io/api having metadata as
// field 1 and items as field 2; a test holds them to it.
func encodeProtobufList(w io.Writer, k *kind.Kind, gvk schema.GroupVersionKind, meta metav1.ListMeta, items []kind.Object) error {
	if _, ok := blank(k, gvk).(message); !ok {
		return notAcceptable(JSON, YAML)
	}
	messages, sizes := make([]message, len(items)), make([]int, len(items))
	total := 1 + varintSize(meta.Size()) + meta.Size()
	for i, item := range items {
		obj, err := As(k, item, gvk)
		if err != nil {
			return err
		}
		messages[i] = obj.(message)
		sizes[i] = messages[i].Size()
		total += 1 + varintSize(sizes[i]) + sizes[i]
	}
	version, listKind := gvk.GroupVersion().String(), gvk.Kind+"List"
	buf := append(make([]byte, 0, min(total+128, 64<<10)), magic...)
	buf = append(buf, 0x0a)
	buf = appendVarint(buf, uint64(1+varintSize(len(version))+len(version)+1+varintSize(len(listKind))+len(listKind)))
	buf = appendBytes(buf, 0x0a, version)
	buf = appendBytes(buf, 0x12, listKind)
	buf = appendVarint(append(buf, 0x12), uint64(total))
	buf = appendVarint(append(buf, 0x0a), uint64(meta.Size()))
	buf, err := appendMessage(buf, &meta, meta.Size())
	if err != nil {
		return err
	}
	for i, m := range messages {
		buf = appendVarint(append(buf, 0x12), uint64(sizes[i]))
		if buf, err = appendMessage(buf, m, sizes[i]); err != nil {
			return err
		}
		if len(buf) > 64<<10 {
			if _, err := w.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	_, err = w.Write(append(buf, 0x1a, 0, 0x22, 0))
	return err
}

// notAcceptable is upstream's 406.
func notAcceptable(accepted ...string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusNotAcceptable,
		Reason:  metav1.StatusReasonNotAcceptable,
		Message: "only the following media types are accepted: " + strings.Join(accepted, ", "),
	}}
}
