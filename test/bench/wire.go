package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// wire is a client with a connection of its own that sends bodies which were
// encoded before, and reads answers without decoding them: what a client does
// for itself on the cores that it shares with the server would hide the
// server's part. Transport, TLS and headers are client-go's.
type wire struct {
	http *http.Client
	host string
	as   string // media type of bodies and answers
}

func wireOf(kubeconfig, contentType string, warn rest.WarningHandler) (*wire, error) {
	cfg, err := configOf(kubeconfig, contentType)
	if err != nil {
		return nil, err
	}
	cfg.WarningHandler = warn
	c, err := rest.HTTPClientFor(cfg)
	return &wire{http: c, host: strings.TrimSuffix(cfg.Host, "/"), as: contentType}, err
}

// request is one that is sent many times, or to many objects.
type request struct {
	method, path string
	contentType  string // of the body; empty: that of the wire
	body         []byte
}

// open sends a request and returns the answer's body, which is 2xx.
func (w *wire) open(ctx context.Context, q request) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, q.method, w.host+q.path, bytes.NewReader(q.body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", w.as)
	if w.as == asProtobuf {
		r.Header.Set("Accept", asProtobuf+","+asJSON)
	}
	if len(q.body) > 0 {
		r.Header.Set("Content-Type", w.as)
		if q.contentType != "" {
			r.Header.Set("Content-Type", q.contentType)
		}
	}
	resp, err := w.http.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode/100 != 2 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 500))
		resp.Body.Close()
		return nil, fmt.Errorf("%s %s: %s: %q", q.method, q.path, resp.Status, text)
	}
	return resp.Body, nil
}

// do sends a request and reads the answer to its end.
func (w *wire) do(ctx context.Context, q request) error {
	body, err := w.open(ctx, q)
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(io.Discard, body)
	return err
}

// hear reads a watch up to its n-th event.
func (w *wire) hear(body io.Reader, n int) error {
	r := bufio.NewReaderSize(body, 32<<10)
	for i := range n {
		var err error
		if w.as == asProtobuf { // each event has its length before it
			var size [4]byte
			if _, err = io.ReadFull(r, size[:]); err == nil {
				_, err = r.Discard(int(binary.BigEndian.Uint32(size[:])))
			}
		} else {
			err = line(r)
		}
		if err != nil {
			return fmt.Errorf("a watch ended after %d of %d events: %w", i, n, err)
		}
	}
	return nil
}

// line skips one line of any length.
func line(r *bufio.Reader) error {
	for {
		_, err := r.ReadSlice('\n')
		if err != bufio.ErrBufferFull {
			return err
		}
	}
}

// encoded is an object as the body of a request.
func encoded(obj runtime.Object, contentType string) ([]byte, error) {
	info, ok := runtime.SerializerInfoForMediaType(scheme.Codecs.SupportedMediaTypes(), contentType)
	if !ok {
		return nil, fmt.Errorf("no way to encode %s", contentType)
	}
	gvks, _, err := scheme.Scheme.ObjectKinds(obj)
	if err != nil {
		return nil, err
	}
	return runtime.Encode(scheme.Codecs.EncoderForVersion(info.Serializer, gvks[0].GroupVersion()), obj)
}
