package api_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"sampan/cluster/api"
)

func TestHealth(t *testing.T) {
	var mu sync.Mutex
	var etcd error
	w := newWorld(t, func(c *api.Config) {
		c.Checks = []api.Check{
			{Name: "etcd", Run: func(context.Context) error { mu.Lock(); defer mu.Unlock(); return etcd }},
			{Name: "boom", Run: func(context.Context) error { panic("boom") }},
		}
	})
	c := w.admin()
	if code, _, body := w.do(c, "GET", "/livez", ""); code != 200 || body != "ok" {
		t.Errorf("livez: %d %s", code, body)
	}
	if code, _, body := w.do(c, "GET", "/readyz?exclude=boom&verbose", ""); code != 200 || body != "[+]ping ok\n[+]etcd ok\n[+]boom excluded: ok\n[+]shutdown ok\nreadyz check passed\n" {
		t.Errorf("readyz: %d %s", code, body)
	}
	mu.Lock()
	etcd = errors.New("secret detail")
	mu.Unlock()
	code, _, body := w.do(c, "GET", "/readyz?exclude=boom", "")
	if code != 500 || !strings.Contains(body, "[-]etcd failed: reason withheld") || strings.Contains(body, "secret") {
		t.Errorf("readyz: %d %s", code, body)
	}
	if code, _, body := w.do(c, "GET", "/readyz/none", ""); code != 404 {
		t.Errorf("no such check: %d %s", code, body)
	}
}

func TestPanicIsOneFailedRequest(t *testing.T) {
	w := newWorld(t, func(c *api.Config) {
		c.Checks = []api.Check{{Name: "boom", Run: func(context.Context) error { panic("boom") }}}
	})
	code, _, body := w.do(w.admin(), "GET", "/readyz", "")
	if code != 500 || !strings.Contains(body, `"reason":"InternalError"`) {
		t.Errorf("%d %s", code, body)
	}
	if code, _, body := w.do(w.admin(), "GET", "/metrics", ""); code != 200 || !strings.Contains(body, "apiserver_panics_total 1\n") {
		t.Errorf("afterwards: %d %s", code, body)
	}
	w.end()
	if log := w.log.String(); !strings.Contains(log, "boom") || !strings.Contains(log, "trouble_test.go") {
		t.Errorf("the log has no stack: %s", log)
	}
}

// TestHalfARequest: a client that dies while it sends changes nothing.
func TestHalfARequest(t *testing.T) {
	w := newWorld(t)
	config := w.admin().Transport.(*http.Transport).TLSClientConfig.Clone()
	for _, sent := range []string{
		"POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + configMap,
		"POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n", len(configMap), configMap),
		"POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"POST /api/v1/name",
	} {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(w.url, "https://"), config)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, sent)
		conn.CloseWrite()
		answer := make([]byte, 15)
		n, _ := conn.Read(answer)
		if got := string(answer[:n]); strings.HasPrefix(got, "HTTP/1.1 2") {
			t.Errorf("%q was answered %q", sent, got)
		}
		conn.Close()
	}
	if code, _, body := w.do(w.admin(), "GET", "/api/v1/namespaces/default/configmaps", ""); code != 200 || !strings.Contains(body, `"items":[]`) {
		t.Errorf("%d %s", code, body)
	}
}

func TestWarnings(t *testing.T) {
	w := newWorld(t)
	code, h, body := w.do(w.admin(), "POST", "/api/v1/namespaces/default/configmaps", `{"metadata":{"name":"x"},"datta":{},"x\ny":1}`, "Content-Type", "application/json")
	if code != 201 {
		t.Fatalf("%d %s", code, body)
	}
	if got := h.Values("Warning"); len(got) < 1 || got[0] != `299 - "unknown field \"datta\""` {
		t.Errorf("warnings %q", got)
	}
}

func TestServiceAccountTokenOverHTTP(t *testing.T) {
	w := newWorld(t)
	c := w.admin()
	if code, _, body := w.do(c, "POST", "/api/v1/namespaces/default/serviceaccounts", `{"metadata":{"name":"web"}}`); code != 201 {
		t.Fatalf("%d %s", code, body)
	}
	code, _, body := w.do(c, "POST", "/api/v1/namespaces/default/serviceaccounts/web/token", `{"spec":{"expirationSeconds":600}}`)
	if code != 201 || !strings.Contains(body, `"kind":"TokenRequest"`) {
		t.Fatalf("%d %s", code, body)
	}
	_, rest, _ := strings.Cut(body, `"token":"`)
	token, _, _ := strings.Cut(rest, `"`)
	code, _, body = w.do(w.as(""), "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", `{}`, "Authorization", "Bearer "+token)
	if code != 201 || !strings.Contains(body, `"username":"system:serviceaccount:default:web"`) {
		t.Errorf("%d %s", code, body)
	}
	code, _, body = w.do(c, "POST", "/apis/authentication.k8s.io/v1/tokenreviews", `{"spec":{"token":"`+token+`"}}`)
	if code != 201 || !strings.Contains(body, `"authenticated":true`) {
		t.Errorf("%d %s", code, body)
	}
	if code, _, body = w.do(w.as(""), "GET", "/openid/v1/jwks", "", "Authorization", "Bearer "+token); code != 200 || !strings.Contains(body, `"kid"`) {
		t.Errorf("%d %s", code, body)
	}
	if code, _, body = w.do(c, "DELETE", "/api/v1/namespaces/default/serviceaccounts/web", ""); code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	if code, _, body = w.do(w.as(""), "GET", "/version", "", "Authorization", "Bearer "+token); code != 401 {
		t.Errorf("after the account is gone: %d %s", code, body)
	}
}
