package api

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"sampan/cluster/request"
)

func TestParseRoute(t *testing.T) {
	v1, apps := schema.GroupVersion{Version: "v1"}, schema.GroupVersion{Group: "apps", Version: "v1"}
	for _, tc := range []struct {
		path string
		want route
	}{
		{"/", route{}},
		{"/api/v1", route{}},
		{"/apis/apps/v1", route{}},
		{"/api/v1/nodes", route{Prefix: "api", GV: v1, Resource: "nodes"}},
		{"/api/v1/nodes/", route{Prefix: "api", GV: v1, Resource: "nodes"}},
		{"/api/v1/nodes/a/status", route{Prefix: "api", GV: v1, Resource: "nodes", Name: "a", Subresource: "status"}},
		{"/api/v1/namespaces", route{Prefix: "api", GV: v1, Resource: "namespaces"}},
		{"/api/v1/namespaces/d", route{Prefix: "api", GV: v1, Resource: "namespaces", Name: "d"}},
		{"/api/v1/namespaces/d/finalize", route{Prefix: "api", GV: v1, Resource: "namespaces", Name: "d", Subresource: "finalize"}},
		{"/api/v1/namespaces/d/pods", route{Prefix: "api", GV: v1, Resource: "pods", Namespace: "d"}},
		{"/api/v1/namespaces/d/pods/x/log", route{Prefix: "api", GV: v1, Resource: "pods", Namespace: "d", Name: "x", Subresource: "log"}},
		{"/apis/apps/v1/namespaces/d/deployments/x", route{Prefix: "apis", GV: apps, Resource: "deployments", Namespace: "d", Name: "x"}},
		{"/apis/apps/v1/watch/deployments", route{Prefix: "apis", GV: apps, Resource: "deployments", Watch: true}},
		{"/api/v1/namespaces/d/services/http:x:80/proxy/a/b/", route{Prefix: "api", GV: v1, Resource: "services", Namespace: "d", Name: "http:x:80", Subresource: "proxy", Rest: "a/b/"}},
		{"/api/v1/namespaces//pods", route{Prefix: "api", GV: v1, Resource: "pods", Anywhere: true}},
		{"/api/v1/namespaces//pods/x", route{Prefix: "api", GV: v1, Resource: "pods", Anywhere: true, Name: "x"}},
		{"/api/v1/namespaces//", route{Prefix: "api", GV: v1, Resource: "namespaces"}},
		{"/api/v1/namespaces//status", route{}},
		{"/api/v1//nodes", route{}},
		{"//api/v1/nodes", route{}},
		{"/api/v1/nodes/a/status/more/x", route{Prefix: "api", GV: v1, Resource: "nodes", Name: "a", Subresource: "status", Rest: "more/x", Beyond: true}},
	} {
		tc.want.Path = tc.path
		if got := parseRoute(tc.path); got != tc.want {
			t.Errorf("%s\ngot  %+v\nwant %+v", tc.path, got, tc.want)
		}
	}
}

func TestVerbs(t *testing.T) {
	for _, tc := range []struct{ method, path, query, want string }{
		{"GET", "/api/v1/nodes", "", "list"},
		{"GET", "/api/v1/nodes", "watch=1", "watch"},
		{"GET", "/api/v1/nodes", "watch=true", "watch"},
		{"GET", "/api/v1/nodes", "watch", "watch"},
		{"GET", "/api/v1/nodes", "watch=false", "list"},
		{"GET", "/api/v1/nodes", "watch=0", "list"},
		{"GET", "/api/v1/watch/nodes", "", "watch"},
		{"GET", "/api/v1/nodes/a", "", "get"},
		{"POST", "/api/v1/nodes", "", "create"},
		{"PUT", "/api/v1/nodes/a", "", "update"},
		{"PATCH", "/api/v1/nodes/a", "", "patch"},
		{"DELETE", "/api/v1/nodes/a", "", "delete"},
		{"DELETE", "/api/v1/nodes", "", "deletecollection"},
		{"TRACE", "/api/v1/nodes", "", ""},
	} {
		q, err := url.ParseQuery(tc.query)
		if err != nil {
			t.Fatal(err)
		}
		if got := parseRoute(tc.path).verb(tc.method, q); got != tc.want {
			t.Errorf("%s %s?%s is %q, want %q", tc.method, tc.path, tc.query, got, tc.want)
		}
	}
}

func TestManagerOf(t *testing.T) {
	for agent, want := range map[string]string{
		"kubectl/v1.37 (linux/amd64)": "kubectl", "": "", "/x": "", "a\x00b/1": "ab",
		strings.Repeat("x", 500): strings.Repeat("x", 128),
	} {
		if got := managerOf(agent); got != want {
			t.Errorf("%q gives %q, want %q", agent, got, want)
		}
	}
}

// FuzzRoute: whatever a path is, it is a path or a resource, and nothing of
// it is lost or made up.
func FuzzRoute(f *testing.F) {
	for _, p := range []string{"/", "/api/v1/namespaces/d/pods/x/proxy/a//b/", "/apis/a/b/watch/c", "//", "/api/v1/watch", "/api/v1/namespaces/x/status", "/api/v1/namespaces//pods"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, path string) {
		r := parseRoute(path)
		if r.Path != path {
			t.Fatalf("path %q became %q", path, r.Path)
		}
		if r.Resource == "" {
			if r != (route{Path: path}) {
				t.Fatalf("%q is no resource and yet %+v", path, r)
			}
			return
		}
		parts := []string{r.Prefix}
		if r.Prefix == "apis" {
			parts = append(parts, r.GV.Group)
		}
		parts = append(parts, r.GV.Version)
		if r.Watch {
			parts = append(parts, "watch")
		}
		if r.Namespace != "" || r.Anywhere {
			parts = append(parts, "namespaces", r.Namespace)
		}
		parts = append(parts, r.Resource)
		for _, p := range []string{r.Name, r.Subresource, r.Rest} {
			if p != "" {
				parts = append(parts, p)
			}
		}
		if got, want := strings.Trim(strings.Join(parts, "/"), "/"), strings.Trim(path, "/"); got != want {
			t.Fatalf("%q is read as %q", want, got)
		}
	})
}

// FuzzQuery: every query gives options or a Status of 400 or 422.
func FuzzQuery(f *testing.F) {
	for _, q := range []string{"limit=1&continue=x", "watch=1&timeoutSeconds=-1", "dryRun=All&fieldManager=%00", "force=x",
		"gracePeriodSeconds=0&propagationPolicy=Orphan", "timeout=1h", "sinceTime=x&tailLines=1", "preconditions=x&uid=1"} {
		f.Add(q, "x/y")
	}
	f.Fuzz(func(t *testing.T, query, agent string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		var r request.Request
		_, e1 := getOptions(q)
		_, e2 := listOptions(q)
		_, e3 := deleteOptions(q, nil, "", &r)
		_, e4 := tableOptions(q)
		_, e5 := timeout(q, time.Minute)
		_, e6 := logOptions(q)
		for i, err := range []error{e1, e2, e3, e4, e5, e6, createOptions(q, agent, &r), updateOptions(q, agent, &r),
			patchOptions(q, agent, types.ApplyYAMLPatchType, &r)} {
			if err != nil && !apierrors.IsBadRequest(err) && !apierrors.IsInvalid(err) {
				t.Errorf("%d: %q gives %v", i, query, err)
			}
		}
		if len(managerOf(agent)) > 128 {
			t.Errorf("manager %q is too long", managerOf(agent))
		}
	})
}

// FuzzAccept: a header gives a form that the endpoint has, or 406.
func FuzzAccept(f *testing.F) {
	for _, h := range []string{"*/*;q=0.1, application/json;as=Table;v=v1;g=meta.k8s.io", ";;,", "a/b;q=x", "application/yaml;q=1e999"} {
		f.Add(h, true)
	}
	f.Fuzz(func(t *testing.T, header string, stream bool) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Accept"] = []string{header}
		a, err := negotiate(r, offer{yamlOff: stream})
		if err != nil {
			if !apierrors.IsNotAcceptable(err) {
				t.Errorf("%q gives %v", header, err)
			}
			return
		}
		if a.mediaType != "application/json" && a.mediaType != "application/yaml" {
			t.Errorf("%q gives %+v", header, a)
		}
	})
}
