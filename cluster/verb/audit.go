package verb

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"sigs.k8s.io/yaml"

	"sampan/cluster/audit"
	"sampan/cluster/client"
	"sampan/cluster/kind"
	"sampan/cluster/object"
	"sampan/cluster/request"
)

// What parts of this program ask through Local is recorded as if it had come
// over HTTP, where upstream's parts come from: the same stages, user, verb,
// object and annotations. (Package api does it for what does come so.)

// sent is what comes with a request: one of its fields, or nothing.
type sent struct {
	object  apiruntime.Object // in the version of the request
	patch   *client.Patch
	options *metav1.DeleteOptions
}

// listed is the answer to a list of Local's.
type listed struct{ objects []kind.Object }

// recorded does what r asks, and tells the audit trail before and after. code
// is of the answer if there is no error.
func recorded[T any](a *API, r request.Request, s sent, do func(r request.Request) (answer T, code int, err error)) (answer T, err error) {
	if a.Audit == nil {
		answer, _, err = do(r)
		return answer, err
	}
	rec := a.record(&r, s)
	if rec == nil {
		answer, _, err = do(r)
		return answer, err
	}
	if rec.Stage(auditv1.StageRequestReceived) != nil {
		return answer, apierrors.NewInternalError(errUnrecorded)
	}
	defer func() {
		if p := recover(); p != nil {
			rec.Panicked(p)
			panic(p)
		}
	}()
	answer, code, err := do(r)
	if err != nil {
		a.recordError(rec, err)
	} else {
		a.recordAnswer(rec, r, answer)
		rec.Code(code)
	}
	_ = rec.Stage(auditv1.StageResponseComplete) // it has happened
	return answer, err
}

// recordedWatch is recorded for what lasts until ctx ends.
func recordedWatch(ctx context.Context, a *API, r request.Request, do func(r request.Request) (client.Watcher, error)) (client.Watcher, error) {
	rec := a.record(&r, sent{})
	if rec == nil {
		return do(r)
	}
	if rec.Stage(auditv1.StageRequestReceived) != nil {
		return nil, apierrors.NewInternalError(errUnrecorded)
	}
	w, err := do(r)
	if err != nil {
		a.recordError(rec, err)
		_ = rec.Stage(auditv1.StageResponseStarted) // the answer is all there is
		_ = rec.Stage(auditv1.StageResponseComplete)
		return nil, err
	}
	rec.Code(http.StatusOK)
	_ = rec.Stage(auditv1.StageResponseStarted)
	context.AfterFunc(ctx, func() { _ = rec.Stage(auditv1.StageResponseComplete) })
	return w, nil
}

var errUnrecorded = errors.New("failed to store audit event")

// record begins the record of a request and has it annotated; nil if the
// policy wants none. What was sent is encoded only if the policy wants it.
func (a *API) record(r *request.Request, s sent) *audit.Record {
	asked := *r
	rec := a.Audit.BeginLocal(func() audit.Call { return callOf(asked, s) }, time.Now(), attributes(asked))
	if rec == nil {
		return nil
	}
	r.Annotate = rec.Annotate
	bodies, _ := rec.Bodies()
	switch {
	case s.patch != nil && bodies:
		if data := patchAsJSON(s.patch); data != nil {
			rec.Patch(data)
		}
	case s.object != nil:
		a.recordSent(rec, r.Kind, s.object, bodies)
	case r.Verb == "delete" && bodies:
		o := metav1.DeleteOptions{}
		if s.options != nil {
			s.options.DeepCopyInto(&o)
		}
		o.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "DeleteOptions"}
		a.recordSent(rec, nil, &o, bodies)
	}
	return rec
}

// recordSent notes an object as it was sent, with the defaults that it gets
// before anybody looks at it.
func (a *API) recordSent(rec *audit.Record, k *kind.Kind, obj apiruntime.Object, bodies bool) {
	if !bodies {
		if m, ok := obj.(metav1.Object); ok {
			rec.About(m.GetNamespace(), m.GetName(), m.GetUID(), m.GetResourceVersion())
		}
		return
	}
	if hub, ok := obj.(kind.Object); ok && k != nil && hub.GetObjectKind().GroupVersionKind() == k.GVK {
		hub = hub.DeepCopyObject().(kind.Object)
		k.Default(hub)
		obj = hub
	}
	if data, err := a.codec.Encode(nil, obj, object.JSON); err == nil {
		rec.Request(data)
	}
}

func (a *API) recordAnswer(rec *audit.Record, r request.Request, answer any) {
	if s, ok := answer.(*metav1.Status); ok {
		rec.Status(*s)
	}
	if _, bodies := rec.Bodies(); !bodies {
		return
	}
	switch answer := answer.(type) {
	case listed:
		var whole writer
		if err := a.codec.EncodeList(&whole, r.Kind, r.GVK, metav1.ListMeta{}, answer.objects, object.JSON); err == nil {
			rec.Response(whole.data)
		}
	case apiruntime.Object:
		if data, err := a.codec.Encode(nil, answer, object.JSON); err == nil {
			rec.Response(data)
		}
	}
}

// writer keeps what is written to it.
type writer struct{ data []byte }

func (w *writer) Write(p []byte) (int, error) {
	w.data = append(w.data, p...)
	return len(p), nil
}

// recordError notes the answer that an error would be over HTTP.
func (a *API) recordError(rec *audit.Record, err error) {
	var known apierrors.APIStatus
	var status metav1.Status
	switch {
	case errors.As(err, &known):
		status = known.Status()
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		status = apierrors.NewTimeoutError("the request was cancelled", 0).ErrStatus
	default:
		status = apierrors.NewInternalError(err).ErrStatus
	}
	status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	a.recordAnswer(rec, request.Request{}, &status)
}

// attributes are what the policy looks at.
func attributes(r request.Request) audit.Attributes {
	a := audit.Attributes{User: audit.User{Name: r.User.Name, UID: r.User.UID, Groups: r.User.Groups, Extra: r.User.Extra}, Verb: r.Verb,
		Namespace: r.Namespace, Group: r.GVK.Group, Version: r.GVK.Version, Resource: r.Kind.Plural, Subresource: r.Subresource, Name: r.Name}
	if a.Group == "" && a.Resource == "namespaces" {
		a.Namespace = a.Name // upstream: RequestInfo
	}
	return a
}

// callOf is the request that upstream's part would send for r.
func callOf(r request.Request, s sent) audit.Call {
	var path strings.Builder
	if r.GVK.Group == "" {
		path.WriteString("/api/" + r.GVK.Version)
	} else {
		path.WriteString("/apis/" + r.GVK.Group + "/" + r.GVK.Version)
	}
	if r.Namespace != "" && !r.Kind.Cluster {
		path.WriteString("/namespaces/" + r.Namespace)
	}
	path.WriteString("/" + r.Kind.Plural)
	for _, part := range []string{r.Name, r.Subresource} {
		if part != "" && r.Verb != "list" && r.Verb != "watch" {
			path.WriteString("/" + part)
		}
	}
	q := url.Values{}
	if r.Fields != nil && !r.Fields.Empty() {
		q.Set("fieldSelector", r.Fields.String())
	} else if r.Name != "" && (r.Verb == "list" || r.Verb == "watch") {
		q.Set("fieldSelector", "metadata.name="+r.Name)
	}
	if r.Labels != nil && !r.Labels.Empty() {
		q.Set("labelSelector", r.Labels.String())
	}
	switch {
	case r.Verb == "watch":
		q.Set("allowWatchBookmarks", "true")
		q.Set("resourceVersionMatch", string(metav1.ResourceVersionMatchNotOlderThan))
		q.Set("sendInitialEvents", "true")
		q.Set("watch", "true")
	case s.patch != nil && s.patch.Type == types.ApplyYAMLPatchType:
		q.Set("fieldManager", r.FieldManager)
		if r.Force {
			q.Set("force", "true")
		}
	}
	uri := (&url.URL{Path: path.String(), RawQuery: q.Encode()}).RequestURI()
	return audit.Call{URI: uri, UserAgent: agent(r.User), SourceIPs: []string{"127.0.0.1"}}
}

// agent tells which part of upstream's would ask, and that it is in here.
func agent(u request.User) string {
	text := component(u) + "/sampan (" + runtime.GOOS + "/" + runtime.GOARCH + ") in-process"
	if strings.HasPrefix(u.Name, "system:serviceaccount:") {
		text += "/" + u.Name
	}
	return text
}

// patchAsJSON is a patch as events have it; nil if it is none.
func patchAsJSON(p *client.Patch) []byte {
	if p.Type != types.ApplyYAMLPatchType {
		return p.Data
	}
	data, err := yaml.YAMLToJSON(p.Data)
	if err != nil {
		return nil
	}
	return data
}
