package bootstrap

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

func TestLoadPKI(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	load := func(t *testing.T, cfg PKIConfig) *PKI {
		t.Helper()
		if cfg.Now == nil {
			cfg.Now = func() time.Time { return now }
		}
		p, err := LoadPKI(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	leaf := func(t *testing.T, p *PKI) *x509.Certificate {
		t.Helper()
		c, err := x509.ParseCertificate(p.Serving.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return c
	}

	t.Run("gives the same keys and certificates at the next start", func(t *testing.T) {
		cfg := PKIConfig{Dir: filepath.Join(t.TempDir(), "pki"), Names: []string{"box"}, IPs: []net.IP{net.IPv4(10, 96, 0, 1)}}
		a, b := load(t, cfg), load(t, cfg)
		if !bytes.Equal(a.CAPEM, b.CAPEM) || !bytes.Equal(a.Admin.Cert, b.Admin.Cert) || !a.SigningKey.Equal(b.SigningKey) ||
			!leaf(t, a).Equal(leaf(t, b)) {
			t.Error("something was made anew")
		}
	})
	t.Run("trusts a front proxy by an authority of its own", func(t *testing.T) {
		p := load(t, PKIConfig{Dir: t.TempDir()})
		c, err := x509.ParseCertificate(p.FrontProxy.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		for ca, want := range map[string]bool{string(p.FrontProxyCAPEM): true, string(p.CAPEM): false} {
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM([]byte(ca))
			_, err := c.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
			if (err == nil) != want || c.Subject.CommonName != "front-proxy-client" {
				t.Errorf("%s: %v, want trusted: %v", c.Subject, err, want)
			}
		}
	})
	t.Run("serves under the names that clients and pods use", func(t *testing.T) {
		p := load(t, PKIConfig{Dir: t.TempDir(), Names: []string{"box"}, IPs: []net.IP{net.IPv4(10, 96, 0, 1)}})
		for _, host := range []string{"localhost", "127.0.0.1", "::1", "box", "10.96.0.1", "kubernetes", "kubernetes.default.svc.cluster.local"} {
			if err := leaf(t, p).VerifyHostname(host); err != nil {
				t.Error(err)
			}
		}
	})
	t.Run("makes a new serving certificate, and nothing else, when an address is added", func(t *testing.T) {
		dir := t.TempDir()
		a := load(t, PKIConfig{Dir: dir})
		b := load(t, PKIConfig{Dir: dir, IPs: []net.IP{net.IPv4(192, 168, 7, 1)}})
		if err := leaf(t, b).VerifyHostname("192.168.7.1"); err != nil {
			t.Error(err)
		}
		if !bytes.Equal(a.CAPEM, b.CAPEM) || !bytes.Equal(a.Admin.Cert, b.Admin.Cert) {
			t.Error("the CA or the admin's certificate changed as well")
		}
	})
	t.Run("renews what ends within 90 days, not earlier", func(t *testing.T) {
		dir := t.TempDir()
		a := load(t, PKIConfig{Dir: dir})
		early := load(t, PKIConfig{Dir: dir, Now: func() time.Time { return now.Add(270 * 24 * time.Hour) }})
		if !leaf(t, a).Equal(leaf(t, early)) {
			t.Error("renewed 95 days before the end")
		}
		late := load(t, PKIConfig{Dir: dir, Now: func() time.Time { return now.Add(280 * 24 * time.Hour) }})
		if leaf(t, a).Equal(leaf(t, late)) || bytes.Equal(a.Admin.Cert, late.Admin.Cert) {
			t.Error("not renewed 85 days before the end")
		}
		if !bytes.Equal(a.CAPEM, late.CAPEM) {
			t.Error("the CA was renewed with years left")
		}
	})
	t.Run("keeps the CA's key when its certificate is renewed", func(t *testing.T) {
		dir := t.TempDir()
		a := load(t, PKIConfig{Dir: dir})
		b := load(t, PKIConfig{Dir: dir, Now: func() time.Time { return now.Add(caLifetime - 30*24*time.Hour) }})
		if bytes.Equal(a.CAPEM, b.CAPEM) {
			t.Fatal("the CA was not renewed")
		}
		if err := leaf(t, a).CheckSignatureFrom(b.CA); err != nil {
			t.Errorf("what the old CA signed is not trusted by the new one: %v", err)
		}
	})
	t.Run("keeps keys from other users", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "pki")
		load(t, PKIConfig{Dir: dir})
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) != 13 {
			t.Fatalf("%d files, want ca, apiserver, apiserver-kubelet-client, admin, front-proxy-ca, front-proxy-client (2 each) and sa.key; %v", len(entries), err)
		}
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(e.Name(), "ca.crt") && info.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", e.Name(), info.Mode())
			}
		}
	})
	t.Run("never replaces a file that it cannot read", func(t *testing.T) {
		for _, name := range []string{"ca.key", "ca.crt", "apiserver.key", "admin.crt", "front-proxy-ca.key", "sa.key"} {
			dir := t.TempDir()
			load(t, PKIConfig{Dir: dir})
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte("rubbish"), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := LoadPKI(PKIConfig{Dir: dir})
			if err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("err = %v, want one that names %s", err, path)
			}
			if data, _ := os.ReadFile(path); string(data) != "rubbish" {
				t.Errorf("%s was replaced", name)
			}
		}
	})
	t.Run("does not make another CA when its key is lost", func(t *testing.T) {
		dir := t.TempDir()
		load(t, PKIConfig{Dir: dir})
		os.Remove(filepath.Join(dir, "ca.key"))
		if _, err := LoadPKI(PKIConfig{Dir: dir}); err == nil || !strings.Contains(err.Error(), "ca.key") {
			t.Errorf("err = %v, want one that names ca.key", err)
		}
		if _, err := os.Stat(filepath.Join(dir, "ca.key")); err == nil {
			t.Error("a key was made")
		}
	})
	t.Run("accepts tokens of the key before after a rotation", func(t *testing.T) {
		dir := t.TempDir()
		a := load(t, PKIConfig{Dir: dir})
		if err := RotateSigningKey(dir); err != nil {
			t.Fatal(err)
		}
		b := load(t, PKIConfig{Dir: dir})
		if a.SigningKey.Equal(b.SigningKey) || len(b.OldKeys) != 1 || !a.SigningKey.PublicKey.Equal(b.OldKeys[0]) {
			t.Errorf("old keys: %v", b.OldKeys)
		}
	})
}

func TestCertificatesWork(t *testing.T) {
	p, err := LoadPKI(PKIConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(p.CAPEM) {
		t.Fatal("no CA")
	}
	kubelet, err := p.Client("system:node:box", "system:nodes")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(kubelet.Cert, kubelet.Key)
	if err != nil {
		t.Fatal(err)
	}
	server, client := net.Pipe()
	done := make(chan tls.ConnectionState, 1)
	go func() {
		s := tls.Server(server, &tls.Config{Certificates: []tls.Certificate{p.Serving},
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots})
		s.Handshake()
		done <- s.ConnectionState()
		s.Write([]byte("x")) // the client reads until it knows it was accepted
		s.Close()
	}()
	c := tls.Client(client, &tls.Config{RootCAs: roots, ServerName: "kubernetes.default.svc", Certificates: []tls.Certificate{pair}})
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	client.Close() // not c: over a pipe nobody reads its farewell
	state := <-done
	if len(state.PeerCertificates) == 0 {
		t.Fatal("no client certificate arrived")
	}
	who := state.PeerCertificates[0].Subject
	if who.CommonName != "system:node:box" || len(who.Organization) != 1 || who.Organization[0] != "system:nodes" {
		t.Errorf("the server sees %v", who)
	}
}

func TestKubeconfig(t *testing.T) {
	p, err := LoadPKI(PKIConfig{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "etc", "kubeconfig")
	k := Kubeconfig{Server: "https://127.0.0.1:6443", CA: p.CAPEM, Client: p.Admin}
	for range 2 {
		if err := k.Write(path); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v", info.Mode(), err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var f kubeconfigFile
	if err := yaml.UnmarshalStrict(data, &f); err != nil {
		t.Fatal(err)
	}
	if f.Clusters[0].Cluster.Server != k.Server || !bytes.Equal(f.Users[0].User.Cert, p.Admin.Cert) ||
		f.CurrentContext != f.Contexts[0].Name || f.Contexts[0].Context.User != f.Users[0].Name {
		t.Errorf("got %s", data)
	}
}
