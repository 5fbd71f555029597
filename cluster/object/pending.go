package object

import (
	"errors"
	"io"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"

	"sampan/cluster/kind"
)

var errPending = errors.New("object: not written yet")

// Owners keeps metadata.managedFields.
type Owners struct{}

// NewOwners returns the keeper of managed fields. types gives the schema of a version.
func NewOwners(types func(gvk schema.GroupVersionKind) (managedfields.TypeConverter, error)) *Owners {
	return &Owners{}
}

// Encode appends obj as mediaType to dst. obj is of the version it is to be
// encoded in (see As), with apiVersion and kind set; it is not written to.
func (c *Codec) Encode(dst []byte, obj runtime.Object, mediaType string) ([]byte, error) {
	return nil, errPending
}

// EncodeList writes a list of the version gvk (of one object) of k to w, an
// item at a time. Media types are JSON and Protobuf; YAML is made by the caller out of JSON.
func (c *Codec) EncodeList(w io.Writer, k *kind.Kind, gvk schema.GroupVersionKind, meta metav1.ListMeta, items []kind.Object, mediaType string) error {
	return errPending
}

// Decode reads a request's body into the kind's hub.
func (c *Codec) Decode(k *kind.Kind, want schema.GroupVersionKind, data []byte, mediaType string, v Validation) (Decoded, error) {
	return Decoded{}, errPending
}

// DecodeInto reads a body that is no declared kind (DeleteOptions, Scale, TokenRequest) into obj.
func DecodeInto(obj runtime.Object, gvk schema.GroupVersionKind, data []byte, mediaType string, v Validation) (warnings []string, err error) {
	return nil, errPending
}

// Storage encodes for the store: protobuf of the hub, JSON where the kind has no protobuf.
type Storage struct{}

// Encode is the stored form of obj, without its resourceVersion.
func (Storage) Encode(k *kind.Kind, obj kind.Object) ([]byte, error) { return nil, errPending }

// Decode reads the stored form of an object, defaulted.
func (Storage) Decode(k *kind.Kind, data []byte) (kind.Object, error) { return nil, errPending }
