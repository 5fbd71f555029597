package api

import (
	"net/http"
	"net/url"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// route is what a URL's path and method say, without a look at the kinds.
// The zero Resource marks a path that is no resource.
type route struct {
	Path string // as given, for paths that are no resource

	Prefix      string // "api" or "apis"
	GV          schema.GroupVersion
	Resource    string
	Namespace   string
	Name        string
	Subresource string
	Rest        string // what follows proxy: "metrics/cadvisor"
	Watch       bool   // by the deprecated /watch/ prefix
	Anywhere    bool   // the name of the namespace is empty, which is all of them
	Beyond      bool   // more follows than a subresource has: nothing is there, for those who may know
}

// subresourcesOfNamespaces tells /namespaces/x/status from
// /namespaces/x/pods. (Upstream: apiserver/pkg/endpoints/request.)
var subresourcesOfNamespaces = map[string]bool{"status": true, "finalize": true}

// parseRoute takes a path apart:
//
//	/api/v1/namespaces/{namespace}/{resource}/{name}/{subresource}/{rest}
//	/apis/{group}/{version}/...
//
// It is total: whatever does not fit is a path that is no resource.
func parseRoute(path string) route {
	r := route{Path: path}
	if strings.HasPrefix(path, "//") {
		return r
	}
	segments := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case len(segments) >= 3 && segments[0] == "api":
		r.Prefix, r.GV = "api", schema.GroupVersion{Version: segments[1]}
		segments = segments[2:]
	case len(segments) >= 4 && segments[0] == "apis":
		r.Prefix, r.GV = "apis", schema.GroupVersion{Group: segments[1], Version: segments[2]}
		segments = segments[3:]
	default:
		return r
	}
	if segments[0] == "watch" && len(segments) > 1 {
		r.Watch, segments = true, segments[1:]
	}
	if segments[0] == "namespaces" && r.GV.Group == "" {
		// A namespace is an object itself, and also where others live.
		if len(segments) <= 2 || len(segments) == 3 && subresourcesOfNamespaces[segments[2]] {
			return r.with(segments)
		}
	}
	if segments[0] == "namespaces" && len(segments) > 2 {
		r.Namespace, segments = segments[1], segments[2:]
		r.Anywhere = r.Namespace == ""
	}
	return r.with(segments)
}

// with fills in {resource}/{name}/{subresource}/{rest}.
func (r route) with(segments []string) route {
	for i, s := range segments {
		if s == "" && i < 3 {
			return route{Path: r.Path} // "//" inside a path names nothing
		}
		switch i {
		case 0:
			r.Resource = s
		case 1:
			r.Name = s
		case 2:
			r.Subresource = s
		}
	}
	if len(segments) > 3 {
		r.Rest = strings.Join(segments[3:], "/")
		r.Beyond = r.Subresource != "proxy"
		if strings.HasSuffix(r.Path, "/") {
			r.Rest += "/"
		}
	}
	return r
}

// verb names what is asked of a resource, as RBAC does. (Upstream:
// RequestInfoFactory.)
func (r route) verb(method string, query url.Values) string {
	switch method {
	case http.MethodPost:
		return "create"
	case http.MethodGet, http.MethodHead:
		if r.Watch || r.Name == "" && isTrue(query, "watch") {
			return "watch"
		}
		if r.Name == "" {
			return "list"
		}
		return "get"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		if r.Name == "" {
			return "deletecollection"
		}
		return "delete"
	}
	return ""
}

// isTrue reads a flag of a query as upstream's conversion does: present and
// empty counts as set, "false" and "0" do not.
func isTrue(query url.Values, name string) bool {
	values, ok := query[name]
	if !ok || len(values) == 0 {
		return false
	}
	return !strings.EqualFold(values[0], "false") && values[0] != "0"
}
