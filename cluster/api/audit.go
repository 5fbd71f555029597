package api

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"strings"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"sampan/cluster/audit"
	"sampan/cluster/kind"
	"sampan/cluster/object"
	"sampan/cluster/request"
)

// beginAudit begins the record of the request, if the policy wants one. An
// error is the answer: what must be recorded and cannot is not done.
// (Upstream: endpoints/filters/audit.go.)
func (c *call) beginAudit() error {
	c.record = c.s.cfg.Audit.Begin(c.r, c.began, c.auditAttributes())
	if c.record == nil {
		return nil
	}
	c.w.Header()[audit.IDHeader] = []string{c.record.ID()}
	c.w = &auditWriter{ResponseWriter: c.w, record: c.record, lasts: c.lasts()}
	if err := c.record.Stage(auditv1.StageRequestReceived); err != nil {
		return apierrors.NewInternalError(errors.New("failed to store audit event"))
	}
	return nil
}

// endAudit ends the record. It is deferred, so that a panic is recorded too.
func (c *call) endAudit() {
	if c.record == nil {
		return
	}
	if p := recover(); p != nil {
		c.record.Panicked(p)
		c.w, c.record = c.w.(*auditWriter).ResponseWriter, nil // the answer follows, and is not told of
		panic(p)
	}
	if !c.record.Answered() { // and nothing was said of why
		c.record.Status(metav1.Status{Code: http.StatusOK, Status: metav1.StatusSuccess, Message: "Connection closed early"})
		if c.lasts() {
			_ = c.record.Stage(auditv1.StageResponseStarted)
		}
	}
	c.auditDeprecated()
	_ = c.record.Stage(auditv1.StageResponseComplete) // it has happened
}

// auditStranger records a request whose credentials are bad.
func (c *call) auditStranger() {
	if c.record = c.s.cfg.Audit.Begin(c.r, c.began, c.auditAttributes()); c.record == nil {
		return
	}
	c.w.Header()[audit.IDHeader] = []string{c.record.ID()}
	var tried []string
	if _, _, ok := c.r.BasicAuth(); ok {
		tried = append(tried, "basic")
	}
	if scheme, _, more := strings.Cut(strings.TrimSpace(c.r.Header.Get("Authorization")), " "); more && strings.EqualFold(scheme, "bearer") {
		tried = append(tried, "bearer")
	}
	if c.r.TLS != nil && len(c.r.TLS.PeerCertificates) > 0 {
		tried = append(tried, "x509")
	}
	text := "Authentication failed, no credentials provided"
	if tried != nil {
		text = "Authentication failed, attempted: " + strings.Join(tried, ", ")
	}
	c.record.Status(metav1.Status{Message: text, Code: http.StatusUnauthorized})
	_ = c.record.Stage(auditv1.StageResponseStarted) // the answer is a refusal already
	c.record = nil
}

// auditAttributes are what the policy looks at.
func (c *call) auditAttributes() audit.Attributes {
	r := c.route
	a := audit.Attributes{User: auditUser(c.user), Path: c.r.URL.Path, Verb: c.asked}
	if r.Resource != "" {
		a.Namespace, a.Name, a.Resource, a.Subresource = r.Namespace, r.Name, r.Resource, r.Subresource
		a.Group, a.Version = r.GV.Group, r.GV.Version
		if a.Group == "" && a.Resource == "namespaces" {
			a.Namespace = a.Name // upstream: RequestInfo
		}
	}
	return a
}

func auditUser(u request.User) audit.User {
	return audit.User{Name: u.Name, UID: u.UID, Groups: u.Groups, Extra: u.Extra}
}

// annotate is what request.Request and auth.Attributes take annotations with;
// nil if nobody listens.
func (c *call) annotate() func(key, value string, detail bool) {
	if c.record == nil {
		return nil
	}
	return c.record.Annotate
}

// auditBody notes what was sent, in the version it was sent in and as JSON.
func (c *call) auditBody(data []byte) {
	if c.record == nil || len(data) == 0 {
		return
	}
	if c.r.Method == http.MethodPatch {
		if kind, err := patchType(c.r); err == nil && kind == types.ApplyYAMLPatchType {
			if data, err = object.YAMLToJSON(data); err != nil {
				return // it is refused
			}
		}
		c.record.Patch(data)
		return
	}
	mt, err := bodyType(c.r, true)
	if err != nil {
		return
	}
	obj := c.auditObject(data, mt)
	if obj == nil {
		if mt == object.JSON {
			c.record.Request(data)
		}
		return
	}
	if out, err := c.s.codec.Encode(nil, obj, object.JSON); err == nil {
		c.record.Request(out)
	}
}

// auditObject reads what was sent; nil where that cannot be known or read.
func (c *call) auditObject(data []byte, mt string) runtime.Object {
	if c.r.Method == http.MethodDelete {
		o := &metav1.DeleteOptions{}
		if object.DecodeOptions(o, "DeleteOptions", data, mt) != nil {
			return nil
		}
		return o
	}
	if v := c.s.virtualAt(c.route); v != nil {
		o := v.new()
		if _, err := object.DecodeInto(o, v.gvk, data, mt, object.Ignore); err != nil {
			return nil
		}
		return o
	}
	k := c.s.cfg.Kinds.ByGVR(c.route.GV.WithResource(c.route.Resource))
	if k == nil {
		return nil
	}
	if c.route.Subresource == "scale" {
		s := &autoscalingv1.Scale{}
		if _, err := object.DecodeInto(s, autoscalingv1.SchemeGroupVersion.WithKind("Scale"), data, mt, object.Ignore); err != nil {
			return nil
		}
		return s
	}
	if _, part := k.Parts[c.route.Subresource]; c.route.Subresource != "" && !part {
		return nil // an action, whose body is another kind: recorded if it is JSON
	}
	gvk := versionOf(k, c.route.GV)
	body, err := c.s.codec.Decode(k, gvk, data, mt, object.Ignore)
	if err != nil {
		return nil
	}
	k.Default(body.Object)
	out, err := object.As(k, body.Object, gvk)
	if err != nil {
		return nil
	}
	return out
}

// auditAnswer notes an object answered with; data is it in JSON, nil if it
// was sent in another form.
func (c *call) auditAnswer(obj runtime.Object, data []byte) {
	if c.record == nil {
		return
	}
	if s, ok := obj.(*metav1.Status); ok {
		c.record.Status(*s)
	}
	if _, response := c.record.Bodies(); !response {
		return
	}
	var err error
	if data == nil {
		if data, err = c.s.codec.Encode(nil, obj, object.JSON); err != nil {
			return
		}
	}
	c.record.Response(append([]byte(nil), data...)) // the buffer is used again
}

// asJSON is data if that is JSON.
func asJSON(a accepted, data []byte) []byte {
	if a.mediaType == object.JSON {
		return data
	}
	return nil
}

// auditList notes a list answered with, which is otherwise sent as it is made.
func (c *call) auditList(r request.Request, meta metav1.ListMeta, objs []kind.Object) {
	if c.record == nil {
		return
	}
	if _, response := c.record.Bodies(); !response {
		return
	}
	var whole bytesWriter
	if err := c.s.codec.EncodeList(&whole, r.Kind, r.GVK, meta, objs, object.JSON); err == nil {
		c.record.Response(whole.data)
	}
}

// auditWriter sees the code of the answer, and when it begins.
type auditWriter struct {
	http.ResponseWriter
	record *audit.Record
	lasts  bool
	begun  bool
}

// Unwrap is for http.ResponseController.
func (w *auditWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *auditWriter) begin(code int) {
	if w.begun || code >= 100 && code < 200 && code != http.StatusSwitchingProtocols {
		return
	}
	w.begun = true
	w.record.Code(code)
	if w.lasts {
		_ = w.record.Stage(auditv1.StageResponseStarted) // it has begun
	}
}

func (w *auditWriter) WriteHeader(code int) {
	w.begin(code)
	w.ResponseWriter.WriteHeader(code)
}

func (w *auditWriter) Write(data []byte) (int, error) {
	w.begin(http.StatusOK)
	return w.ResponseWriter.Write(data)
}

// Flush is for what asks for an http.Flusher.
func (w *auditWriter) Flush() {
	w.begin(http.StatusOK)
	_ = http.NewResponseController(w.ResponseWriter).Flush() // the next write says what is wrong
}

// Hijack is for upgrades to WebSockets.
func (w *auditWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.begin(http.StatusSwitchingProtocols)
	return http.NewResponseController(w.ResponseWriter).Hijack()
}
