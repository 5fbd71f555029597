package auth

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"sampan/cluster/request"
)

// Trust is the authorities whose client certificates are believed. It is safe
// for concurrent use.
type Trust struct {
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

// NewTrust returns the trust in these authorities.
func NewTrust(authorities ...*x509.Certificate) *Trust {
	t := &Trust{pool: x509.NewCertPool()}
	for _, c := range authorities {
		t.pool.AddCert(c)
	}
	return t
}

// credentialID is the key under which a user's extra says which credential it
// was. (Upstream: apiserver/pkg/authentication/user.)
const credentialID = "authentication.kubernetes.io/credential-id"

// user maps the subject of a certificate to a user: CN is the name, which may
// be empty, O the groups.
func (t *Trust) user(chain []*x509.Certificate, now time.Time) (request.User, error) {
	id := sha256.Sum256(chain[0].Raw)
	t.mu.Lock()
	u, ok := t.known[id]
	t.mu.Unlock()
	if ok && now.After(u.from) && now.Before(u.till) {
		return u.user, nil
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	chains, err := chain[0].Verify(x509.VerifyOptions{Roots: t.pool, Intermediates: between, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return request.User{}, err
	}
	uid, err := certificateUID(chain[0])
	if err != nil {
		return request.User{}, err
	}
	u = certificateUser{from: chain[0].NotBefore, till: chain[0].NotAfter,
		user: withAuthenticated(request.User{Name: chain[0].Subject.CommonName, UID: uid, Groups: chain[0].Subject.Organization,
			Extra: map[string][]string{credentialID: {"X509SHA256=" + hex.EncodeToString(id[:])}}})}
	for _, c := range chains[0] {
		if c.NotAfter.Before(u.till) {
			u.till = c.NotAfter
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil || len(t.known) >= knownLimit {
		t.known = map[[sha256.Size]byte]certificateUser{}
	}
	t.known[id] = u
	return u.user, nil
}

// certificateUID is the user's UID, if the subject has one. (KEP-4947; the
// number is of the Kubernetes project.)
func certificateUID(c *x509.Certificate) (uid string, err error) {
	number := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57683, 2}
	found := 0
	for _, n := range c.Subject.Names {
		if !n.Type.Equal(number) {
			continue
		}
		text, ok := n.Value.(string)
		if !ok {
			return "", errors.New("unable to parse UID into a string")
		}
		if text == "" {
			return "", errors.New("UID cannot be an empty string")
		}
		uid = text
		found++
	}
	if found > 1 {
		return "", fmt.Errorf("expected 1 UID, but found %d", found)
	}
	return uid, nil
}
