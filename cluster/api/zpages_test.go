package api_test

import (
	"net/http"
	"strings"
	"testing"

	"sampan/cluster/api"
)

func TestStatusAndFlagsOfTheServer(t *testing.T) {
	w := newWorld(t, func(c *api.Config) { c.Flags = map[string]string{"secure-port": "6443", "audit-log-path": "-"} })
	admin := w.admin()
	const warning = "\nWarning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.\n"
	for _, accept := range []string{"", "*/*", "text/plain", "application/json, text/*"} {
		code, h, text := w.do(admin, "GET", "/statusz", "", "Accept", accept)
		if code != http.StatusOK || h.Get("Content-Type") != "text/plain; charset=utf-8" || !strings.HasPrefix(text, "\napiserver statusz"+warning+"\nStarted: ") {
			t.Errorf("Accept %q: %d %s %s", accept, code, h.Get("Content-Type"), text)
		}
		for _, want := range []string{"\nUp: 0 hr ", "\nGo version: go", "\nBinary version: 1.37.2+sampan\n", "\nEmulation version: 1.37\n",
			"\nPaths: /flagz /healthz /livez /metrics /readyz /statusz /version\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in %s", want, text)
			}
		}
	}
	if code, _, text := w.do(admin, "GET", "/flagz", ""); code != http.StatusOK || text != "\napiserver flagz"+warning+"audit-log-path=-\nsecure-port=6443\n" {
		t.Errorf("%d %s", code, text)
	}
	for _, c := range []struct {
		it, path, accept string
		code             int
		want             string
	}{
		{"an object of a version", "/flagz", "application/json;g=config.k8s.io;v=v1beta1;as=Flagz", http.StatusOK,
			`{"kind":"Flagz","apiVersion":"config.k8s.io/v1beta1","metadata":{"name":"apiserver"},"flags":{"audit-log-path":"-","secure-port":"6443"}}`},
		{"as YAML", "/flagz", "application/yaml;g=config.k8s.io;v=v1beta1;as=Flagz", http.StatusOK, "apiVersion: config.k8s.io/v1beta1\nflags:\n"},
		{"a status", "/statusz", "application/json;g=config.k8s.io;v=v1alpha1;as=Statusz", http.StatusOK,
			`{"kind":"Statusz","apiVersion":"config.k8s.io/v1alpha1","metadata":{"name":"apiserver"},"startTime":"`},
		{"an object of no version", "/statusz", "application/json", http.StatusNotAcceptable,
			"only the following media types are accepted: application/json, application/yaml, text/plain"},
		{"the other's object", "/statusz", "application/json;g=config.k8s.io;v=v1beta1;as=Flagz", http.StatusNotAcceptable, "only the following"},
		{"text as an object", "/statusz", "text/plain;g=config.k8s.io;v=v1beta1;as=Statusz", http.StatusNotAcceptable, "only the following"},
		{"a path below", "/statusz/", "", http.StatusNotFound, ""},
	} {
		code, h, text := w.do(admin, "GET", c.path, "", "Accept", c.accept)
		if code != c.code || !strings.Contains(text, c.want) {
			t.Errorf("%s: %d %s", c.it, code, text)
		}
		if old := strings.Contains(c.accept, "v1alpha1"); old != strings.Contains(h.Get("Warning"), "This version of the statusz endpoint is deprecated. Please use a newer version.") {
			t.Errorf("%s: warned %q", c.it, h.Get("Warning"))
		}
	}
	if code, _, _ := w.do(w.as("jo"), "GET", "/statusz", ""); code != http.StatusForbidden {
		t.Errorf("anybody may look: %d", code)
	}
	if code, _, text := w.do(w.as("jo", "system:monitoring"), "GET", "/flagz", ""); code != http.StatusOK {
		t.Errorf("who monitors may not look: %d %s", code, text)
	}
	bare := newWorld(t)
	if code, _, _ := bare.do(bare.admin(), "GET", "/flagz", ""); code != http.StatusNotFound {
		t.Error("a server without flags shows some")
	}
}
