package api_test

import (
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"

	corev1apply "k8s.io/client-go/applyconfigurations/core/v1"

	"sampan/cluster/auth"
	"sampan/cluster/client"
)

const (
	asTable   = "application/json;as=Table;g=meta.k8s.io;v=v1"
	asPartial = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
	asList    = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
	protobuf  = "application/vnd.kubernetes.protobuf"
)

// put stores n ConfigMaps in namespace shop.
func (w *world) put(n int, size int) {
	w.t.Helper()
	for i := range n {
		_, err := client.Create(w.t.Context(), w.all, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprintf("c%03d", i)},
			Data:       map[string]string{"x": strings.Repeat("y", size)}})
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

func TestNegotiation(t *testing.T) {
	w := newWorld(t)
	w.put(2, 1)
	const one, list, missing = "/api/v1/namespaces/shop/configmaps/c000", "/api/v1/namespaces/shop/configmaps", "/api/v1/namespaces/shop/configmaps/none"
	const review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
	const reviewBody = `{"spec":{"resourceAttributes":{"verb":"get","resource":"pods"}}}`
	for _, tc := range []struct {
		path, accept string
		code         int
		contentType  string
		begins       string
	}{
		{one, "", 200, "application/json", `{"kind":"ConfigMap","apiVersion":"v1"`},
		{one, "*/*", 200, "application/json", `{"kind":"ConfigMap"`},
		{one, "application/*", 200, "application/json", `{"kind":"ConfigMap"`},
		{one, "application/yaml", 200, "application/yaml", "apiVersion: v1"},
		{one, protobuf, 200, protobuf, "k8s\x00"},
		{one, protobuf + ",application/json", 200, protobuf, "k8s\x00"},
		{one, protobuf + ";q=0.1, application/yaml;q=0.5", 200, "application/yaml", "apiVersion"},
		{one, "text/html, application/json;q=0.2", 200, "application/json", "{"},
		{one, "text/html", 406, "application/json", `{"kind":"Status"`},
		{one, "application/json;q=0", 406, "application/json", `{"kind":"Status"`},
		{one, asTable, 200, "application/json", `{"kind":"Table","apiVersion":"meta.k8s.io/v1"`},
		{one, strings.Replace(asTable, "v=v1", "v=v1beta1", 1), 200, "application/json", `{"kind":"Table","apiVersion":"meta.k8s.io/v1beta1"`},
		{one, strings.Replace(asTable, "v=v1", "v=v2", 1), 406, "application/json", ""},
		{one, strings.Replace(asTable, "v=v1", "v=v2", 1) + ",application/json", 200, "application/json", `{"kind":"ConfigMap"`},
		{one, strings.Replace(asTable, "application/json", protobuf, 1), 406, "application/json", ""},
		{one, asPartial, 200, "application/json", `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1"`},
		{one, strings.Replace(asPartial, "application/json", protobuf, 1), 200, protobuf, "k8s\x00"},
		{one, asList, 406, "application/json", `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"you requested PartialObjectMetadataList, but the requested object is not a list (*core.ConfigMap)"`},
		{list, "", 200, "application/json", `{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"`},
		{list, "application/yaml", 200, "application/yaml", "apiVersion: v1\nitems:"},
		{list, protobuf, 200, protobuf, "k8s\x00"},
		{list, asTable, 200, "application/json", `{"kind":"Table"`},
		{list, asList, 200, "application/json", `{"kind":"PartialObjectMetadataList"`},
		{list, asPartial, 406, "application/json", `{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"you requested PartialObjectMetadata, but the requested object is a list (*core.ConfigMapList)"`},
		{missing, protobuf, 404, protobuf, "k8s\x00"},
		{missing, "application/yaml", 404, "application/yaml", ""},
		{review, asTable, 406, "application/json", ""},
		{review, asTable + ",application/json", 201, "application/json", `{"kind":"SelfSubjectAccessReview"`},
		{review, protobuf, 201, protobuf, "k8s\x00"},
		{"/api", protobuf, 200, protobuf, "k8s\x00"},
		{"/openapi/v3/api/v1", "application/json", 200, "application/json", "{"},
		{"/openapi/v3/api/v1", "text/plain", 406, "application/json", ""},
		{"/openapi/v2", "", 200, "application/json", `{"swagger":"2.0"`},
		{"/openapi/v2", "text/plain", 406, "application/json", ""},
	} {
		t.Run(tc.path+" as "+tc.accept, func(t *testing.T) {
			method, body := "GET", ""
			if tc.path == review {
				method, body = "POST", reviewBody
			}
			code, h, got := w.do(w.admin(), method, tc.path, body, "Accept", tc.accept)
			if code != tc.code || h.Get("Content-Type") != tc.contentType || !strings.HasPrefix(got, tc.begins) {
				t.Errorf("%d %s %.120q\nwant %d %s %q", code, h.Get("Content-Type"), got, tc.code, tc.contentType, tc.begins)
			}
		})
	}
}

func TestSelectorsAreReadBeforeTheBody(t *testing.T) {
	w := newWorld(t)
	code, _, got := w.do(w.admin(), "DELETE", "/api/v1/namespaces/shop/configmaps?fieldSelector=spec.x%3D1", "x")
	if want := `is not a known field selector`; code != 400 || !strings.Contains(got, want) {
		t.Errorf("%d %s\nwant 400 with %s", code, got, want)
	}
}

func TestPrettyAndHead(t *testing.T) {
	w := newWorld(t)
	w.put(1, 1)
	const one = "/api/v1/namespaces/shop/configmaps/c000"
	for _, tc := range []struct {
		query, agent string
		pretty       bool
	}{{"", "Go", false}, {"?pretty=true", "Go", true}, {"", "curl/8", true}, {"?pretty=false", "curl/8", false}} {
		_, _, body := w.do(w.admin(), "GET", one+tc.query, "", "User-Agent", tc.agent)
		if got := strings.HasPrefix(body, "{\n  \"kind\""); got != tc.pretty {
			t.Errorf("%q by %s: %q", tc.query, tc.agent, body)
		}
	}
	code, h, body := w.do(w.admin(), "HEAD", one, "")
	if code != 405 || body != "" || h.Get("Content-Length") == "" { // as upstream, for objects
		t.Errorf("HEAD: %d %v %q", code, h, body)
	}
}

func TestLargeAnswersAreCompressed(t *testing.T) {
	w := newWorld(t)
	w.put(40, 10_000)
	admin, err := x509.ParseCertificate(w.user(t, "admin", auth.Masters).Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	const all = "/api/v1/namespaces/shop/configmaps"
	for _, tc := range []struct {
		path, accept, from, encoding string
	}{
		{all, "gzip", "192.0.2.7:1024", "gzip"},
		{all, "identity", "192.0.2.7:1024", ""},
		{all, "gzip;q=0", "192.0.2.7:1024", ""},
		{all + "?limit=3", "gzip", "192.0.2.7:1024", ""},
		{all, "gzip", "127.0.0.1:1024", ""}, // on this machine
		{all, "gzip", "[::1]:1024", ""},
		{all, "gzip", "192.0.2.1:1024", ""}, // as well: it came to that address
	} {
		req := httptest.NewRequest("GET", tc.path, nil)
		req = req.WithContext(context.WithValue(req.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 443}))
		req.RemoteAddr, req.TLS = tc.from, &tls.ConnectionState{PeerCertificates: []*x509.Certificate{admin}}
		req.Header.Set("Accept-Encoding", tc.accept)
		resp := httptest.NewRecorder()
		w.server.ServeHTTP(resp, req)
		var in io.Reader = resp.Body
		if got := resp.Header().Get("Content-Encoding"); got != tc.encoding {
			t.Errorf("%s as %s from %s is %q", tc.path, tc.accept, tc.from, got)
		} else if got == "gzip" {
			if in, err = gzip.NewReader(resp.Body); err != nil {
				t.Fatal(err)
			}
		}
		var l corev1.ConfigMapList
		if err := json.NewDecoder(in).Decode(&l); err != nil || len(l.Items) < 3 {
			t.Errorf("%s as %s: %d items, %v", tc.path, tc.accept, len(l.Items), err)
		}
	}
}

func TestTables(t *testing.T) {
	w := newWorld(t)
	w.put(2, 1)
	get := func(query string) (table metav1.Table) {
		t.Helper()
		_, _, body := w.do(w.admin(), "GET", "/api/v1/namespaces/shop/configmaps"+query, "", "Accept", asTable)
		if err := json.Unmarshal([]byte(body), &table); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		return table
	}
	table := get("?limit=1")
	var names []string
	for _, c := range table.ColumnDefinitions {
		names = append(names, c.Name)
	}
	if strings.Join(names, " ") != "Name Data Age" || len(table.Rows) != 1 || table.Continue == "" || table.ResourceVersion == "" {
		t.Errorf("columns %v, %d rows, %+v", names, len(table.Rows), table.ListMeta)
	}
	if cells := table.Rows[0].Cells; cells[0] != "c000" || cells[1] != float64(1) {
		t.Errorf("cells %v", cells)
	}
	for _, tc := range []struct{ include, begins string }{
		{"", `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"c000"`},
		{"?includeObject=Object", `{"kind":"ConfigMap","apiVersion":"v1"`},
		{"?includeObject=None", "null"},
	} {
		raw, _ := json.Marshal(get(tc.include).Rows[0].Object)
		if !strings.HasPrefix(string(raw), tc.begins) {
			t.Errorf("with %q the row has %.200s", tc.include, raw)
		}
	}
}

// TestClients writes and reads through client-go in both encodings.
func TestClients(t *testing.T) {
	for _, contentType := range []string{"application/json", protobuf} {
		t.Run(contentType, func(t *testing.T) {
			w := newWorld(t)
			config := w.config(contentType)
			c, err := kubernetes.NewForConfig(config)
			if err != nil {
				t.Fatal(err)
			}
			maps := c.CoreV1().ConfigMaps("shop")
			made, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "web-"}, Data: map[string]string{"a": "b"}}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			made.Data["a"] = "c"
			if made, err = maps.Update(t.Context(), made, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err = maps.Patch(t.Context(), made.Name, types.MergePatchType, []byte(`{"data":{"x":"y"}}`), metav1.PatchOptions{}); err != nil {
				t.Error(err)
			}
			if _, err := maps.Apply(t.Context(), corev1apply.ConfigMap(made.Name, "shop").WithData(map[string]string{"z": "z"}), metav1.ApplyOptions{FieldManager: "me"}); err != nil {
				t.Error(err)
			}
			l, err := maps.List(t.Context(), metav1.ListOptions{})
			if err != nil || len(l.Items) != 1 || l.Items[0].Data["a"] != "c" || l.Items[0].Data["x"] != "y" || l.Items[0].Data["z"] != "z" {
				t.Errorf("%+v, %v", l, err)
			}
			m, err := metadata.NewForConfig(config)
			if err != nil {
				t.Fatal(err)
			}
			partial, err := m.Resource(corev1.SchemeGroupVersion.WithResource("configmaps")).Namespace("shop").List(t.Context(), metav1.ListOptions{})
			if err != nil || len(partial.Items) != 1 || partial.Items[0].Name != made.Name {
				t.Errorf("metadata alone: %+v, %v", partial, err)
			}
			if err := maps.Delete(t.Context(), made.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions("other")}); err == nil {
				t.Error("deleted though the uid was another's")
			}
			if err := maps.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
				t.Error(err)
			}
			if l, err = maps.List(t.Context(), metav1.ListOptions{}); err != nil || len(l.Items) != 0 {
				t.Errorf("left over: %v, %v", l.Items, err)
			}
		})
	}
}

func TestDiscovery(t *testing.T) {
	w := newWorld(t)
	d, err := discovery.NewDiscoveryClientForConfig(w.config("application/json"))
	if err != nil {
		t.Fatal(err)
	}
	aggregated, err := discovery.ServerPreferredResources(d)
	if err != nil {
		t.Fatal(err)
	}
	legacyClient := *d
	legacyClient.UseLegacyDiscovery = true
	legacy, err := discovery.ServerPreferredResources(&legacyClient)
	if err != nil {
		t.Fatal(err)
	}
	text := func(lists []*metav1.APIResourceList) string {
		var all []string
		for _, l := range lists {
			for _, r := range l.APIResources {
				all = append(all, fmt.Sprintln(l.GroupVersion, r.Name, r.SingularName, r.Kind, r.Namespaced, r.ShortNames, r.Verbs, r.Categories))
			}
		}
		slices.Sort(all) // the client gives no order
		return strings.Join(all, "")
	}
	if a, l := text(aggregated), text(legacy); a != l {
		t.Errorf("aggregated\n%s\nlegacy\n%s", a, l)
	} else if want := "v1 configmaps configmap ConfigMap true [cm] [create delete deletecollection get list patch update watch] []\n"; !strings.Contains(a, want) {
		t.Errorf("%s\nlacks %s", a, want)
	}
	resources, err := d.ServerResourcesForGroupVersion("v1")
	if err != nil {
		t.Fatal(err)
	}
	subs := map[string]metav1.APIResource{}
	for _, r := range resources.APIResources {
		subs[r.Name] = r
	}
	for name, kind := range map[string]string{"pods/log": "Pod", "pods/exec": "PodExecOptions", "pods/binding": "Binding", "pods/status": "Pod",
		"serviceaccounts/token": "TokenRequest", "nodes/proxy": "NodeProxyOptions", "namespaces/finalize": "Namespace"} {
		if subs[name].Kind != kind {
			t.Errorf("%s is of kind %q, want %s", name, subs[name].Kind, kind)
		}
	}

	const v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
	code, h, _ := w.do(w.admin(), "GET", "/apis", "", "Accept", v2+",application/json")
	if code != 200 || h.Get("Content-Type") != v2 || h.Get("ETag") == "" {
		t.Errorf("%d %v", code, h)
	}
	if code, _, body := w.do(w.admin(), "GET", "/apis", "", "Accept", v2, "If-None-Match", h.Get("ETag")); code != 304 || body != "" {
		t.Errorf("with the ETag: %d %s", code, body)
	}
	const old = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
	if code, h, _ := w.do(w.admin(), "GET", "/apis", "", "Accept", old+",application/json"); code != 200 || h.Get("Content-Type") != "application/json" {
		t.Errorf("the form of before version 2, or plain: %d %v", code, h)
	}
	if code, _, body := w.do(w.admin(), "GET", "/apis", "", "Accept", old); code != 406 {
		t.Errorf("the form of before version 2: %d %.100s", code, body)
	}
}

func TestOpenAPIIsKeptByItsHash(t *testing.T) {
	w := newWorld(t)
	_, _, body := w.do(w.admin(), "GET", "/openapi/v3", "")
	var index struct {
		Paths map[string]struct{ ServerRelativeURL string }
	}
	if err := json.Unmarshal([]byte(body), &index); err != nil || index.Paths["apis/apps/v1"].ServerRelativeURL == "" {
		t.Fatalf("%v %s", err, body)
	}
	url := index.Paths["apis/apps/v1"].ServerRelativeURL
	code, h, body := w.do(w.admin(), "GET", url, "")
	if code != 200 || !strings.Contains(h.Get("Cache-Control"), "immutable") || !strings.Contains(body, "io.k8s.api.apps.v1.Deployment") {
		t.Errorf("%d %v %.100s", code, h, body)
	}
	c := w.admin()
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if code, h, _ = w.do(c, "GET", "/openapi/v3/apis/apps/v1?hash=old", ""); code != 301 || h.Get("Location") != url {
		t.Errorf("an old hash: %d %v", code, h)
	}
	if code, _, _ = w.do(c, "GET", "/openapi/v3/apis/none/v1", ""); code != 404 {
		t.Errorf("an unknown group: %d", code)
	}
}

func TestOpenAPIVersion2IsKeptByItsETag(t *testing.T) {
	w := newWorld(t)
	code, h, body := w.do(w.admin(), "GET", "/openapi/v2", "")
	if code != 200 || h.Get("ETag") == "" || !strings.Contains(body, `"io.k8s.api.apps.v1.Deployment":{`) {
		t.Fatalf("%d %v %.100s", code, h, body)
	}
	if code, _, body := w.do(w.admin(), "GET", "/openapi/v2", "", "If-None-Match", h.Get("ETag")); code != 304 || body != "" {
		t.Errorf("with the ETag: %d %.100s", code, body)
	}
}

func TestOpenAPIV2HasTwoForms(t *testing.T) {
	w := newWorld(t)
	const asked, named = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf", "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
	etags := map[string]bool{}
	for accept, want := range map[string]string{"": "application/json", "*/*": "application/json", asked: named, named + ", */*;q=0.1": named} {
		code, h, body := w.do(w.admin(), "GET", "/openapi/v2", "", "Accept", accept)
		if code != 200 || h.Get("Content-Type") != want || len(body) == 0 || h.Get("Vary") == "" {
			t.Fatalf("%q: %d %v", accept, code, h)
		}
		etags[h.Get("ETag")] = true
		if code, _, body := w.do(w.admin(), "GET", "/openapi/v2", "", "Accept", accept, "If-None-Match", h.Get("ETag")); code != 304 || body != "" {
			t.Errorf("%q, once more: %d with %d bytes", accept, code, len(body))
		}
	}
	if len(etags) != 2 {
		t.Errorf("tags %v: want one of each form", etags)
	}
}

func TestOpenAPIV3HasTwoForms(t *testing.T) {
	w := newWorld(t)
	const asked, named = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf", "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"
	for accept, want := range map[string]string{"": "application/json", "*/*": "application/json", asked: named, "application/json": "application/json"} {
		code, h, body := w.do(w.admin(), "GET", "/openapi/v3/apis/apps/v1", "", "Accept", accept)
		if code != 200 || h.Get("Content-Type") != want || len(body) == 0 || h.Get("Vary") == "" {
			t.Errorf("%q: %d %v", accept, code, h)
		}
		if (body[0] == '{') != (want == "application/json") {
			t.Errorf("%q begins with %.10q", accept, body)
		}
	}
	if code, _, _ := w.do(w.admin(), "GET", "/openapi/v3/apis/apps/v1", "", "Accept", "text/html"); code != 406 {
		t.Errorf("as HTML: %d", code)
	}
}

func TestOpenAPIV2IsSentCompressed(t *testing.T) {
	w := newWorld(t)
	_, _, plain := w.do(w.admin(), "GET", "/openapi/v2", "", "Accept-Encoding", "identity")
	code, h, body := w.do(w.admin(), "GET", "/openapi/v2", "", "Accept-Encoding", "gzip")
	if code != 200 || h.Get("Content-Encoding") != "gzip" || h.Get("Content-Length") != strconv.Itoa(len(body)) || len(body) > len(plain)/4 {
		t.Fatalf("%d, %d bytes of %d, %v", code, len(body), len(plain), h)
	}
	r, err := gzip.NewReader(strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(r); err != nil || string(text) != plain {
		t.Errorf("%d bytes came out, want %d (%v)", len(text), len(plain), err)
	}
}
