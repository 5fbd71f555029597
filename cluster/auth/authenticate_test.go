package auth

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
)

func TestAuthenticate(t *testing.T) {
	w := newWorld(t, ec(t))
	token := w.request(t, &authenticationv1.TokenRequest{}).Status.Token
	now := time.Now()
	make := func(c x509.Certificate, parent *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
		t.Helper()
		c.SerialNumber = big.NewInt(1)
		if c.NotAfter.IsZero() {
			c.NotBefore, c.NotAfter = now.Add(-time.Hour), now.Add(time.Hour)
		}
		if parent == nil {
			parent = &c
		}
		der, err := x509.CreateCertificate(rand.Reader, &c, parent, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		out, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	key, otherKey := ec(t), ec(t)
	authority := x509.Certificate{Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	ca, other := make(authority, nil, key), make(authority, nil, otherKey)
	client := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	ann := pkix.Name{CommonName: "ann", Organization: []string{"ops"}}
	a := &Authenticator{ClientCA: NewTrust(ca), Tokens: w.Tokens}

	const anybody, nobody = "", "nobody"
	for _, tc := range []struct {
		it     string
		cert   *x509.Certificate
		header http.Header
		user   string // anybody: anonymous; nobody: refused
		groups []string
	}{
		{it: "takes a request without credentials for anonymous", user: anybody, groups: []string{Unauthenticated}},
		{it: "takes CN for the name and O for the groups",
			cert: make(x509.Certificate{Subject: ann, ExtKeyUsage: client}, ca, key), user: "ann", groups: []string{"ops", Authenticated}},
		{it: "refuses a certificate of another authority", cert: make(x509.Certificate{Subject: ann, ExtKeyUsage: client}, other, otherKey), user: nobody},
		{it: "refuses a certificate that has ended", cert: make(x509.Certificate{Subject: ann, ExtKeyUsage: client,
			NotBefore: now.Add(-2 * time.Hour), NotAfter: now.Add(-time.Hour)}, ca, key), user: nobody},
		{it: "refuses a server's certificate", cert: make(x509.Certificate{Subject: ann, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, ca, key), user: nobody},
		{it: "takes a certificate without a name for none", cert: make(x509.Certificate{ExtKeyUsage: client}, ca, key), user: anybody, groups: []string{Unauthenticated}},
		{it: "takes a token", header: http.Header{"Authorization": {"Bearer " + token}}, user: "system:serviceaccount:shop:web",
			groups: []string{ServiceAccounts, ServiceAccounts + ":shop", Authenticated}},
		{it: "takes a token from a browser's WebSocket", user: "system:serviceaccount:shop:web",
			header: http.Header{"Upgrade": {"websocket"}, "Sec-Websocket-Protocol": {websocketTokenPrefix + base64.RawURLEncoding.EncodeToString([]byte(token)) + ", v5.channel.k8s.io"}},
			groups: []string{ServiceAccounts, ServiceAccounts + ":shop", Authenticated}},
		{it: "refuses a bad token", header: http.Header{"Authorization": {"Bearer " + token + "x"}}, user: nobody},
		{it: "does not take another scheme for a credential", header: http.Header{"Authorization": {"Basic eDp5"}}, user: anybody, groups: []string{Unauthenticated}},
		{it: "takes a good token beside a certificate of another authority", header: http.Header{"Authorization": {"Bearer " + token}},
			cert: make(x509.Certificate{Subject: ann, ExtKeyUsage: client}, other, otherKey), user: "system:serviceaccount:shop:web",
			groups: []string{ServiceAccounts, ServiceAccounts + ":shop", Authenticated}},
	} {
		t.Run(tc.it, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			for k, v := range tc.header {
				r.Header[k] = v
			}
			if tc.cert != nil {
				r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{tc.cert}}
			}
			want := tc.user
			if want == anybody {
				want = Anonymous
			}
			for range 2 { // the second answer is from memory
				u, err := a.Authenticate(r.Clone(t.Context()))
				if want == nobody {
					if err == nil {
						t.Errorf("accepted as %v", u)
					}
					continue
				}
				if err != nil || u.Name != want || !slices.Equal(u.Groups, tc.groups) {
					t.Errorf("%+v, %v; want %s %v", u, err, want, tc.groups)
				}
			}
			if r.Header.Get("Upgrade") != "" {
				a.Authenticate(r)
				if got := r.Header.Get("Sec-Websocket-Protocol"); got != "v5.channel.k8s.io" {
					t.Errorf("the token is passed on in %q", got)
				}
			}
		})
	}
}

func TestRememberedCertificateEnds(t *testing.T) {
	key := ec(t)
	now := time.Now()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "ann"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(2 * time.Hour)}
	for _, c := range []*x509.Certificate{ca, leaf} {
		der, err := x509.CreateCertificate(rand.Reader, c, ca, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		*c = *parsed
	}
	a := &Authenticator{ClientCA: NewTrust(ca), Now: func() time.Time { return now }}
	r := httptest.NewRequest("GET", "/", nil)
	r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}}
	if _, err := a.Authenticate(r); err != nil {
		t.Fatal(err)
	}
	now = now.Add(90 * time.Minute) // the leaf would be good, its authority is not
	if u, err := a.Authenticate(r); err == nil {
		t.Errorf("accepted as %v", u)
	}
}
