package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"sigs.k8s.io/yaml"

	"sampan/internal/fault"
)

// buffers are reused between answers; a large one is given back to the
// collector instead.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

const keepBuffer = 64 << 10

func release(b *[]byte, used []byte) {
	if cap(used) <= keepBuffer {
		*b = used[:0]
		buffers.Put(b)
	}
}

// send answers with one object, whose apiVersion and kind are set.
func (c *call) send(code int, a accepted, obj runtime.Object) {
	b := buffers.Get().(*[]byte)
	data, err := c.s.codec.Encode((*b)[:0], obj, a.mediaType)
	if err != nil {
		release(b, data)
		c.fail(err)
		return
	}
	c.auditAnswer(obj, asJSON(a, data))
	if a.pretty {
		c.sendBytes(code, a.mediaType, indent(data))
	} else {
		c.sendBytes(code, a.mediaType, data)
	}
	release(b, data)
}

// sendBytes answers with a whole body.
func (c *call) sendBytes(code int, contentType string, data []byte) {
	h := c.w.Header()
	if _, set := h["Content-Type"]; !set {
		h.Set("Content-Type", contentType)
	}
	if len(data) > gzipAbove && c.acceptsGzip() {
		out := c.stream(code, contentType)
		out.Write(data)
		out.Close()
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(data)))
	c.code = code
	c.w.WriteHeader(code)
	if c.r.Method != http.MethodHead {
		c.w.Write(data)
		c.size += len(data)
	}
}

// gzipAbove is the size from which an answer is compressed for clients that
// take it, upstream's.
const gzipAbove = 128 << 10

// acceptsGzip says whether a long answer is to be compressed. To a client on
// this machine it is not: there is no wire on which less would be faster.
func (c *call) acceptsGzip() bool {
	return !c.near() && c.takesGzip()
}

// takesGzip says whether the client can read what is compressed.
func (c *call) takesGzip() bool {
	for _, h := range c.r.Header["Accept-Encoding"] {
		for part := range strings.SplitSeq(h, ",") {
			name, q, _ := strings.Cut(strings.TrimSpace(part), ";")
			if (name == "gzip" || name == "*") && strings.ReplaceAll(q, " ", "") != "q=0" {
				return true
			}
		}
	}
	return false
}

// near says whether the client is on this machine.
func (c *call) near() bool {
	peer, err := netip.ParseAddrPort(c.r.RemoteAddr)
	if err != nil {
		return false
	}
	here, _ := c.r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return peer.Addr().Unmap().IsLoopback() || here != nil && here.AddrPort().Addr().Unmap() == peer.Addr().Unmap()
}

// answer is a body of unknown length: what fits the first buffer is sent
// whole, the rest as it comes, compressed if the client takes that.
type answer struct {
	c     *call
	code  int
	first []byte
	zip   *gzip.Writer
	began bool
	err   error
}

var zips = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is a constant of the package
	}
	return w
}}

func (c *call) stream(code int, contentType string) *answer {
	h := c.w.Header()
	if _, set := h["Content-Type"]; !set {
		h.Set("Content-Type", contentType)
	}
	return &answer{c: c, code: code}
}

func (a *answer) Write(p []byte) (int, error) {
	if !a.began {
		if len(a.first)+len(p) <= gzipAbove {
			a.first = append(a.first, p...)
			return len(p), nil
		}
		a.begin()
	}
	return len(p), a.put(p)
}

func (a *answer) begin() {
	a.began = true
	h := a.c.w.Header()
	if a.c.acceptsGzip() {
		h.Set("Content-Encoding", "gzip")
		h.Add("Vary", "Accept-Encoding")
		a.zip = zips.Get().(*gzip.Writer)
		a.zip.Reset(a.c.w)
	}
	a.c.code = a.code
	a.c.w.WriteHeader(a.code)
	a.put(a.first)
	a.first = nil
}

func (a *answer) put(p []byte) error {
	if a.err != nil || len(p) == 0 || a.c.r.Method == http.MethodHead {
		return a.err
	}
	a.c.size += len(p)
	if a.zip != nil {
		_, a.err = a.zip.Write(p)
	} else {
		_, a.err = a.c.w.Write(p)
	}
	return a.err
}

// Close sends what is left.
func (a *answer) Close() error {
	if !a.began {
		a.c.w.Header().Set("Content-Length", strconv.Itoa(len(a.first)))
		a.began = true
		a.c.code = a.code
		a.c.w.WriteHeader(a.code)
		return a.put(a.first)
	}
	if a.zip != nil {
		if err := a.zip.Close(); a.err == nil {
			a.err = err
		}
		a.zip.Reset(io.Discard) // the pool must not hold the connection
		zips.Put(a.zip)
		a.zip = nil
	}
	return a.err
}

// abandon ends an answer that cannot be completed. If nothing was sent yet
// err is the answer; else the connection breaks, so that nobody takes a part
// for the whole.
func (a *answer) abandon(err error) {
	if !a.began {
		a.c.w.Header().Del("Content-Type")
		a.c.fail(err)
		return
	}
	a.c.s.cfg.Log.Debug("answer cut off", "path", a.c.r.URL.Path, "err", err)
	panic(http.ErrAbortHandler)
}

// fail answers with the Status that err is.
func (c *call) fail(err error) {
	status := statusOf(err)
	c.failed = err
	if status.Code >= 500 && status.Reason == metav1.StatusReasonInternalError {
		c.s.cfg.Log.Error("request failed", "method", c.r.Method, "path", c.r.URL.Path, "err", err)
	}
	if d := status.Details; d != nil && d.RetryAfterSeconds > 0 {
		c.w.Header().Set("Retry-After", strconv.Itoa(int(d.RetryAfterSeconds)))
	}
	a, nerr := negotiate(c.r, offer{protobuf: true, plain: true})
	if nerr != nil {
		a = jsonAccepted // an error is worth reading in any form
	}
	b := buffers.Get().(*[]byte)
	data, eerr := c.s.codec.Encode((*b)[:0], &status, a.mediaType)
	if eerr != nil {
		a = jsonAccepted
		if data, eerr = json.Marshal(&status); eerr != nil {
			panic(eerr) // a Status is strings and numbers
		}
	}
	c.w.Header().Del("Content-Type")
	c.auditAnswer(&status, asJSON(a, data))
	if a.pretty {
		data = indent(data)
	}
	c.sendBytes(int(status.Code), a.mediaType, data)
	release(b, data)
}

// statusOf turns any error into upstream's answer for it.
func statusOf(err error) metav1.Status {
	var status metav1.Status
	var api apierrors.APIStatus
	switch {
	case errors.As(err, &api):
		status = api.Status()
	case errors.Is(err, context.DeadlineExceeded):
		status = apierrors.NewTimeoutError("request did not complete within requested timeout - "+err.Error(), 0).ErrStatus
	case errors.Is(err, context.Canceled):
		status = apierrors.NewTimeoutError("the request was cancelled", 0).ErrStatus
	case fault.ClassOf(err) != fault.Unknown:
		status = fromFault(err)
	default:
		status = apierrors.NewInternalError(err).ErrStatus
	}
	status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	if status.Code == 0 {
		status.Code = http.StatusInternalServerError
	}
	if status.Status == "" {
		status.Status = metav1.StatusFailure
	}
	return status
}

// fromFault gives a class of failure upstream's reason.
func fromFault(err error) metav1.Status {
	class := fault.ClassOf(err)
	reasons := map[fault.Class]metav1.StatusReason{
		fault.Invalid: metav1.StatusReasonInvalid, fault.NotFound: metav1.StatusReasonNotFound,
		fault.Exists: metav1.StatusReasonAlreadyExists, fault.Conflict: metav1.StatusReasonConflict,
		fault.Forbidden: metav1.StatusReasonForbidden, fault.Unavailable: metav1.StatusReasonServiceUnavailable,
	}
	return metav1.Status{Status: metav1.StatusFailure, Code: int32(class.HTTP()), Reason: reasons[class], Message: err.Error()}
}

// warn adds a Warning header. (RFC 7234, 5.5; KEP-1693.)
func (c *call) warn(text string) {
	if c.warned[text] || len(c.warned) >= maxWarnings {
		return
	}
	header, err := utilnet.NewWarningHeader(299, "-", text)
	if err != nil {
		header, err = utilnet.NewWarningHeader(299, "-", strings.Map(printable, text))
		if err != nil {
			return // not even after clean-up can it be said in a header
		}
	}
	if c.warned == nil {
		c.warned = map[string]bool{}
	}
	c.warned[text] = true
	c.w.Header().Add("Warning", header)
}

// maxWarnings bounds the header: upstream cuts at 4 kB of text in all.
const maxWarnings = 40

func printable(r rune) rune {
	if r < ' ' || r == 0x7f {
		return ' '
	}
	return r
}

func indent(data []byte) []byte {
	var b bytes.Buffer
	if err := json.Indent(&b, data, "", "  "); err != nil {
		return data
	}
	if n := b.Len(); n > 0 && b.Bytes()[n-1] != '\n' {
		b.WriteByte('\n')
	}
	return b.Bytes()
}

// sendJSON answers with a document of the server's own.
func (c *call) sendJSON(contentType string, doc any) {
	data, err := json.Marshal(doc)
	if err != nil {
		c.fail(err)
		return
	}
	if wantsPretty(c.r) {
		data = indent(data)
	}
	c.sendBytes(http.StatusOK, contentType, data)
}

func toYAML(jsonData []byte) ([]byte, error) { return yaml.JSONToYAML(jsonData) }
