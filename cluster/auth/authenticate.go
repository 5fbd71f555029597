package auth

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"sampan/cluster/request"
)

// Authenticator says who sent a request. It is safe for concurrent use.
type Authenticator struct {
	// ClientCA signs client certificates.
	ClientCA []*x509.Certificate
	// Tokens checks bearer tokens; nil: every token is refused.
	Tokens *Tokens
	// Now is the clock; nil: time.Now.
	Now func() time.Time

	once sync.Once
	pool *x509.CertPool

	mu    sync.Mutex // guards all below
	known map[[sha256.Size]byte]certificateUser
}

// certificateUser remembers a verified certificate: a client sends the same
// one with each request, and a signature check costs more than a small read.
type certificateUser struct {
	user       request.User
	from, till time.Time
}

// knownLimit bounds what is remembered; beyond it all is forgotten at once.
const knownLimit = 1024

// errCredentials is all that a client learns about bad credentials.
var errCredentials = errors.New("invalid credentials")

// Authenticate returns the user of r. Without credentials that is
// system:anonymous; with bad ones it is an error, to be answered with 401.
func (a *Authenticator) Authenticate(r *http.Request) (request.User, error) {
	token, given := bearer(r)
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		user, err := a.certificate(r.TLS.PeerCertificates)
		if err == nil || !given {
			return user, err // a certificate for somebody else does not spoil a good token
		}
	}
	if !given {
		return request.User{Name: Anonymous, Groups: []string{Unauthenticated}}, nil
	}
	if a.Tokens == nil {
		return request.User{}, errCredentials
	}
	user, _, err := a.Tokens.Verify(r.Context(), token, nil)
	return user, err
}

// certificate maps a subject to a user: CN is the name, O the groups.
func (a *Authenticator) certificate(chain []*x509.Certificate) (request.User, error) {
	a.once.Do(func() {
		a.pool = x509.NewCertPool()
		for _, c := range a.ClientCA {
			a.pool.AddCert(c)
		}
	})
	now := time.Now()
	if a.Now != nil {
		now = a.Now()
	}
	id := sha256.Sum256(chain[0].Raw)
	a.mu.Lock()
	u, ok := a.known[id]
	a.mu.Unlock()
	if ok && now.After(u.from) && now.Before(u.till) {
		return u.user, nil
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	chains, err := chain[0].Verify(x509.VerifyOptions{Roots: a.pool, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return request.User{}, err
	}
	name := chain[0].Subject.CommonName
	if name == "" {
		return request.User{}, errCredentials
	}
	u = certificateUser{from: chain[0].NotBefore, till: chain[0].NotAfter,
		user: request.User{Name: name, Groups: withAuthenticated(chain[0].Subject.Organization)}}
	for _, c := range chains[0] {
		if c.NotAfter.Before(u.till) {
			u.till = c.NotAfter
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known == nil || len(a.known) >= knownLimit {
		a.known = map[[sha256.Size]byte]certificateUser{}
	}
	a.known[id] = u
	return u.user, nil
}

func withAuthenticated(groups []string) []string {
	all := make([]string, 0, len(groups)+1)
	for _, g := range groups {
		if g != Authenticated && g != Unauthenticated {
			all = append(all, g)
		}
	}
	return append(all, Authenticated)
}

// websocketTokenPrefix marks a token given as a WebSocket subprotocol, which
// is the only header that a browser lets a script choose. (Upstream:
// apiserver/pkg/authentication/request/websocket.)
const websocketTokenPrefix = "base64url.bearer.authorization.k8s.io."

// bearer returns the token of r. An Authorization header of another scheme is
// no credential of ours, as upstream.
func bearer(r *http.Request) (token string, given bool) {
	scheme, rest, _ := strings.Cut(strings.TrimSpace(r.Header.Get("Authorization")), " ")
	if strings.EqualFold(scheme, "bearer") {
		if token = strings.TrimSpace(rest); token != "" {
			return token, true
		}
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return "", false
	}
	return websocketToken(r.Header)
}
