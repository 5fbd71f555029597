package object

import (
	"fmt"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"
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

// notAcceptable is upstream's 406.
func notAcceptable(accepted ...string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusNotAcceptable,
		Reason:  metav1.StatusReasonNotAcceptable,
		Message: "only the following media types are accepted: " + strings.Join(accepted, ", "),
	}}
}
