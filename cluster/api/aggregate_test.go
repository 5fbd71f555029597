package api_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"sampan/cluster/aggregate"
	"sampan/cluster/api"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/kind"
	"sampan/cluster/kind/apiregistration"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/discovery"
)

// wardle is a server behind the API server, which says who asks for what.
func wardle(t *testing.T) *httptest.Server {
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/apis":
			w.Header().Set("Content-Type", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
			io.WriteString(w, `{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","items":[{"metadata":{"name":"wardle.example.com"},
"versions":[{"version":"v1","resources":[{"resource":"flunders","responseKind":{"group":"","version":"","kind":"Flunder"},"scope":"Namespaced","verbs":["get","list"]}]}]}]}`)
		case "/openapi/v2":
			io.WriteString(w, `{"swagger":"2.0","info":{"title":"wardle","version":"1"},"paths":{"/version":{"get":{"responses":{"200":{"description":"OK"}}}},
"/apis/wardle.example.com/v1/namespaces/{namespace}/flunders":{"get":{"responses":{"200":{"description":"OK","schema":{"$ref":"#/definitions/com.example.wardle.v1.Flunder"}}}}}},
"definitions":{"com.example.wardle.v1.Flunder":{"type":"object","description":"A kind of fish."}}}`)
		case "/openapi/v3":
			io.WriteString(w, `{"paths":{"version":{"serverRelativeURL":"/openapi/v3/version?hash=0"},
"apis/wardle.example.com/v1":{"serverRelativeURL":"/openapi/v3/apis/wardle.example.com/v1?hash=7"}}}`)
		case "/openapi/v3/apis/wardle.example.com/v1":
			w.Header().Set("Content-Type", "application/json")
			io.WriteString(w, `{"openapi":"3.0.0","info":{"title":"`+r.Header.Get("X-Remote-User")+`","version":"1"},"paths":{"/apis/wardle.example.com/v1/namespaces/{namespace}/flunders":{"get":{
"x-kubernetes-action":"list","x-kubernetes-group-version-kind":{"group":"wardle.example.com","version":"v1","kind":"Flunder"}}}},
"components":{"schemas":{"com.example.wardle.v1.Flunder":{"type":"object","description":"A kind of fish.",
"x-kubernetes-group-version-kind":[{"group":"wardle.example.com","version":"v1","kind":"Flunder"}]}}}}`)
		case "/apis/wardle.example.com/v1/slow":
			<-r.Context().Done()
		default:
			io.WriteString(w, r.Header.Get("X-Remote-User")+" "+r.Header.Get("Impersonate-User")+" "+r.Method+" "+r.URL.RequestURI())
		}
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// aggregated is a world in which wardle answers for a group version.
func aggregated(t *testing.T) *world {
	t.Helper()
	s := wardle(t)
	host, text, _ := net.SplitHostPort(s.Listener.Addr().String())
	number, _ := strconv.Atoi(text)
	port, asked, name := int32(number), int32(443), ""
	objects := clienttest.New(t, kind.NewTable(core.Kinds(), discovery.Kinds(), apiregistration.Kinds()),
		&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "api"},
			Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, Ports: []corev1.ServicePort{{Port: asked}}}},
		&discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "api", Labels: map[string]string{discoveryv1.LabelServiceName: "api"}},
			AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}}, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{host}}}},
		&apiregistrationv1.APIService{ObjectMeta: metav1.ObjectMeta{Name: "v1.wardle.example.com"}, Spec: apiregistrationv1.APIServiceSpec{
			Group: "wardle.example.com", Version: "v1", GroupPriorityMinimum: 17900, VersionPriority: 1, InsecureSkipTLSVerify: true,
			Service: &apiregistrationv1.ServiceReference{Namespace: "shop", Name: "api", Port: &asked}}})
	a, err := aggregate.New(aggregate.Config{Client: objects, Certificate: s.TLS.Certificates[0], Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	w := newWorld(t, func(c *api.Config) { c.Aggregate = a })
	gv := schema.GroupVersion{Group: "wardle.example.com", Version: "v1"}
	for range 1200 {
		if to := a.State().At(gv); to != nil && len(to.Discovery.Resources) == 1 {
			if code, _, _ := w.do(w.admin(), "GET", "/apis/wardle.example.com/v1/flunders", ""); code == http.StatusOK {
				return w
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the server behind does not become available")
	return nil
}

func TestAnotherServerAnswersForItsGroupVersion(t *testing.T) {
	w := aggregated(t)
	admin := w.admin()
	for path, want := range map[string]string{
		"/apis/wardle.example.com/v1/namespaces/default/flunders/a/b/c/d?x=1": "admin  GET /apis/wardle.example.com/v1/namespaces/default/flunders/a/b/c/d?x=1",
		"/apis/wardle.example.com/v1":                                         "admin  GET /apis/wardle.example.com/v1",
	} {
		if code, _, got := w.do(admin, "GET", path, ""); code != http.StatusOK || got != want {
			t.Errorf("%s: %d %s\nwant %s", path, code, got, want)
		}
	}
	if code, _, got := w.do(admin, "PUT", "/apis/wardle.example.com/v1/flunders/a", "{}", "Impersonate-User", "bob"); code != http.StatusForbidden ||
		!strings.Contains(got, `flunders.wardle.example.com \"a\" is forbidden: User \"bob\" cannot update resource \"flunders\" in API group \"wardle.example.com\" at the cluster scope`) {
		t.Errorf("who may not is not passed on: %d %s", code, got)
	}
	if code, _, got := w.do(admin, "GET", "/apis/wardle.example.com/v1/flunders", "", "Impersonate-User", "bob", "Impersonate-Group", "system:masters"); code != http.StatusOK ||
		got != "bob  GET /apis/wardle.example.com/v1/flunders" {
		t.Errorf("impersonated: %d %s", code, got)
	}
	if code, _, got := w.do(admin, "GET", "/apis/wardle.example.com/v1/slow?timeout=1s", ""); code != http.StatusGatewayTimeout || !strings.Contains(got, `"reason":"Timeout"`) {
		t.Errorf("a server that hangs: %d %s", code, got)
	}
	if code, _, got := w.do(admin, "GET", "/apis/wardle.example.com/v2/flunders", ""); code != http.StatusNotFound {
		t.Errorf("another version: %d %s", code, got)
	}
}

func TestOtherServersAreInDiscoveryByPriority(t *testing.T) {
	w := aggregated(t)
	_, _, text := w.do(w.admin(), "GET", "/apis", "")
	var list metav1.APIGroupList
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Groups) < 2 || list.Groups[0].Name != "wardle.example.com" || list.Groups[1].Name != "apps" {
		t.Errorf("groups %v: want one of 17900 before apps", list.Groups)
	}
	_, _, text = w.do(w.admin(), "GET", "/apis", "", "Accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
	if !strings.Contains(text, `"resource":"flunders"`) {
		t.Errorf("no flunders in %s", text)
	}
}

func TestOtherServersDescribeTheirKinds(t *testing.T) {
	w := aggregated(t)
	want := `"apis/wardle.example.com/v1":{"serverRelativeURL":"/openapi/v3/apis/wardle.example.com/v1?hash=7"}`
	for n := 0; ; n++ { // a server that does not answer within a second is asked again later
		_, _, text := w.do(w.admin(), "GET", "/openapi/v3", "")
		if strings.Contains(text, want) && strings.Contains(text, `"apis/apps/v1":{`) && !strings.Contains(text, "openapi/v3/version") {
			break
		}
		if n == 1200 {
			t.Fatalf("no %s in %s", want, text)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if code, h, text := w.do(w.admin(), "GET", "/openapi/v3/apis/wardle.example.com/v1?hash=7", ""); code != http.StatusOK ||
		!strings.Contains(text, `"title":"admin"`) || h.Get("Content-Type") != "application/json" {
		t.Errorf("%d %v %s", code, h, text)
	}
	if out, err := w.kubectl("", "explain", "flunders"); err != nil || !strings.Contains(out, "A kind of fish.") {
		t.Errorf("kubectl explains: %v: %s", err, out)
	}
	if code, _, text := w.do(w.admin(), "GET", "/openapi/v3/apis/wardle.example.com/v1", "", "Impersonate-User", "bob"); code != http.StatusOK || !strings.Contains(text, `"title":"bob"`) {
		t.Errorf("as somebody else: %d %s", code, text)
	}
}

func TestWhatOtherServersServeIsInTheOneDocument(t *testing.T) {
	w := aggregated(t)
	var etag string
	for n := 0; ; n++ { // a server that does not answer in time is asked again later
		_, h, text := w.do(w.admin(), "GET", "/openapi/v2", "")
		var doc struct{ Paths, Definitions map[string]json.RawMessage }
		if err := json.Unmarshal([]byte(text), &doc); err != nil {
			t.Fatal(err)
		}
		if doc.Paths["/apis/wardle.example.com/v1/namespaces/{namespace}/flunders"] != nil {
			etag = h.Get("ETag")
			if doc.Definitions["com.example.wardle.v1.Flunder"] == nil || doc.Definitions["io.k8s.api.apps.v1.Deployment"] == nil || doc.Paths["/version"] != nil {
				t.Errorf("the definitions of both are not there, or paths that are not passed on are")
			}
			break
		}
		if n == 1200 {
			t.Fatal("the other server's path is not there")
		}
		time.Sleep(100 * time.Millisecond)
	}
	if code, _, _ := w.do(w.admin(), "GET", "/openapi/v2", "", "If-None-Match", etag); code != http.StatusNotModified {
		t.Errorf("with the ETag: %d", code)
	}
}

func TestComponentStatuses(t *testing.T) {
	well := func(context.Context) error { return nil }
	w := newWorld(t, func(c *api.Config) {
		c.Components = []api.Component{{Name: "scheduler", Run: well}, {Name: "etcd-0", Run: func(context.Context) error { return errors.New("no leader") }}}
	})
	out, err := w.kubectl("", "get", "cs")
	want := `Warning: v1 ComponentStatus is deprecated in v1.19+
NAME        STATUS      MESSAGE   ERROR
etcd-0      Unhealthy             no leader
scheduler   Healthy     ok        
`
	if err != nil || out != want {
		t.Errorf("%s(%v)\nwant\n%s", out, err, want)
	}
	for _, c := range []struct {
		method, path string
		code         int
		want         string
	}{
		{"GET", "/api/v1/componentstatuses/scheduler", 200, `"conditions":[{"type":"Healthy","status":"True","message":"ok"}]`},
		{"GET", "/api/v1/componentstatuses/nothing", 404, `componentstatus \"nothing\" not found`},
		{"GET", "/api/v1/componentstatuses?labelSelector=a%3Db", 200, `"items":[]`},
		{"GET", "/api/v1/componentstatuses?watch=1", 405, `watch is not supported on resources of kind \"componentstatuses\"`},
		{"DELETE", "/api/v1/componentstatuses/scheduler", 405, "does not allow this method"},
	} {
		if code, _, got := w.do(w.admin(), c.method, c.path, ""); code != c.code || !strings.Contains(got, c.want) {
			t.Errorf("%s %s: %d %s\nwant %d %s", c.method, c.path, code, got, c.code, c.want)
		}
	}
}
