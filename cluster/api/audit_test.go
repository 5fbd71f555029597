package api_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"sampan/cluster/api"
	"sampan/cluster/audit"
)

// audited is a world that records by a policy, and what returns the events of
// a request by its name, when the server has ended.
func audited(t *testing.T, rules string) (w *world, events func(id string) []auditv1.Event) {
	t.Helper()
	dir := t.TempDir()
	policy, log := filepath.Join(dir, "policy"), filepath.Join(dir, "log")
	if err := os.WriteFile(policy, []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: ["+rules+"]"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := audit.Defaults()
	cfg.PolicyFile, cfg.File.Path = policy, log
	trail, err := audit.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w = newWorld(t, func(c *api.Config) {
		c.Audit = trail
		c.Debug = map[string]http.HandlerFunc{"/debug/panic": func(http.ResponseWriter, *http.Request) { panic("oh") }}
	})
	return w, func(id string) (found []auditv1.Event) {
		t.Helper()
		data, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			var e auditv1.Event
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if string(e.AuditID) == id {
				found = append(found, e)
			}
		}
		return found
	}
}

// stagesOf are the stages of events, in order.
func stagesOf(events []auditv1.Event) string {
	var all []string
	for _, e := range events {
		all = append(all, string(e.Stage))
	}
	return strings.Join(all, " ")
}

func TestRequestsAreRecorded(t *testing.T) {
	w, events := audited(t, "{level: None, users: [quiet]}, {level: RequestResponse, resources: [{resources: [configmaps]}]}, {level: Metadata}")
	const maps = "/api/v1/namespaces/default/configmaps"
	do := func(c *http.Client, id, method, path, body string, header ...string) {
		t.Helper()
		_, h, _ := w.do(c, method, path, body, append(header, audit.IDHeader, id)...)
		if got := h.Get(audit.IDHeader); got != id && id != "none" {
			t.Errorf("%s is answered as %q", id, got)
		}
	}
	message := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "proto"}, Data: map[string]string{"a": "1"}}
	raw, err := message.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := (&runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, Raw: raw}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	const protobuf = "application/vnd.kubernetes.protobuf"
	admin, bob := w.admin(), w.as("bob", "staff")

	do(admin, "yaml", "POST", maps, "metadata: {name: yaml}\ndata: {a: '1'}", "Content-Type", "application/yaml")
	do(admin, "proto", "POST", maps, "k8s\x00"+string(envelope), "Content-Type", protobuf, "Accept", protobuf)
	do(admin, "patch", "PATCH", maps+"/yaml?fieldManager=x", "{apiVersion: v1, kind: ConfigMap, data: {b: '2'}}", "Content-Type", "application/apply-patch+yaml")
	do(admin, "list", "GET", maps, "", "Accept", protobuf)
	do(bob, "refused", "GET", maps, "")
	do(admin, "as", "GET", "/api/v1/nodes", "", "Impersonate-User", "jo")
	do(admin, "watch", "GET", maps+"?watch=1&timeoutSeconds=1", "")
	do(w.as(""), "stranger", "GET", maps, "", "Authorization", "Bearer nonsense")
	do(admin, "path", "GET", "/version", "")
	req, err := http.NewRequest("GET", w.url+"/debug/panic", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(audit.IDHeader, "panic")
	if resp, err := admin.Do(req); err == nil { // the answer had begun
		resp.Body.Close()
	}
	do(w.as("quiet"), "none", "GET", maps, "")
	do(admin, "delete", "DELETE", maps+"/yaml", `{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Background"}`)
	if err := w.end(); err != nil {
		t.Fatal(err)
	}

	const usual, lasting = "RequestReceived ResponseComplete", "RequestReceived ResponseStarted ResponseComplete"
	for _, tc := range []struct {
		id, stages        string
		code              int32
		request, response string // part of the object; empty: there is none
		is                func(e auditv1.Event) bool
	}{
		{id: "yaml", stages: usual, code: 201, request: `"data":{"a":"1"}`, response: `"uid":"`, is: func(e auditv1.Event) bool {
			return e.Verb == "create" && e.ObjectRef.Name == "yaml" && e.ObjectRef.Namespace == "default" && e.User.Username == "admin" &&
				e.Annotations["authorization.k8s.io/decision"] == "allow" && e.SourceIPs[0] == "127.0.0.1"
		}},
		{id: "proto", stages: usual, code: 201, request: `"data":{"a":"1"}`, response: `"kind":"ConfigMap"`},
		{id: "patch", stages: usual, code: 200, request: `{"apiVersion":"v1","data":{"b":"2"}`, response: `"b":"2"`},
		{id: "list", stages: usual, code: 200, response: `"kind":"ConfigMapList"`},
		{id: "refused", stages: usual, code: 403, response: `"reason":"Forbidden"`, is: func(e auditv1.Event) bool {
			_, reason := e.Annotations["authorization.k8s.io/reason"]
			return e.Annotations["authorization.k8s.io/decision"] == "forbid" && reason && e.ResponseStatus.Reason == metav1.StatusReasonForbidden
		}},
		{id: "as", stages: usual, code: 403, is: func(e auditv1.Event) bool {
			return e.User.Username == "admin" && e.ImpersonatedUser.Username == "jo" && e.Annotations["authorization.k8s.io/decision"] == "forbid"
		}},
		{id: "watch", stages: lasting, code: 200},
		{id: "stranger", stages: "ResponseStarted", code: 401, is: func(e auditv1.Event) bool {
			return e.ResponseStatus.Message == "Authentication failed, attempted: bearer" && e.User.Username == ""
		}},
		{id: "path", stages: usual, code: 200, is: func(e auditv1.Event) bool { return e.ObjectRef == nil && e.RequestURI == "/version" }},
		{id: "panic", stages: "RequestReceived Panic", code: 500, is: func(e auditv1.Event) bool { return e.ResponseStatus.Message == "APIServer panic'd: oh" }},
		{id: "none", stages: ""},
		{id: "delete", stages: usual, code: 200, request: `"propagationPolicy":"Background"`, response: `"status":"Success"`},
	} {
		t.Run(tc.id, func(t *testing.T) {
			all := events(tc.id)
			if got := stagesOf(all); got != tc.stages {
				t.Fatalf("recorded %q, want %q", got, tc.stages)
			}
			if len(all) == 0 {
				return
			}
			last := all[len(all)-1]
			if last.ResponseStatus == nil || last.ResponseStatus.Code != tc.code || tc.is != nil && !tc.is(last) {
				t.Errorf("the last event is %+v, answered with %+v", last, last.ResponseStatus)
			}
			for _, object := range []struct {
				what string
				got  *runtime.Unknown
				want string
			}{{"request", last.RequestObject, tc.request}, {"response", last.ResponseObject, tc.response}} {
				if (object.got != nil) != (object.want != "") || object.got != nil && !strings.Contains(string(object.got.Raw), object.want) {
					t.Errorf("the %s's object is %+v, want one with %q", object.what, object.got, object.want)
				}
			}
		})
	}
}

func TestWithoutAnAuditTrailNothingIsSpentOnIt(t *testing.T) {
	w := newWorld(t)
	if _, h, _ := w.do(w.admin(), "GET", "/version", ""); h.Get(audit.IDHeader) != "" {
		t.Errorf("requests have names although nobody records them: %q", h)
	}
}
