package remote

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/kind"
	"sampan/cluster/object"
	"sampan/internal/fault"
)

// request is one HTTP request.
type request struct {
	method, path string
	query        url.Values
	body         []byte
	media        string // of the body
	accept       string // default: protobuf, else JSON
}

// answer is a body and what it is written in.
type answer struct {
	data  []byte
	media string
}

var statusKind = schema.GroupVersionKind{Version: "v1", Kind: "Status"}

// bodyLimit is more than any answer has: a list of objects at most half as
// large as all that a store holds.
const bodyLimit = 1 << 30

// object sends a request whose answer is an object of k.
func (c *Client) object(ctx context.Context, k *kind.Kind, r request) (kind.Object, error) {
	a, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	return object.Storage{}.Decode(k, a.data)
}

// do sends a request and returns the body of its answer; an answer that is not
// 2xx is an error as the server meant it (k8s.io/apimachinery/pkg/api/errors).
func (c *Client) do(ctx context.Context, r request) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := c.send(ctx, r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	return c.read(r, resp)
}

func (c *Client) read(r request, resp *http.Response) (a answer, err error) {
	a.media, _, _ = mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if a.data, err = io.ReadAll(io.LimitReader(resp.Body, bodyLimit)); err != nil {
		return a, c.unreachable(r, err)
	}
	return a, nil
}

// send sends a request and returns its answer if that is 2xx.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	u := *c.base
	u.Path, u.RawQuery = r.path, r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", c.cfg.Agent)
	req.Header.Set("Accept", object.Protobuf+","+object.JSON)
	if r.accept != "" {
		req.Header.Set("Accept", r.accept)
	}
	if r.media != "" {
		req.Header.Set("Content-Type", r.media)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(r, err)
	}
	for _, w := range resp.Header.Values("Warning") {
		c.cfg.Log.Debug("the server warns", "request", r.method+" "+r.path, "warning", w)
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, c.refused(r, resp)
}

func (c *Client) unreachable(r request, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err // the request is named already
	}
	return &fault.Error{Class: fault.Unavailable, Op: r.method + " " + r.path, On: "at " + c.cfg.Server, Err: err}
}

// refused is the server's Status as an error.
func (c *Client) refused(r request, resp *http.Response) error {
	a, err := c.read(r, resp)
	status := new(metav1.Status)
	if err == nil && a.is("Status") && a.into(status, statusKind) == nil && status.Status != metav1.StatusSuccess {
		return &apierrors.StatusError{ErrStatus: *status}
	}
	const enough = 512
	return apierrors.NewGenericServerResponse(resp.StatusCode, r.method, schema.GroupResource{}, r.path,
		string(a.data[:min(len(a.data), enough)]), 0, true)
}

// is says whether the answer calls itself a kind.
func (a answer) is(name string) bool {
	var m metav1.TypeMeta
	if a.media == object.Protobuf {
		var u runtime.Unknown
		body, ok := bytes.CutPrefix(a.data, magic)
		return ok && u.Unmarshal(body) == nil && u.Kind == name
	}
	return json.Unmarshal(a.data, &m) == nil && m.Kind == name
}

func (a answer) into(obj runtime.Object, gvk schema.GroupVersionKind) error {
	_, err := object.DecodeInto(obj, gvk, a.data, a.media, object.Ignore)
	return err
}

// encode writes an object for a request, in protobuf if its type can. obj is
// the callee's.
func encode(k *kind.Kind, obj kind.Object) (data []byte, media string, err error) {
	obj.GetObjectKind().SetGroupVersionKind(k.GVK)
	codec, media := object.Codec{}, mediaOf(k)
	data, err = codec.Encode(nil, obj, media)
	return data, media, err
}

func encodeJSON(obj runtime.Object) (data []byte, media string, err error) {
	data, err = json.Marshal(obj)
	return data, object.JSON, err
}

// mediaOf is what objects of k are written in.
func mediaOf(k *kind.Kind) string {
	if _, ok := k.New().(message); ok {
		return object.Protobuf
	}
	return object.JSON
}

// message is what generated protobuf types of k8s.io can do.
type message interface {
	runtime.Object
	Unmarshal([]byte) error
}

// magic begins everything that is Kubernetes protobuf.
var magic = []byte("k8s\x00")

// decodeList reads a list of objects of k and its revision.
func decodeList(k *kind.Kind, a answer) (items []kind.Object, revision string, err error) {
	if a.media == object.Protobuf {
		return decodeProtobufList(k, a.data)
	}
	var list struct {
		Metadata metav1.ListMeta   `json:"metadata"`
		Items    []json.RawMessage `json:"items"`
	}
	if err := json.Unmarshal(a.data, &list); err != nil {
		return nil, "", badList(k, err)
	}
	for _, raw := range list.Items {
		// Items do not repeat apiVersion and kind: the decoder fills them in.
		obj, err := object.Storage{}.Decode(k, raw)
		if err != nil {
			return nil, "", err
		}
		items = append(items, obj)
	}
	return items, list.Metadata.ResourceVersion, nil
}

// decodeProtobufList reads a message with the two fields that every list of
// k8s.io/api has: metadata (1) and items (2).
func decodeProtobufList(k *kind.Kind, data []byte) (items []kind.Object, revision string, err error) {
	var u runtime.Unknown
	body, ok := bytes.CutPrefix(data, magic)
	if !ok {
		return nil, "", badList(k, errors.New("it is no Kubernetes protobuf"))
	}
	if err := u.Unmarshal(body); err != nil {
		return nil, "", badList(k, err)
	}
	for raw := u.Raw; len(raw) > 0; {
		tag, n := binary.Uvarint(raw)
		size, m := binary.Uvarint(raw[max(n, 0):])
		start := n + m
		if n <= 0 || m <= 0 || tag&7 != 2 || size > uint64(len(raw)-start) {
			return nil, "", badList(k, fmt.Errorf("field %d is not as in a list", tag>>3))
		}
		field := raw[start : start+int(size)]
		raw = raw[start+int(size):]
		switch tag >> 3 {
		case 1:
			var meta metav1.ListMeta
			if err := meta.Unmarshal(field); err != nil {
				return nil, "", badList(k, err)
			}
			revision = meta.ResourceVersion
		case 2:
			obj := k.New()
			if err := obj.(message).Unmarshal(field); err != nil {
				return nil, "", badList(k, err)
			}
			obj.GetObjectKind().SetGroupVersionKind(k.GVK)
			k.Default(obj)
			items = append(items, obj)
		}
	}
	return items, revision, nil
}

func badList(k *kind.Kind, err error) error {
	return &fault.Error{Class: fault.Invalid, Op: "decode list of", On: k.String(), Err: err}
}
