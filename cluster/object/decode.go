package object

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"sampan/cluster/kind"
)

// magic begins everything that is Kubernetes protobuf; the rest is a
// runtime.Unknown.
var magic = []byte{0x6b, 0x38, 0x73, 0x00}

// Decode reads a request's body, written in the version want (or one that
// names no version), and returns the kind's hub. Unknown and duplicate fields
// are treated as v says; protobuf has neither. Errors are upstream's.
func (c *Codec) Decode(k *kind.Kind, want schema.GroupVersionKind, data []byte, mediaType string, v Validation) (Decoded, error) {
	obj := blank(k, want)
	if k.Custom != nil && mediaType == Protobuf {
		return Decoded{}, unsupported(JSON, YAML)
	}
	warnings, err := decodeInto(obj, want, data, mediaType, v, settle(k, v))
	if err != nil {
		return Decoded{}, err
	}
	hub, err := hubOf(k, obj, want)
	if err != nil {
		return Decoded{}, apierrors.NewBadRequest(err.Error())
	}
	return Decoded{Object: hub, GVK: want, Warnings: warnings}, nil
}

// DecodeInto reads a body of the kind gvk into obj, an empty object of that
// Go type, and sets its apiVersion and kind. A body may leave them out but not
// name others.
func DecodeInto(obj runtime.Object, gvk schema.GroupVersionKind, data []byte, mediaType string, v Validation) (warnings []string, err error) {
	return decodeInto(obj, gvk, data, mediaType, v, nil)
}

// settler brings a decoded object into the form of its schema and returns an
// error for each field that the schema has not.
type settler func(obj runtime.Object) (unknown []error, err error)

// settle is for objects whose Go type does not say which fields they have.
func settle(k *kind.Kind, v Validation) settler {
	if k.Custom == nil {
		return nil
	}
	return func(obj runtime.Object) (unknown []error, err error) {
		paths, err := k.Custom.Settle(obj.(kind.Object), false, v != Ignore)
		for _, p := range paths {
			unknown = append(unknown, fmt.Errorf("unknown field %q", p))
		}
		return unknown, err
	}
}

func decodeInto(obj runtime.Object, gvk schema.GroupVersionKind, data []byte, mediaType string, v Validation, settle settler) (warnings []string, err error) {
	var strict []error
	switch mediaType {
	case Protobuf:
		err = decodeProtobuf(obj, gvk, data)
	case YAML:
		strict, err = decodeYAML(obj, data, v)
	case JSON, "":
		strict, err = decodeJSON(obj, data, v)
	default:
		return nil, unsupported(JSON, YAML, Protobuf)
	}
	if err != nil {
		return nil, undecodable(err, gvk, data, mediaType)
	}
	if err := sameKind(obj, gvk); err != nil {
		return nil, err
	}
	if settle != nil {
		unknown, err := settle(obj)
		if err != nil {
			return nil, undecodable(err, gvk, data, mediaType)
		}
		strict = append(strict, unknown...)
	}
	if len(strict) > 0 && v == Strict {
		return nil, undecodable(runtime.NewStrictDecodingError(strict), gvk, data, mediaType)
	}
	if v != Ignore {
		for _, e := range strict {
			warnings = append(warnings, warningsOf(e)...)
		}
	}
	return warnings, nil
}

// DecodeOptions reads a body that every group version has under the same
// name, such as DeleteOptions: clients send it in that of what they ask about.
func DecodeOptions(obj runtime.Object, kind string, data []byte, mediaType string) error {
	want := schema.GroupVersionKind{Version: "v1", Kind: kind}
	if got, known := claimed(data, mediaType); known && !got.GroupVersion().Empty() {
		want = got.GroupVersion().WithKind(kind)
	}
	_, err := DecodeInto(obj, want, data, mediaType, Ignore)
	return err
}

// Claimed is what a body calls itself, if that is one of also; else it has to be
// of the kind gvk.
func Claimed(data []byte, mediaType string, gvk schema.GroupVersionKind, also []schema.GroupVersionKind) schema.GroupVersionKind {
	if len(also) == 0 {
		return gvk
	}
	if got, known := claimed(data, mediaType); known && slices.Contains(also, got) {
		return got
	}
	return gvk
}

// sameKind checks what the body called itself, and settles it.
func sameKind(obj runtime.Object, want schema.GroupVersionKind) error {
	got := obj.GetObjectKind().GroupVersionKind()
	if !got.GroupVersion().Empty() && got.GroupVersion() != want.GroupVersion() {
		return apierrors.NewBadRequest(fmt.Sprintf(
			"the API version in the data (%s) does not match the expected API version (%s)",
			got.GroupVersion(), want.GroupVersion()))
	}
	if got.Kind != "" && got.Kind != want.Kind {
		return apierrors.NewBadRequest(fmt.Sprintf(
			"%s in version %q cannot be handled as a %s: the kind in the data does not match the expected kind",
			got.Kind, want.Version, want.Kind))
	}
	obj.GetObjectKind().SetGroupVersionKind(want)
	return nil
}

func decodeJSON(obj runtime.Object, data []byte, v Validation) (strict []error, err error) {
	if u, ok := obj.(runtime.Unstructured); ok {
		return decodeUnstructured(u, data, v)
	}
	if v == Ignore {
		return nil, kjson.UnmarshalCaseSensitivePreserveInts(data, obj)
	}
	return kjson.UnmarshalStrict(data, obj)
}

// decodeUnstructured keeps all fields and sees which are given twice.
func decodeUnstructured(u runtime.Unstructured, data []byte, v Validation) (strict []error, err error) {
	content := map[string]any{}
	if v == Ignore {
		err = kjson.UnmarshalCaseSensitivePreserveInts(data, &content)
	} else {
		strict, err = kjson.UnmarshalStrict(data, &content)
	}
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"apiVersion", "kind"} {
		if _, ok := content[name].(string); !ok && content[name] != nil {
			return nil, fmt.Errorf("json: cannot unmarshal %T into Go struct field Object.%s of type string", content[name], name)
		}
	}
	u.SetUnstructuredContent(content)
	return strict, nil
}

func decodeYAML(obj runtime.Object, data []byte, v Validation) (strict []error, err error) {
	if err := boundAliases(data); err != nil {
		return nil, err
	}
	asJSON, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		// Either it is no YAML at all, or a key is given twice.
		duplicate := err
		if asJSON, err = yaml.YAMLToJSON(data); err != nil {
			return nil, err
		}
		strict = append(strict, duplicate)
	}
	more, err := decodeJSON(obj, asJSON, v)
	return append(strict, more...), err
}

// message is what generated protobuf types of k8s.io can do.
type message interface {
	Marshal() ([]byte, error)
	Size() int
	MarshalToSizedBuffer([]byte) (int, error)
	Unmarshal([]byte) error
}

func decodeProtobuf(obj runtime.Object, gvk schema.GroupVersionKind, data []byte) error {
	body, ok := bytes.CutPrefix(data, magic)
	if !ok {
		if len(data) == 0 {
			return errors.New("empty data")
		}
		return fmt.Errorf("provided data does not appear to be a protobuf message, expected prefix %v", magic)
	}
	if len(body) == 0 {
		return errors.New("empty body")
	}
	var u runtime.Unknown
	if err := u.Unmarshal(body); err != nil {
		return err
	}
	m, ok := obj.(message)
	if !ok {
		return unsupported(JSON, YAML)
	}
	if err := m.Unmarshal(u.Raw); err != nil {
		return err
	}
	got := u.TypeMeta.GroupVersionKind()
	if got.Empty() {
		got = gvk
	}
	obj.GetObjectKind().SetGroupVersionKind(got)
	return nil
}

// undecodable puts a decoding error into upstream's words.
func undecodable(err error, want schema.GroupVersionKind, data []byte, mediaType string) error {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		return err
	}
	got, known := claimed(data, mediaType)
	if !known {
		return apierrors.NewBadRequest(fmt.Sprintf(
			"the object provided is unrecognized (must be of type %s): %v (%s)", want.Kind, err, summary(data)))
	}
	if got.Kind == "" {
		got.Kind = want.Kind
	}
	if got.Version == "" {
		got.Version = want.Version
	}
	return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v",
		got.Kind, got.Version, want.Kind, err))
}

// claimed is what a body calls itself; false if it cannot be read at all.
func claimed(data []byte, mediaType string) (schema.GroupVersionKind, bool) {
	var m metav1.TypeMeta
	switch mediaType {
	case Protobuf:
		var u runtime.Unknown
		body, ok := bytes.CutPrefix(data, magic)
		if !ok || u.Unmarshal(body) != nil {
			return schema.GroupVersionKind{}, false
		}
		return u.TypeMeta.GroupVersionKind(), true
	case YAML:
		if boundAliases(data) != nil || yaml.Unmarshal(data, &m) != nil {
			return schema.GroupVersionKind{}, false
		}
	default:
		if json.Unmarshal(data, &m) != nil {
			return schema.GroupVersionKind{}, false
		}
	}
	return m.GroupVersionKind(), true
}

func summary(data []byte) string {
	const most = 30
	switch {
	case len(data) == 0:
		return "<empty>"
	case data[0] == '{' && len(data) > most:
		return string(data[:most]) + " ..."
	case data[0] == '{':
		return string(data)
	case len(data) > most:
		return hex.EncodeToString(data[:most]) + " ..."
	}
	return hex.EncodeToString(data)
}

// unsupported is upstream's 415.
func unsupported(accepted ...string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusUnsupportedMediaType,
		Reason:  metav1.StatusReasonUnsupportedMediaType,
		Message: "the body of the request was in an unknown format - accepted media types include: " + strings.Join(accepted, ", "),
	}}
}
