package api_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"sampan/cluster/api"
	"sampan/cluster/auth"
	"sampan/cluster/auth/policy"
	"sampan/cluster/client"
	"sampan/cluster/kind"
	"sampan/cluster/kind/apiextensions"
	"sampan/cluster/kind/apps"
	"sampan/cluster/kind/coordination"
	"sampan/cluster/kind/core"
	"sampan/cluster/kind/discovery"
	"sampan/cluster/kind/rbac"
	"sampan/cluster/request"
	"sampan/cluster/schema"
	"sampan/cluster/verb"
	"sampan/cluster/verb/verbtest"
)

// world is an API server on a real store, listening on loopback.
type world struct {
	*authority
	t      testing.TB
	url    string
	server *api.Server
	verbs  *verb.API
	tokens *auth.Tokens
	all    client.Client // may everything
	stop   context.CancelFunc
	ended  chan error
	log    *bytes.Buffer
	home   string // of kubectl, which keeps discovery there
}

func kinds() *kind.Table {
	return kind.NewTable(core.Kinds(), apps.Kinds(), discovery.Kinds(), coordination.Kinds(), rbac.Kinds(), apiextensions.Kinds())
}

// newWorld starts a server; change may adapt its configuration.
func newWorld(t testing.TB, change ...func(*api.Config)) *world {
	t.Helper()
	w := &world{t: t, authority: newAuthority(t), log: &bytes.Buffer{}}
	table := kinds()
	db := verbtest.Open(t, table, t.TempDir())
	reader := verb.NewReader(table, db)
	authorizer := auth.NewAuthorizer(auth.NewNodeRule(reader), auth.NewRBAC(auth.RBACConfig{
		Objects: reader, Changes: db.Changes(rbac.Kinds()...), Policy: policy.Bootstrap()}))
	schemas := schema.New(table)
	w.verbs = verbtest.New(t, table, verb.Config{Store: db, Authorizer: authorizer, Schemas: schemas,
		Actions: map[string]verb.Action{"serviceaccounts/token": func(ctx context.Context, r request.Request, _ kind.Object, body runtime.Object) (runtime.Object, error) {
			return w.tokens.Request(ctx, r.Namespace, r.Name, body.(*authenticationv1.TokenRequest), nil)
		}}})
	w.all = w.verbs.As(auth.Master())
	var err error
	if w.tokens, err = auth.NewTokens(auth.TokenConfig{SigningKey: w.key, Objects: w.all}); err != nil {
		t.Fatal(err)
	}
	cfg := api.Config{Verbs: w.verbs, Kinds: table, Schemas: schemas, Authorizer: authorizer, Objects: w.all, Tokens: w.tokens,
		Authenticator: &auth.Authenticator{ClientCA: auth.NewTrust(w.ca), Tokens: w.tokens},
		Log:           slog.New(slog.NewTextHandler(w.log, nil))}
	for _, f := range change {
		f(&cfg)
	}
	if w.server, err = api.New(cfg); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.url = "https://" + l.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	w.stop, w.ended = stop, make(chan error, 1)
	go func() { w.ended <- w.server.Serve(ctx, api.TLS(w.serving, w.ca), l) }()
	t.Cleanup(func() { w.end() })
	return w
}

// end stops the server and waits for it.
func (w *world) end() error {
	w.stop()
	err, first := <-w.ended
	if first {
		close(w.ended)
	}
	return err
}

// authority signs certificates for tests.
type authority struct {
	ca      *x509.Certificate
	key     *ecdsa.PrivateKey
	serving tls.Certificate
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key}
	a.ca = &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test-ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, a.ca, a.ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if a.ca, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.serving = a.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "api"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return a
}

func (a *authority) sign(t testing.TB, c *x509.Certificate) tls.Certificate {
	t.Helper()
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(2), time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, c, a.ca, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}
}

func (a *authority) user(t testing.TB, name string, groups ...string) tls.Certificate {
	t.Helper()
	return a.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: name, Organization: groups},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}

func (a *authority) caPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.ca.Raw})
}

func pemPair(t testing.TB, c tls.Certificate) (cert, key []byte) {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(c.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// as is an HTTP client with the certificate of a user; without a name it has
// none.
func (w *world) as(name string, groups ...string) *http.Client {
	w.t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(w.ca)
	config := &tls.Config{RootCAs: pool}
	if name != "" {
		config.Certificates = []tls.Certificate{w.user(w.t, name, groups...)}
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (w *world) admin() *http.Client { return w.as("admin", auth.Masters) }

// do sends a request and returns status, header and body.
func (w *world) do(c *http.Client, method, path, body string, header ...string) (int, http.Header, string) {
	w.t.Helper()
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	req, err := http.NewRequest(method, w.url+path, in)
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(data)
}

// config is for client-go.
func (w *world) config(contentType string) *rest.Config {
	cert, key := pemPair(w.t, w.user(w.t, "admin", auth.Masters))
	return &rest.Config{Host: w.url, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: contentType},
		TLSClientConfig: rest.TLSClientConfig{CAData: w.caPEM(), CertData: cert, KeyData: key}}
}

// kubectl runs the real one as admin and returns what it printed, both ways.
func (w *world) kubectl(stdin string, args ...string) (string, error) {
	w.t.Helper()
	if w.home == "" {
		w.home = filepath.Dir(w.kubeconfig())
	}
	for {
		cmd := exec.Command("kubectl", args...)
		cmd.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(w.home, "config"), "HOME="+w.home)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.CombinedOutput()
		// The client drops what comes over a WebSocket before it has made its
		// streams, and says so: that try was not the server's.
		if strings.Contains(string(out), "Unknown stream id") {
			continue
		}
		return string(out), err
	}
}

func (w *world) kubeconfig() string {
	w.t.Helper()
	dir := w.t.TempDir()
	cert, key := pemPair(w.t, w.user(w.t, "admin", auth.Masters))
	for name, data := range map[string][]byte{"ca": w.caPEM(), "cert": cert, "key": key,
		"config": fmt.Appendf(nil, `{"apiVersion":"v1","kind":"Config","current-context":"t",
"clusters":[{"name":"t","cluster":{"server":%q,"certificate-authority":"ca"}}],
"users":[{"name":"t","user":{"client-certificate":"cert","client-key":"key"}}],
"contexts":[{"name":"t","context":{"cluster":"t","user":"t"}}]}`, w.url)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	return filepath.Join(dir, "config")
}
