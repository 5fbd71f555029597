package auth

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"sampan/cluster/request"
)

// authority makes an authority and a client's certificate of it.
func authority(t *testing.T, client string) (ca, leaf *x509.Certificate) {
	t.Helper()
	key := ec(t)
	now := time.Now()
	sign := func(c, parent *x509.Certificate) *x509.Certificate {
		c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(1), now.Add(-time.Hour), now.Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		out, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	root := &x509.Certificate{Subject: pkix.Name{CommonName: "ca of " + client}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	ca = sign(root, root)
	return ca, sign(&x509.Certificate{Subject: pkix.Name{CommonName: client}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca)
}

func TestAProxySaysWhoAUserIs(t *testing.T) {
	proxyCA, proxy := authority(t, "front-proxy")
	usersCA, ann := authority(t, "ann")
	headers := http.Header{"X-Remote-User": {"bob"}, "X-Remote-Group": {"ops", "", "dev"}, "X-Remote-Uid": {"7"}, "X-Remote-Extra-Acme.com%2fproject": {"a"}}
	bob := request.User{Name: "bob", UID: "7", Groups: []string{"ops", "dev", Authenticated}, Extra: map[string][]string{"acme.com/project": {"a"}}}
	for _, c := range []struct {
		it    string
		names []string
		cert  *x509.Certificate
		with  http.Header
		want  string // name; empty: refused
	}{
		{it: "is believed", cert: proxy, with: headers, want: "bob"},
		{it: "is believed if it has one of the names", names: []string{"front-proxy"}, cert: proxy, with: headers, want: "bob"},
		{it: "is refused if it has another", names: []string{"other"}, cert: proxy, with: headers},
		{it: "is no user itself", cert: proxy, with: http.Header{}},
		{it: "cannot be played by a user", cert: ann, with: headers, want: "ann"},
		{it: "cannot be played by nobody", with: headers, want: Anonymous},
	} {
		t.Run(c.it, func(t *testing.T) {
			a := &Authenticator{ClientCA: NewTrust(usersCA), FrontProxy: &FrontProxy{CA: NewTrust(proxyCA), Names: c.names,
				UserHeaders: []string{"X-Remote-User"}, UIDHeaders: []string{"X-Remote-Uid"}, GroupHeaders: []string{"X-Remote-Group"}, ExtraPrefixes: []string{"X-Remote-Extra-"}}}
			r := httptest.NewRequest("GET", "/", nil)
			r.Header = c.with.Clone()
			if c.cert != nil {
				r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{c.cert}}
			}
			u, err := a.Authenticate(r)
			if (err == nil) != (c.want != "") || u.Name != c.want {
				t.Fatalf("%+v, %v; want %s", u, err, c.want)
			}
			if c.want == "bob" && !reflect.DeepEqual(u, bob) {
				t.Errorf("%+v, want %+v", u, bob)
			}
			if c.want == "bob" && len(r.Header) > 0 {
				t.Errorf("passed on: %v", r.Header)
			}
		})
	}
}

func TestWhoMayComeWithoutAName(t *testing.T) {
	for _, c := range []struct {
		it, path string
		of       Authenticator
		may      bool
	}{
		{"everybody", "/api", Authenticator{}, true},
		{"nobody", "/healthz", Authenticator{NoAnonymous: true}, false},
		{"who asks for one path", "/healthz", Authenticator{AnonymousPaths: []string{"/healthz"}}, true},
		{"and not for another", "/healthz/etcd", Authenticator{AnonymousPaths: []string{"/healthz"}}, false},
	} {
		u, err := c.of.Authenticate(httptest.NewRequest("GET", c.path, nil))
		if (err == nil) != c.may || c.may && u.Name != Anonymous {
			t.Errorf("%s: %+v, %v", c.it, u, err)
		}
	}
}
