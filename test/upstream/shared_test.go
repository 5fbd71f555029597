package upstream

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// certificate writes an authority, and a certificate of it with its key for
// both ends of a connection on this machine.
func certificate(t *testing.T, dir string) (ca, cert, key string) {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "etcd"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "etcd.crt"), filepath.Join(dir, "etcd.key")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, cert, key
}

// TestBothServersWorkOnOneEtcd has an etcd that asks for certificates, with
// this program and upstream's API server on it at the same time.
func TestBothServersWorkOnOneEtcd(t *testing.T) {
	dir := t.TempDir()
	ca, cert, key := certificate(t, dir)
	secure := strings.Replace(etcdURL, "http:", "https:", 1)
	startEtcd(t, dir, filepath.Join(dir, "etcd"), "--listen-client-urls="+secure, "--advertise-client-urls="+secure,
		"--cert-file="+cert, "--key-file="+key, "--trusted-ca-file="+ca, "--client-cert-auth")
	reach := []string{"--etcd-servers=" + secure, "--etcd-cafile=" + ca, "--etcd-certfile=" + cert, "--etcd-keyfile=" + key}
	_, theirs := kubeAPIServer(t, dir, reach...)
	o := ours{t, filepath.Join(dir, "ours")}
	our := o.up(reach...)

	sides := map[string]*rest.Config{"upstream": theirs, "ours": our}
	for by, cfg := range sides {
		for other, on := range sides {
			if by == other {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			w, err := client(t, on).CoreV1().ConfigMaps("default").Watch(ctx, metav1.ListOptions{FieldSelector: "metadata.name=by-" + by})
			if err != nil {
				t.Fatal(err)
			}
			made := put(t, cfg, "by-"+by)
			if !has(t, on, "by-"+by) {
				t.Errorf("what %s wrote is not read by %s", by, other)
			}
			select {
			case e := <-w.ResultChan():
				got, ok := e.Object.(metav1.Object)
				if !ok || got.GetResourceVersion() != made.ResourceVersion {
					t.Errorf("%s shows %+v, want what %s wrote", other, e, by)
				}
			case <-ctx.Done():
				t.Errorf("%s does not show what %s wrote", other, by)
			}
			w.Stop()
			cancel()
		}
	}
}
