package remote

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"sampan/cluster/object"
	"sampan/internal/fault"
)

// frame is one event of a watch; the object is written in media.
type frame struct {
	kind watch.EventType
	answer
}

// frameLimit bounds an event: an object is at most some 2 MB.
const frameLimit = 32 << 20

// frames reads the events of an answer one by one; the error is io.EOF where
// the server ended the watch. JSON events follow each other; one in protobuf is
// a length of four bytes, big endian, and a WatchEvent without the prefix,
// whose object has it. (Upstream: LengthDelimitedFramer.)
func frames(resp *http.Response) func() (frame, error) {
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if media != object.Protobuf {
		d := json.NewDecoder(resp.Body)
		return func() (f frame, err error) {
			var e struct {
				Type   watch.EventType `json:"type"`
				Object json.RawMessage `json:"object"`
			}
			err = d.Decode(&e)
			return frame{e.Type, answer{e.Object, object.JSON}}, err
		}
	}
	r := bufio.NewReader(resp.Body)
	return func() (f frame, err error) {
		var head [4]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return f, err
		}
		size := binary.BigEndian.Uint32(head[:])
		if size > frameLimit {
			return f, fmt.Errorf("an event of %d bytes, more than %d", size, frameLimit)
		}
		data := make([]byte, size)
		if _, err := io.ReadFull(r, data); err != nil {
			return f, err
		}
		var e metav1.WatchEvent
		err = e.Unmarshal(data)
		return frame{watch.EventType(e.Type), answer{e.Object.Raw, object.Protobuf}}, err
	}
}

// ended turns the end of a watch into an error; nil if it was orderly: the
// server ends each after a while.
func (v *view) ended(ctx context.Context, err error) error {
	if errors.Is(err, io.EOF) || ctx.Err() != nil {
		return nil
	}
	return &fault.Error{Class: fault.Unavailable, Op: "watch", On: v.sel.String(), Err: err}
}

// take makes an event part of the state, and revision where to resume.
func (v *view) take(f frame, revision *string) error {
	k := v.sel.kind
	switch f.kind {
	case watch.Error:
		status := new(metav1.Status)
		if err := f.into(status, statusKind); err != nil {
			return err
		}
		return &apierrors.StatusError{ErrStatus: *status}
	case watch.Added, watch.Modified, watch.Deleted, watch.Bookmark:
	default:
		return &fault.Error{Class: fault.Invalid, Op: "watch", On: v.sel.String(), Err: fmt.Errorf("an event of type %q", f.kind)}
	}
	obj, err := object.Storage{}.Decode(k, f.data)
	if err != nil {
		return err
	}
	if f.kind != watch.Bookmark {
		v.change(f.kind == watch.Deleted, obj)
	}
	*revision = obj.GetResourceVersion()
	return nil
}
