package api

import (
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/aggregate"
	"sampan/cluster/auth"
)

// elsewhere has another server answer what it answers for, once the request
// is authorized here. It returns false where this server does.
func (c *call) elsewhere() bool {
	if c.s.cfg.Aggregate == nil {
		return false
	}
	state := c.s.cfg.Aggregate.State()
	if len(state.Remotes()) == 0 {
		return false
	}
	gv, rest, ok := groupVersionIn(c.r.URL.Path)
	if !ok {
		return false
	}
	to := state.At(gv)
	if to == nil {
		return false
	}
	a := c.attributes(gv, rest)
	c.verb = a.Verb
	a.Annotate = c.annotate()
	if err := c.s.cfg.Authorizer.Check(c.r.Context(), a); err != nil {
		c.fail(err)
		return true
	}
	c.passOn(to)
	return true
}

// passOn has another server answer what is authorized.
func (c *call) passOn(to *aggregate.Remote) {
	c.settled()   // the other server has limits of its own
	var of series // of what does not last there is no count
	if c.lasts() {
		of = c.seriesOf()
		of.group, of.version, of.verb = c.route.GV.Group, c.route.GV.Version, "CONNECT"
		if c.asked == "watch" {
			of.verb = "WATCH"
		}
	}
	ctx, end := c.s.long.begin(c.r.Context(), of)
	defer end()
	if err := c.s.cfg.Aggregate.Pass(ctx, &noted{ResponseWriter: c.w, c: c}, c.r, to, c.user); err != nil {
		c.fail(apierrors.NewTimeoutError("request did not complete within the allotted timeout", 0))
	}
}

// groupVersionIn is the group version that a path is below, and what follows.
func groupVersionIn(path string) (gv schema.GroupVersion, rest []string, ok bool) {
	segments := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case len(segments) >= 2 && segments[0] == "api":
		return schema.GroupVersion{Version: segments[1]}, segments[2:], true
	case len(segments) >= 3 && segments[0] == "apis":
		return schema.GroupVersion{Group: segments[1], Version: segments[2]}, segments[3:], true
	}
	return gv, nil, false
}

// attributes are what authorization looks at of a request for another server, whose
// paths may be longer than ours. (Upstream: RequestInfoFactory.)
func (c *call) attributes(gv schema.GroupVersion, rest []string) auth.Attributes {
	a := auth.Attributes{User: c.user, Verb: strings.ToLower(c.r.Method), Path: c.r.URL.Path}
	if len(rest) == 0 {
		return a
	}
	prefix := "/apis/" + gv.Group + "/" + gv.Version + "/"
	if gv.Group == "" {
		prefix = "/api/" + gv.Version + "/"
	}
	r := parseRoute(prefix + strings.Join(rest, "/"))
	for n := len(rest) - 1; r.Resource == "" && n > 0; n-- {
		r = parseRoute(prefix + strings.Join(rest[:n], "/")) // what follows a subresource does not count
	}
	if r.Resource == "" {
		return a
	}
	return auth.Attributes{User: c.user, Verb: r.verb(c.r.Method, c.query), Group: gv.Group, Version: gv.Version,
		Resource: r.Resource, Subresource: r.Subresource, Namespace: r.Namespace, Name: r.Name}
}

// noted writes down the status of an answer that another server gives.
type noted struct {
	http.ResponseWriter
	c *call
}

// WriteHeader implements http.ResponseWriter.
func (n *noted) WriteHeader(code int) {
	if code >= 200 || code == http.StatusSwitchingProtocols {
		n.c.code = code
	}
	n.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (n *noted) Write(data []byte) (int, error) {
	if n.c.code == 0 {
		n.c.code = http.StatusOK
	}
	return n.ResponseWriter.Write(data)
}

// Unwrap lets answers be flushed and connections taken over.
func (n *noted) Unwrap() http.ResponseWriter { return n.ResponseWriter }

// others are the documents of other servers for OpenAPI; none where there are
// no other servers.
func (c *call) others() *aggregate.Aggregator {
	a := c.s.cfg.Aggregate
	if a == nil || len(a.State().Remotes()) == 0 {
		return nil
	}
	return a
}
