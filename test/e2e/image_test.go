package e2e

import (
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// registry serves on the host's loopback. What spoil names is sent damaged.
func (h *host) registry(spoil func(path string) bool) (addr string) {
	h.Helper()
	var l net.Listener
	var err error
	h.inside(func() { l, err = net.Listen("tcp", "127.0.0.1:0") })
	if err != nil {
		h.Fatal(err)
	}
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || !spoil(r.URL.Path) {
			handler.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		handler.ServeHTTP(rec, r)
		body := rec.Body.Bytes()
		body[len(body)/2] ^= 0xff
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		w.Write(body)
	})}
	over := make(chan struct{})
	go func() { defer close(over); server.Serve(l) }()
	h.Cleanup(func() { server.Close(); <-over })
	return l.Addr().String()
}

func (h *host) push(addr, path string) v1.Image {
	h.Helper()
	img, err := random.Image(4096, 3)
	if err != nil {
		h.Fatal(err)
	}
	ref, err := name.ParseReference(addr+"/"+path, name.Insecure)
	if err == nil {
		err = remote.Write(ref, img, remote.WithTransport(&http.Transport{DialContext: h.dial}))
	}
	if err != nil {
		h.Fatal(err)
	}
	return img
}

func TestImagesFromARegistryAndAnArchive(t *testing.T) {
	h := newHost(t)
	bad := false
	addr := h.registry(func(path string) bool { return bad && strings.Contains(path, "/blobs/") })
	img := h.push(addr, "some/thing:1")
	h.sampan("pull", addr+"/some/thing:1")
	id, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	if out := h.sampan("inspect", addr+"/some/thing:1"); !strings.Contains(out, id.String()) || strings.Count(out, "sha256:") < 4 {
		t.Errorf("inspect:\n%s", out)
	}

	bad = true
	broken := h.push(addr, "broken:1")
	layers, err := broken.Layers()
	if err != nil {
		t.Fatal(err)
	}
	out, err := h.try(nil, tools.sampan, h.args("pull", addr+"/broken:1")...)
	if err == nil || !strings.Contains(out, "broken:1") || !strings.Contains(out, "sha256:") {
		t.Errorf("a damaged image of %d layers: %v\n%s", len(layers), err, out)
	}
	if out := h.sampan("images"); strings.Contains(out, "broken") || !strings.Contains(out, "some/thing") {
		t.Errorf("images after a failed pull:\n%s", out)
	}

	archive := filepath.Join(t.TempDir(), "image.tar")
	ref, err := name.NewTag("archived/thing:2")
	if err == nil {
		err = tarball.WriteToFile(archive, ref, img)
	}
	if err != nil {
		t.Fatal(err)
	}
	h.sampan("load", "-i", archive)
	if out := h.sampan("images"); !strings.Contains(out, "archived/thing") {
		t.Errorf("images after a load:\n%s", out)
	}
	h.sampan("rmi", "archived/thing:2")
	h.fails("names look like", tools.sampan, h.args("pull", "http://registry.invalid/x")...)

	data, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(archive, data[:len(data)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	h.fails("image.tar", tools.sampan, h.args("load", "-i", archive)...)
}

// Containers without the cluster, and without a program that runs.
func TestContainersAlone(t *testing.T) {
	h := newHost(t)
	h.images()
	if out := h.sampan("run", "--rm", "-e", "A=b", "test/probe:1", "env", "A"); out != "A=b\n" {
		t.Errorf("run: %q", out)
	}
	h.fails("on fire", tools.sampan, h.args("run", "--rm", "test/probe:1", "exit", "4", "on fire")...)
	h.sampan("run", "-d", "--name", "web", "-p", "18080:8080", "--memory", "32m", "test/probe:1")
	h.until("the published port", func() error { _, err := h.get("http://127.0.0.1:18080/"); return err })
	if out := h.sampan("exec", "web", "/program", "env", "IMAGE"); out != "IMAGE=test/probe:1\n" {
		t.Errorf("exec: %q", out)
	}
	if out := h.sampan("ps"); !strings.Contains(out, "web") {
		t.Errorf("ps:\n%s", out)
	}
	if out := h.sampan("explain", "container", "web"); !strings.Contains(out, "pivot_root") || !strings.Contains(out, "execve") {
		t.Errorf("explain:\n%s", out)
	}
	if out := h.sampan("logs", "web"); !strings.Contains(out, "serving as") {
		t.Errorf("logs: %q", out)
	}
	h.sampan("stop", "web")
	h.sampan("rm", "web")
	if out := h.sampan("ps", "-a", "-q"); strings.TrimSpace(out) != "" {
		t.Errorf("left: %s", out)
	}
}
