package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/version"
)

func TestWhoMayWhat(t *testing.T) {
	w := newWorld(t)
	for _, tc := range []struct {
		it, method, path string
		client           *http.Client
		code             int
		message          string
		header           []string
	}{
		{it: "shows health to anybody", path: "/healthz", client: w.as(""), code: 200},
		{it: "shows the version to anybody", path: "/version", client: w.as(""), code: 200},
		{it: "forbids all else to anonymous", path: "/api", client: w.as(""), code: 403,
			message: `forbidden: User "system:anonymous" cannot get path "/api"`},
		{it: "forbids objects to anonymous", path: "/api/v1/namespaces/d/configmaps/x", client: w.as(""), code: 403,
			message: `configmaps "x" is forbidden: User "system:anonymous" cannot get resource "configmaps" in API group "" in the namespace "d"`},
		{it: "refuses a bad token", path: "/healthz", client: w.as(""), code: 401, message: "Unauthorized", header: []string{"Authorization", "Bearer x"}},
		{it: "refuses a certificate of another authority", path: "/healthz", client: (&world{authority: newAuthority(t), t: t}).as("admin", "system:masters"), code: 401},
		{it: "does not tell a user what is not served", path: "/api/v1/things", client: w.as("bob"), code: 403,
			message: `things is forbidden: User "bob" cannot list resource "things" in API group "" at the cluster scope`},
		{it: "says that a namespace is in itself", path: "/api/v1/namespaces/d", client: w.as("bob"), code: 403,
			message: `namespaces "d" is forbidden: User "bob" cannot get resource "namespaces" in API group "" in the namespace "d"`},
		{it: "lets a user see discovery", path: "/apis", client: w.as("bob"), code: 200},
		{it: "forbids objects to a user", path: "/api/v1/nodes", client: w.as("bob"), code: 403,
			message: `nodes is forbidden: User "bob" cannot list resource "nodes" in API group "" at the cluster scope`},
		{it: "lets an administrator see objects", path: "/api/v1/nodes", client: w.admin(), code: 200},
		{it: "lets an administrator act as another", path: "/api/v1/nodes", client: w.admin(), code: 403, header: []string{"Impersonate-User", "bob"},
			message: `nodes is forbidden: User "bob" cannot list resource "nodes" in API group "" at the cluster scope`},
		{it: "does not let a user act as another", path: "/api/v1/nodes", client: w.as("bob"), code: 403, header: []string{"Impersonate-User", "admin"},
			message: `nodes is forbidden: User "bob" cannot impersonate-on:user-info:list resource "nodes" in API group "" at the cluster scope`},
		{it: "forbids profiles to a component", path: "/debug/pprof/", client: w.as("system:kube-scheduler"), code: 403},
	} {
		t.Run(tc.it, func(t *testing.T) {
			if tc.it == "refuses a certificate of another authority" {
				tc.client.Transport.(*http.Transport).TLSClientConfig.RootCAs = w.as("").Transport.(*http.Transport).TLSClientConfig.RootCAs
			}
			code, _, body := w.do(tc.client, "GET", tc.path, "", tc.header...)
			if code != tc.code {
				t.Fatalf("%d %s, want %d", code, body, tc.code)
			}
			var s metav1.Status
			if tc.message != "" && (json.Unmarshal([]byte(body), &s) != nil || s.Message != tc.message || int(s.Code) != code) {
				t.Errorf("got  %s\nwant %s", body, tc.message)
			}
		})
	}
}

func TestVersionSaysWhichVersionsItWorksWith(t *testing.T) {
	w := newWorld(t)
	_, _, body := w.do(w.as(""), "GET", "/version", "")
	var v version.Info
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string][2]string{"version": {v.Major + "." + v.Minor, "1.37"}, "emulated": {v.EmulationMajor + "." + v.EmulationMinor, "1.37"},
		"least compatible": {v.MinCompatibilityMajor + "." + v.MinCompatibilityMinor, "1.36"}} {
		if pair[0] != pair[1] {
			t.Errorf("%s: %s, want %s", name, pair[0], pair[1])
		}
	}
}

func TestPathsThatNothingAnswers(t *testing.T) {
	w := newWorld(t)
	for _, tc := range []struct {
		method, path string
		code         int
	}{
		{"GET", "/api/v2", 404},
		{"GET", "/api/v1/things", 404},
		{"GET", "/apis/apps/v9", 404},
		{"GET", "/version/more", 404},
		{"GET", "/api/v1/namespaces/d/nodes", 404},          // cluster scope
		{"GET", "/api/v1/configmaps/x", 404},                // namespaced
		{"GET", "/api/v1/namespaces/d/pods/x/nothing", 404}, // no such subresource
		{"GET", "/api/v1/namespaces/d/pods/x/status/more", 404},
		{"POST", "/api/v1/configmaps", 405},
		{"PUT", "/api/v1/namespaces/d/configmaps", 405},
		{"DELETE", "/api/v1/configmaps", 405},
		{"POST", "/api/v1/namespaces/d/configmaps/x", 405},
		{"OPTIONS", "/api/v1/namespaces/d/configmaps", 405},
		{"GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", 405},
		{"POST", "/version", 405},
	} {
		t.Run(tc.method+" "+tc.path, func(t *testing.T) {
			code, h, body := w.do(w.admin(), tc.method, tc.path, "")
			var s metav1.Status
			if code != tc.code || json.Unmarshal([]byte(body), &s) != nil || s.Kind != "Status" || int(s.Code) != code {
				t.Fatalf("%d %s, want a Status of %d", code, body, tc.code)
			}
			if want := "the server could not find the requested resource"; code == 404 && s.Message != want {
				t.Errorf("message %q, want %q", s.Message, want)
			}
			if h.Get("Content-Type") != "application/json" {
				t.Errorf("content type %q", h.Get("Content-Type"))
			}
		})
	}
}

// A namespace without a name is what a path of upstream's may have: it is all of
// them for who lists, and none for anything else.
func TestANamespaceWithoutAName(t *testing.T) {
	w := newWorld(t)
	const m = `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}}`
	if code, _, body := w.do(w.admin(), "POST", "/api/v1/namespaces/d/configmaps", m); code != 201 {
		t.Fatalf("%d %s", code, body)
	}
	for _, tc := range []struct {
		method, path, as string
		code             int
		want             string
	}{
		{"GET", "/api/v1/namespaces//configmaps", "", 200, `"namespace":"d"`},
		{"GET", "/api/v1/namespaces//configmaps?watch=1&timeoutSeconds=1", "", 200, `"namespace":"d"`},
		{"GET", "/api/v1/namespaces//configmaps", "bob", 403, "at the cluster scope"},
		{"GET", "/api/v1/namespaces//configmaps/m", "bob", 403, "cannot get"},
		{"GET", "/api/v1/namespaces//configmaps/m", "", 400, "Namespace parameter required."},
		{"PUT", "/api/v1/namespaces//configmaps/m", "", 400, "Namespace parameter required."},
		{"DELETE", "/api/v1/namespaces//configmaps", "", 400, "Namespace parameter required."},
		{"POST", "/api/v1/namespaces//configmaps", "", 422, `ConfigMap \"m\" is invalid: metadata.namespace: Required value`},
		{"GET", "/api/v1/namespaces//nodes", "", 404, "could not find"},
	} {
		client := w.admin()
		if tc.as != "" {
			client = w.as(tc.as)
		}
		body := ""
		if tc.method != "GET" && tc.method != "DELETE" {
			body = m
		}
		if code, _, text := w.do(client, tc.method, tc.path, body); code != tc.code || !strings.Contains(text, tc.want) {
			t.Errorf("%s %s as %q: %d %s, want %d %s", tc.method, tc.path, tc.as, code, text, tc.code, tc.want)
		}
	}
}

// Where there is no API, upstream's router answers, and it knows no Status.
func TestPathsThatAreNoAPI(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/nothing", "/apis/none.example.com/v1", "/apis/none.example.com/v1/things", "/apis//v1/pods",
		"//api/v1/nodes", "/healthz/none", "/healthz/", "/openapi/v2/", "/.well-known/none", "/debug/none", "/metrics/x"} {
		code, h, body := w.do(w.admin(), "GET", path, "")
		if code != 404 || body != "404 page not found\n" || h.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%s: %d %q %v", path, code, body, h)
		}
	}
	if code, _, body := w.do(w.admin(), "GET", "/openapi/v3/none", ""); code != 404 || body != "" {
		t.Errorf("/openapi/v3/none: %d %q", code, body)
	}
}

func TestWhoMayNotLearnsNothingElse(t *testing.T) {
	w := newWorld(t)
	const path = "/api/v1/namespaces/shop/configmaps"
	for _, tc := range []struct{ method, path, header, value string }{
		{"GET", path, "Accept", "odd/type"},
		{"GET", path + "/x", "Accept", "odd/type"},
		{"POST", path + "?dryRun=odd", "Content-Type", "odd/type"},
		{"PUT", path + "/x?fieldManager=%00", "Accept", "*/*"},
		{"PATCH", path + "/x", "Content-Type", "odd/type"},
		{"DELETE", path + "/x?gracePeriodSeconds=x", "Accept", "*/*"},
		{"DELETE", path + "?limit=x", "Accept", "*/*"},
		{"GET", path + "/x/status/more", "Accept", "*/*"},
		{"GET", path + "?watch=1&timeoutSeconds=x", "Accept", "*/*"},
	} {
		code, _, body := w.do(w.as("nobody"), tc.method, tc.path, "{}", tc.header, tc.value)
		if code != 403 || !strings.Contains(body, "configmaps") {
			t.Errorf("%s %s: %d %s", tc.method, tc.path, code, body)
		}
	}
}

func TestBindings(t *testing.T) {
	w := newWorld(t)
	const pods, bindings = "/api/v1/namespaces/shop/pods", "/api/v1/namespaces/shop/bindings"
	if code, _, body := w.do(w.admin(), "POST", pods, `{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}`); code != 201 {
		t.Fatal(code, body)
	}
	for _, tc := range []struct {
		body string
		code int
		want string
	}{
		{`{"target":{"kind":"Node","name":"n"}}`, 400, "Name parameter required."},
		{`{"metadata":{"name":"none"},"target":{"kind":"Node","name":"n"}}`, 404, `pods \"none\" not found`},
		{`{"metadata":{"name":"p","namespace":"other"},"target":{"kind":"Node","name":"n"}}`, 400, "does not match the namespace sent on the request"},
		{`{"metadata":{"name":"p"},"target":{"kind":"Node","name":"n"}}`, 201, `"Success"`},
		{`{"metadata":{"name":"p"},"target":{"kind":"Node","name":"n"}}`, 409, "already assigned"},
	} {
		if code, _, body := w.do(w.admin(), "POST", bindings, tc.body); code != tc.code || !strings.Contains(body, tc.want) {
			t.Errorf("%s: %d %s, want %d with %s", tc.body, code, body, tc.code, tc.want)
		}
	}
	if code, _, _ := w.do(w.as("nobody"), "POST", bindings, "{}"); code != 403 {
		t.Errorf("a stranger gets %d", code)
	}
	if code, _, body := w.do(w.admin(), "GET", pods+"/p", ""); code != 200 || !strings.Contains(body, `"nodeName":"n"`) {
		t.Errorf("%d %s", code, body)
	}
}

const configMap = `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"web"},"data":{"port":"80"}}`

func TestBadInput(t *testing.T) {
	w := newWorld(t)
	c := w.admin()
	const path = "/api/v1/namespaces/default/configmaps"
	if code, _, body := w.do(c, "POST", "/api/v1/namespaces", `{"metadata":{"name":"default"}}`); code != 201 {
		t.Fatalf("%d %s", code, body)
	}
	if code, _, body := w.do(c, "POST", path, configMap); code != 201 {
		t.Fatalf("%d %s", code, body)
	}
	deep := strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000)
	for _, tc := range []struct {
		it, method, path, body string
		header                 []string
		code                   int
		says                   string
	}{
		{"malformed JSON", "POST", path, `{"metadata":`, nil, 400, ""},
		{"a wrong type", "POST", path, `{"metadata":{"name":7}}`, nil, 400, ""},
		{"no body", "POST", path, "", nil, 400, ""},
		{"another kind", "POST", path, `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"x"}}`, nil, 400, ""},
		{"another namespace", "POST", path, `{"metadata":{"name":"x","namespace":"y"}}`, nil, 400, ""},
		{"a name that is not allowed", "POST", path, `{"metadata":{"name":"X Y"}}`, nil, 422, "metadata.name"},
		{"an unknown field, strictly", "POST", path + "?fieldValidation=Strict", `{"metadata":{"name":"x"},"datta":{}}`, nil, 400, `unknown field \"datta\"`},
		{"a body that nests too deeply", "POST", path, deep, nil, 400, ""},
		{"a body that is too large", "POST", path, strings.Repeat(" ", 3<<20+1), nil, 413, "limit is 3145728"},
		{"a type of body that nobody knows", "POST", path, configMap, []string{"Content-Type", "text/plain"}, 415,
			"the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"},
		{"a type of answer that nobody knows", "GET", path + "/web", "", []string{"Accept", "image/png"}, 406,
			"only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"},
		{"rubbish as protobuf", "POST", path, "rubbish", []string{"Content-Type", "application/vnd.kubernetes.protobuf"}, 400, ""},
		{"a patch of a type that nobody knows", "PATCH", path + "/web", "{}", []string{"Content-Type", "application/json"}, 415, "application/apply-patch+yaml"},
		{"an apply by nobody", "PATCH", path + "/web", configMap, []string{"Content-Type", "application/apply-patch+yaml"}, 422, "fieldManager: Required value: is required for apply patch"},
		{"a limit that is no number", "GET", path + "?limit=x", "", nil, 400, "strconv.ParseInt"},
		{"a selector that is none", "GET", path + "?labelSelector=a%20b", "", nil, 400, "unable to parse requirement"},
		{"a field that cannot be selected", "GET", path + "?fieldSelector=data.x=1", "", nil, 400, "is not a known field selector"},
		{"a dry run of a part", "POST", path + "?dryRun=Some", configMap, nil, 422, "dryRun"},
		{"a timeout that is none", "GET", path + "?timeout=x", "", nil, 400, "invalid timeout specified in the request URL"},
		{"a propagation that is none", "DELETE", path + "/web?propagationPolicy=Some", "", nil, 422, "propagationPolicy"},
		{"a resourceVersion that is none", "GET", path + "?watch=1&resourceVersion=x", "", nil, 422, "resourceVersion"},
		{"a continue token that is none", "GET", path + "?continue=x", "", nil, 400, "continue"},
		{"a table of objects that does not exist", "GET", path + "?includeObject=Some", "", []string{"Accept", "application/json;as=Table;g=meta.k8s.io;v=v1"}, 400, "unrecognized includeObject"},
	} {
		t.Run(tc.it, func(t *testing.T) {
			if tc.body != "" && len(tc.header) == 0 {
				tc.header = []string{"Content-Type", "application/json"}
			}
			code, _, body := w.do(c, tc.method, tc.path, tc.body, tc.header...)
			var s metav1.Status
			if code != tc.code || json.Unmarshal([]byte(body), &s) != nil || s.Kind != "Status" || s.Status != "Failure" {
				t.Fatalf("%d %.300s, want a Status of %d", code, body, tc.code)
			}
			if !strings.Contains(body, tc.says) {
				t.Errorf("%s\ndoes not say %s", body, tc.says)
			}
		})
	}
	if code, _, body := w.do(c, "GET", path+"/web", ""); code != 200 || !strings.Contains(body, `"port":"80"`) {
		t.Errorf("afterwards: %d %s", code, body)
	}
}
