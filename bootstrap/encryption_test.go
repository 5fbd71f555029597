package bootstrap

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"sampan/cluster/audit"
)

// apiServer is the program as upstream's kube-apiserver, on loopback.
type apiServer struct {
	t    *testing.T
	dir  string // keeps the state from one start to the next
	http *http.Client
	url  string
	stop context.CancelFunc
	done chan error
}

// start runs the program until end is called.
func (a *apiServer) start(change func(*Config)) {
	a.t.Helper()
	ready := make(chan Ready, 1)
	cfg := Config{State: filepath.Join(a.dir, "state"), Run: filepath.Join(a.dir, "run"), Kubeconfig: filepath.Join(a.dir, "kubeconfig"),
		NodeName: "node", Listen: "127.0.0.1", Port: freePort(a.t), APIOnly: true, Ready: func(r Ready) { ready <- r }}
	change(&cfg)
	program, err := New(cfg)
	if err != nil {
		a.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	a.stop, a.done = stop, make(chan error, 1)
	go func() { a.done <- program.Run(ctx) }()
	select {
	case r := <-ready:
		a.url = r.Server
	case err := <-a.done:
		stop()
		a.t.Fatalf("it ended before it was up: %v", err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", cfg.Kubeconfig)
	if err != nil {
		a.t.Fatal(err)
	}
	if a.http, err = rest.HTTPClientFor(config); err != nil {
		a.t.Fatal(err)
	}
}

func (a *apiServer) end() {
	a.t.Helper()
	a.http.CloseIdleConnections()
	a.stop()
	if err := <-a.done; err != nil {
		a.t.Fatal(err)
	}
}

func (a *apiServer) do(method, path, body string) (code int, answer string) {
	a.t.Helper()
	req, err := http.NewRequest(method, a.url+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.http.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

// stores says whether etcd's files have the text.
func (a *apiServer) stores(text string) (found bool) {
	a.t.Helper()
	err := filepath.WalkDir(filepath.Join(a.dir, "state", "store"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		found = found || bytes.Contains(data, []byte(text))
		return err
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return found
}

// file writes what a flag names.
func (a *apiServer) file(name, text string) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
	return path
}

func TestSecretsAreEncryptedAtRestAndTheirKeyIsRotated(t *testing.T) {
	a := &apiServer{t: t, dir: t.TempDir()}
	secrets := func(providers ...string) func(*Config) {
		text := "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n"
		for _, p := range providers {
			name, key, _ := strings.Cut(p, " ")
			text += fmt.Sprintf("  - %s: {keys: [{name: %s, secret: %s}]}\n", name, key, base64.StdEncoding.EncodeToString(bytes.Repeat([]byte(key[:1]), 32)))
		}
		return func(c *Config) { c.Encryption.File = a.file("encryption.yaml", text) }
	}
	const all, one = "/api/v1/namespaces/default/secrets", "/api/v1/namespaces/default/secrets/s"
	expect := func(want int, part, method, path, body string) string {
		t.Helper()
		code, answer := a.do(method, path, body)
		if code != want || !strings.Contains(answer, part) {
			t.Errorf("%s %s is answered with %d %s; want %d and %q", method, path, code, answer, want, part)
		}
		return answer
	}
	const hidden = "bXkgc2VjcmV0" // "my secret"

	log := filepath.Join(a.dir, "audit.log")
	a.start(func(c *Config) {
		secrets("aesgcm a1")(c)
		c.Audit = audit.Defaults()
		c.Audit.PolicyFile, c.Audit.File.Path = a.file("policy.yaml", "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]"), log
	})
	expect(201, "", "POST", all, `{"metadata":{"name":"s"},"data":{"pw":"`+hidden+`"}}`)
	a.end()
	if a.stores("my secret") || !a.stores("k8s:enc:aesgcm:v1:a1:") {
		t.Error("etcd has the secret in the clear")
	}
	if data, err := os.ReadFile(log); err != nil || !strings.Contains(string(data), `"objectRef":{"resource":"secrets","namespace":"default","name":"s","apiVersion":"v1"}`) {
		t.Errorf("the audit log is %s, error %v", data, err)
	}

	a.start(secrets("secretbox b2", "aesgcm a1"))
	again := expect(200, hidden, "GET", one, "")
	expect(200, hidden, "PUT", one, again)
	a.end()
	if !a.stores("k8s:enc:secretbox:v1:b2:") {
		t.Error("writing the same again has not brought the new key")
	}

	a.start(secrets("aesgcm c3"))
	expect(500, "Key: /registry/secrets/default/s,", "GET", one, "")
	expect(500, "--encryption-provider-config", "GET", "/api/v1/secrets", "")
	expect(200, `"items":[]`, "GET", "/api/v1/namespaces/other/secrets", "")
	expect(200, "ok", "GET", "/readyz", "")
	expect(500, "corrupt object", "DELETE", one, "")
	a.end()

	a.start(func(*Config) {})
	expect(500, "identity transformer tried to read encrypted data", "GET", one, "")
	const unsafe = `{"kind":"DeleteOptions","apiVersion":"v1","ignoreStoreReadErrorWithClusterBreakingPotential":true}`
	expect(201, "", "POST", all, `{"metadata":{"name":"plain"}}`)
	expect(409, "unsafe deletion is not allowed because the object is decodable from storage", "DELETE", all+"/plain", unsafe)
	expect(200, `"status":"Success"`, "DELETE", one, unsafe)
	expect(404, "", "GET", one, "")
	expect(200, `"name":"plain"`, "GET", all, "")
	a.end()
}

func TestAWrongEncryptionConfigurationIsSaidAtTheStart(t *testing.T) {
	a := &apiServer{t: t, dir: t.TempDir()}
	program, err := New(Config{State: filepath.Join(a.dir, "state"), Run: filepath.Join(a.dir, "run"), Kubeconfig: filepath.Join(a.dir, "kubeconfig"),
		NodeName: "node", Listen: "127.0.0.1", Port: freePort(t), APIOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	program.cfg.Encryption.File = a.file("encryption.yaml", "resource: []")
	if err := program.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "--encryption-provider-config") {
		t.Errorf("error %v", err)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
