package api

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/auth"
	"sampan/cluster/kind"
	"sampan/cluster/object"
	"sampan/cluster/request"
	"sampan/cluster/verb"
)

// resource answers a request for objects.
func (c *call) resource() {
	if (c.route.Prefix == "api") != (c.route.GV.Group == "") {
		c.notFound() // /apis//v1 and /api/<group> do not exist
		return
	}
	if c.route.Beyond {
		c.nowhere(c.asked)
		return
	}
	if v := c.s.virtualAt(c.route); v != nil {
		c.review(v)
		return
	}
	if c.components() {
		return
	}
	k := c.s.cfg.Kinds.ByGVR(c.route.GV.WithResource(c.route.Resource))
	query := c.query
	if k == nil {
		c.nowhere(c.asked)
		return
	}
	r := request.Request{
		Verb: c.asked, Kind: k, GVK: versionOf(k, c.route.GV),
		Namespace: c.route.Namespace, Name: c.route.Name, Subresource: c.route.Subresource,
		User: c.user, Warn: c.warn, Annotate: c.annotate(),
	}
	c.verb = r.Verb
	if k.Cluster && (r.Namespace != "" || c.route.Anywhere) || !k.Cluster && r.Namespace == "" && r.Name != "" && !c.route.Anywhere {
		c.notFound()
		return
	}
	if c.route.Anywhere && (r.Name != "" || r.Verb == "deletecollection") {
		c.refuse(r, apierrors.NewBadRequest("Namespace parameter required."))
		return
	}
	if t, ok := throughs[c.throughKey()]; ok && r.Name != "" {
		c.through(t, r, query)
		return
	}
	do, known := c.handler(k, r)
	if !known {
		c.nowhere(r.Verb)
		return
	}
	if do == nil || c.r.Method == http.MethodHead {
		c.methodNotAllowed()
		return
	}
	c.deprecated(k, r)
	if r.Verb == "watch" {
		c.watch(r, query)
		return
	}
	do(c.r.Context(), r, query)
}

type handler func(ctx context.Context, r request.Request, q url.Values)

// handler finds what answers r. known is false where nothing is served at the
// path, whatever the method.
func (c *call) handler(k *kind.Kind, r request.Request) (do handler, known bool) {
	switch {
	case r.Subresource == "":
		switch r.Verb {
		case "get":
			return c.get, true
		case "list":
			return c.list, true
		case "watch":
			return c.list, true // answered by watch; here only to be known
		case "create":
			if r.Name == "" && (k.Cluster || r.Namespace != "" || c.route.Anywhere) {
				return c.create, true
			}
		case "update":
			if r.Name != "" {
				return c.update, true
			}
		case "patch":
			if r.Name != "" {
				return c.patch, true
			}
		case "delete":
			return c.delete, true
		case "deletecollection":
			if !k.Singly && (k.Cluster || r.Namespace != "") {
				return c.deleteCollection, true
			}
		}
		return nil, true
	case r.Subresource == "scale" && k.Scale != nil, k.Parts[r.Subresource].Take != nil:
		switch {
		case r.Subresource == "finalize" && r.Verb != "update":
			return nil, true // of a namespace: upstream only writes it, and only whole
		case r.Verb == "get":
			return c.get, true
		case r.Verb == "update":
			return c.update, true
		case r.Verb == "patch":
			return c.patch, true
		}
		return nil, true
	}
	if _, ok := k.ActionsAs(r.GVK)[r.Subresource]; ok {
		if r.Verb == "create" {
			return c.act, true
		}
		return nil, true
	}
	return nil, false
}

func versionOf(k *kind.Kind, gv schema.GroupVersion) schema.GroupVersionKind {
	for _, gvk := range k.GVKs() {
		if gvk.GroupVersion() == gv {
			return gvk
		}
	}
	return k.GVK
}

func (c *call) get(ctx context.Context, r request.Request, q url.Values) {
	a, err := negotiate(c.r, c.offer(r))
	if err != nil {
		c.refuse(r, err)
		return
	}
	o, err := getOptions(q)
	if err != nil {
		c.refuse(r, err)
		return
	}
	obj, err := c.s.cfg.Verbs.Get(ctx, r, o)
	c.object(http.StatusOK, a, r, q, obj, err)
}

func (c *call) list(ctx context.Context, r request.Request, q url.Values) {
	a, err := negotiate(c.r, c.offer(r))
	if err != nil {
		c.refuse(r, err)
		return
	}
	o, err := listOptions(q)
	if err != nil {
		c.refuse(r, err)
		return
	}
	l, err := c.s.cfg.Verbs.List(ctx, r, o)
	if err != nil {
		c.fail(err)
		return
	}
	c.sendList(a, r, q, l)
}

// posted reads what comes with a POST, in upstream's order; binary says whether
// the body may be protobuf.
func (c *call) posted(r *request.Request, q url.Values, o offer, binary bool) (a accepted, body verb.Body, err error) {
	if a, err = negotiate(c.r, o); err != nil {
		return a, body, err
	}
	if body.MediaType, err = bodyType(c.r, binary); err != nil {
		return a, body, err
	}
	if body.Data, err = c.body(); err != nil {
		return a, body, err
	}
	return a, body, createOptions(q, c.r.UserAgent(), r)
}

func (c *call) create(ctx context.Context, r request.Request, q url.Values) {
	a, body, err := c.posted(&r, q, c.offer(r), r.Kind.Type != nil)
	if err != nil {
		c.refuse(r, err)
		return
	}
	obj, err := c.s.cfg.Verbs.Create(ctx, r, body)
	c.object(http.StatusCreated, a, r, q, obj, err)
}

func (c *call) update(ctx context.Context, r request.Request, q url.Values) {
	a, err := negotiate(c.r, c.offer(r))
	var data []byte
	if err == nil {
		data, err = c.body()
	}
	if err == nil {
		err = updateOptions(q, c.r.UserAgent(), &r)
	}
	var mt string
	if err == nil { // after the options, other than in a create, as upstream's
		mt, err = bodyType(c.r, r.Kind.Type != nil)
	}
	if err != nil {
		c.refuse(r, err)
		return
	}
	obj, created, err := c.s.cfg.Verbs.Update(ctx, r, verb.Body{Data: data, MediaType: mt})
	c.object(okOrCreated(created), a, r, q, obj, err)
}

func (c *call) patch(ctx context.Context, r request.Request, q url.Values) {
	pt, err := patchType(c.r)
	var a accepted
	if err == nil {
		a, err = negotiate(c.r, c.offer(r))
	}
	var data []byte
	if err == nil {
		data, err = c.body()
	}
	if err == nil {
		err = patchOptions(q, c.r.UserAgent(), pt, &r)
	}
	if err != nil {
		c.refuse(r, err)
		return
	}
	obj, created, err := c.s.cfg.Verbs.Patch(ctx, r, pt, data)
	c.object(okOrCreated(created), a, r, q, obj, err)
}

func okOrCreated(created bool) int {
	if created {
		return http.StatusCreated
	}
	return http.StatusOK
}

func (c *call) delete(ctx context.Context, r request.Request, q url.Values) {
	a, err := negotiate(c.r, c.offer(r))
	var o *metav1.DeleteOptions
	if err == nil {
		o, err = c.deleteOptions(&r, q)
	}
	if err != nil {
		c.refuse(r, err)
		return
	}
	out, done, err := c.s.cfg.Verbs.Delete(ctx, r, o)
	if err != nil {
		c.fail(err)
		return
	}
	code := http.StatusOK
	if !done && o.OrphanDependents != nil && !*o.OrphanDependents {
		code = http.StatusAccepted // upstream: handlers/delete.go
	}
	if obj, ok := out.(kind.Object); ok {
		c.object(code, a, r, q, obj, nil)
		return
	}
	c.send(code, accepted{mediaType: a.mediaType, pretty: a.pretty}, out)
}

func (c *call) deleteOptions(r *request.Request, q url.Values) (*metav1.DeleteOptions, error) {
	data, err := c.body()
	if err != nil {
		return nil, err
	}
	mt := object.JSON
	if len(data) > 0 {
		if mt, err = bodyType(c.r, true); err != nil {
			return nil, err
		}
	}
	return deleteOptions(q, data, mt, r)
}

func (c *call) deleteCollection(ctx context.Context, r request.Request, q url.Values) {
	a, err := negotiate(c.r, c.offer(r))
	var l metav1.ListOptions
	if err == nil {
		l, err = listOptions(q)
	}
	if err == nil {
		err = verb.Selectable(r, l)
	}
	var o *metav1.DeleteOptions
	if err == nil {
		o, err = c.deleteOptions(&r, q)
	}
	if err != nil {
		c.refuse(r, err)
		return
	}
	out, err := c.s.cfg.Verbs.DeleteCollection(ctx, r, o, l)
	if err != nil {
		c.fail(err)
		return
	}
	c.sendList(a, r, q, out)
}

// act posts to a subresource whose body is a kind of its own.
func (c *call) act(ctx context.Context, r request.Request, q url.Values) {
	a, body, err := c.posted(&r, q, offer{protobuf: true, plain: true}, true)
	if err != nil {
		c.refuse(r, err)
		return
	}
	out, err := c.s.cfg.Verbs.Act(ctx, r, body)
	if err != nil {
		c.fail(err)
		return
	}
	c.send(http.StatusCreated, a, out) // whatever code a Status may name, as upstream's create
}

func (c *call) offer(r request.Request) offer {
	return offer{protobuf: r.Kind.Type != nil}
}

// object answers with one object of r's kind, in the version asked for.
func (c *call) object(code int, a accepted, r request.Request, q url.Values, obj kind.Object, err error) {
	if err != nil {
		c.fail(err)
		return
	}
	out, err := c.shape(a, r, q, obj)
	if err != nil {
		c.fail(err)
		return
	}
	c.send(code, a, out)
}

// shape makes of a hub what the client asked for. Scale and other answers
// that are not of the kind itself stay as they are.
func (c *call) shape(a accepted, r request.Request, q url.Values, obj kind.Object) (runtime.Object, error) {
	switch a.as {
	case "Table":
		o, err := tableOptions(q)
		if err != nil {
			return nil, err
		}
		return c.s.table(a, r, o, []kind.Object{obj}, metav1.ListMeta{ResourceVersion: obj.GetResourceVersion()}, true)
	case "PartialObjectMetadata":
		return partial(obj, a.version), nil
	case "PartialObjectMetadataList":
		return nil, otherShape(a.as, "object is not a list", r, "")
	}
	if r.Subresource == "scale" {
		return obj, nil
	}
	return object.As(r.Kind, obj, r.GVK)
}

// refuse answers a request that cannot be read: who may not make it, is told
// that first.
func (c *call) refuse(r request.Request, err error) {
	if denied := c.s.cfg.Authorizer.Authorize(c.r.Context(), r); denied != nil {
		err = denied
	}
	c.fail(err)
}

// nowhere answers where nothing is served: with 404 for those who may know.
func (c *call) nowhere(verb string) {
	r := c.route
	if err := c.s.cfg.Authorizer.Check(c.r.Context(), auth.Attributes{User: c.user, Annotate: c.annotate(), Verb: verb, Group: r.GV.Group, Version: r.GV.Version,
		Resource: r.Resource, Subresource: r.Subresource, Namespace: r.Namespace, Name: r.Name}); err != nil {
		c.fail(err)
		return
	}
	c.notFound()
}

func (c *call) notFound() {
	if !c.answersStatus() {
		c.w.Header().Set("X-Content-Type-Options", "nosniff")
		c.sendBytes(http.StatusNotFound, "text/plain; charset=utf-8", []byte("404 page not found\n"))
		return
	}
	c.fail(notFound(c.r.Method))
}

// answersStatus says whether what is not found is so in the form of the API:
// below the groups that there are. Elsewhere it is a line of text. (Upstream:
// its router of paths, and the services behind it.)
func (c *call) answersStatus() bool {
	path, group := strings.CutPrefix(c.r.URL.Path, "/apis/")
	if !group {
		return strings.HasPrefix(path, "/api/") || strings.HasPrefix(path, "/version/")
	}
	name, _, _ := strings.Cut(path, "/")
	for _, g := range c.s.catalogue().groups {
		if g.Name == name && name != "" {
			return true
		}
	}
	return false
}

// notFound is what clients print for a path that nothing answers.
func notFound(method string) error {
	return apierrors.NewGenericServerResponse(http.StatusNotFound, strings.ToLower(method), schema.GroupResource{}, "", "", 0, false)
}

func (c *call) methodNotAllowed() {
	c.fail(&apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure,
		Code: http.StatusMethodNotAllowed, Reason: metav1.StatusReasonMethodNotAllowed, Details: &metav1.StatusDetails{},
		Message: "the server does not allow this method on the requested resource"}})
}
