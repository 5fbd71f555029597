package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"

	"sampan/cluster/client"
	"sampan/cluster/kind"
	"sampan/cluster/request"
	"sampan/internal/fault"
)

// DefaultIssuer is the issuer of tokens unless configured otherwise.
const DefaultIssuer = "https://kubernetes.default.svc.cluster.local"

// leeway is the time for which tokens of an object that is being deleted stay
// good, so that what runs in it can end cleanly. (Upstream:
// pkg/serviceaccount/claims.go.)
const leeway = 60 * time.Second

// TokenConfig says how service account tokens are signed and checked.
type TokenConfig struct {
	Issuer     string             // default: DefaultIssuer
	OldIssuers []string           // of tokens issued before; accepted
	Audiences  []string           // of this API server; default: the issuers
	SigningKey crypto.Signer      // *ecdsa.PrivateKey, or *rsa.PrivateKey
	OldKeys    []crypto.PublicKey // of tokens signed before; accepted
	JWKSURI    string             // in the OpenID configuration; default: <issuer>/openid/v1/jwks

	// MaxExpiration is how long a token lasts at most; zero: as long as asked.
	// ExactExpiration has the default token of a pod last as long as it says, and
	// not a year for clients that never read the file again.
	MaxExpiration   time.Duration
	ExactExpiration bool

	// Used is told that the token in a Secret was used on a day that its label
	// does not say: see package legacytoken. It may be nil.
	Used func(ctx context.Context, s *corev1.Secret, day string)

	// Objects is where service accounts and what tokens are bound to are
	// looked up; it reads without being asked who it is.
	Objects client.Reader

	Metrics *TokenMetrics // default: nobody reads them

	Now func() time.Time // default: time.Now
}

// Tokens issues and checks service account tokens: JSON Web Tokens with
// upstream's claims (KEP-1205, KEP-4193). It is safe for concurrent use.
type Tokens struct {
	cfg    TokenConfig
	signer jose.Signer
	keys   jose.JSONWebKeySet

	mu    sync.Mutex // guards all below
	known map[[sha256.Size]byte]*claims
}

// claims are what a token says. Times are seconds since 1970.
type claims struct {
	Audience  audience   `json:"aud"`
	Expiry    int64      `json:"exp"`
	IssuedAt  int64      `json:"iat"`
	Issuer    string     `json:"iss"`
	ID        string     `json:"jti,omitempty"`
	Private   kubernetes `json:"kubernetes.io"`
	NotBefore int64      `json:"nbf"`
	Subject   string     `json:"sub"`

	legacy *legacyClaims // of a token out of a Secret; nil: of all others
}

// audience is a list, or a single one as a string. (RFC 7519, 4.1.3.)
type audience []string

func (a *audience) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(a))
}

type kubernetes struct {
	Namespace      string `json:"namespace,omitempty"`
	Node           *ref   `json:"node,omitempty"`
	Pod            *ref   `json:"pod,omitempty"`
	Secret         *ref   `json:"secret,omitempty"`
	ServiceAccount ref    `json:"serviceaccount"`
	WarnAfter      int64  `json:"warnafter,omitempty"`
}

type ref struct {
	Name string `json:"name,omitempty"`
	UID  string `json:"uid,omitempty"`
}

// NewTokens checks the keys. It touches no disk.
func NewTokens(cfg TokenConfig) (*Tokens, error) {
	if cfg.Issuer == "" {
		cfg.Issuer = DefaultIssuer
	}
	if len(cfg.Audiences) == 0 {
		cfg.Audiences = append([]string{cfg.Issuer}, cfg.OldIssuers...)
	}
	if cfg.JWKSURI == "" {
		cfg.JWKSURI = strings.TrimSuffix(cfg.Issuer, "/") + "/openid/v1/jwks"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Metrics == nil {
		cfg.Metrics = NewTokenMetrics(nil)
	}
	if cfg.Objects == nil || cfg.SigningKey == nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "set up service account tokens", Fix: "give a signing key and a reader"}
	}
	t := &Tokens{cfg: cfg}
	for _, pub := range append([]crypto.PublicKey{cfg.SigningKey.Public()}, cfg.OldKeys...) {
		k, err := webKey(pub)
		if err != nil {
			return nil, err
		}
		t.keys.Keys = append(t.keys.Keys, k)
	}
	own := t.keys.Keys[0]
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(own.Algorithm),
		Key: jose.JSONWebKey{Key: cfg.SigningKey, KeyID: own.KeyID}}, nil)
	if err != nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "set up service account tokens", Err: err}
	}
	t.signer = signer
	return t, nil
}

// webKey names a key as upstream does: the hash of its PKIX encoding.
func webKey(pub crypto.PublicKey) (jose.JSONWebKey, error) {
	wrong := func(on string) (jose.JSONWebKey, error) {
		return jose.JSONWebKey{}, &fault.Error{Class: fault.Invalid, Op: "read token key", On: on, Fix: "use RSA, or ECDSA on P-256, P-384 or P-521"}
	}
	var alg jose.SignatureAlgorithm
	switch k := pub.(type) {
	case *rsa.PublicKey:
		alg = jose.RS256
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			alg = jose.ES256
		case elliptic.P384():
			alg = jose.ES384
		case elliptic.P521():
			alg = jose.ES512
		default:
			return wrong(k.Curve.Params().Name)
		}
	default:
		return wrong(fmt.Sprintf("%T", pub))
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return jose.JSONWebKey{}, &fault.Error{Class: fault.Invalid, Op: "encode token key", Err: err}
	}
	sum := sha256.Sum256(der)
	return jose.JSONWebKey{Key: pub, KeyID: base64.RawURLEncoding.EncodeToString(sum[:]), Algorithm: string(alg), Use: "sig"}, nil
}

func (t *Tokens) sign(c any) (string, error) {
	data, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	sig, err := t.signer.Sign(data)
	if err != nil {
		return "", err
	}
	return sig.CompactSerialize()
}

// AuthenticateToken implements TokenAuthenticator.
func (t *Tokens) AuthenticateToken(ctx context.Context, token string, wanted []string) (*Identity, error) {
	id := sha256.Sum256([]byte(token))
	c := t.remembered(id)
	if c == nil {
		issuer := UncheckedIssuer(token)
		if issuer != legacyIssuer && issuer != t.cfg.Issuer && !slices.Contains(t.cfg.OldIssuers, issuer) {
			return nil, nil
		}
		var err error
		if c, err = t.parse(id, token); err != nil {
			return nil, err
		}
	}
	u, good, err := t.verify(ctx, token, c, wanted)
	if err != nil {
		return nil, err
	}
	return &Identity{User: u, Audiences: good}, nil
}

// UncheckedIssuer is who made a JSON Web Token, by its own word; empty if it
// does not read as one. It says who is to check it and proves nothing.
func UncheckedIssuer(token string) string {
	_, rest, _ := strings.Cut(token, ".")
	payload, sig, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(sig, ".") {
		return ""
	}
	data, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return ""
	}
	var said struct {
		Issuer string `json:"iss"`
	}
	if json.Unmarshal(data, &said) != nil {
		return ""
	}
	return said.Issuer
}

// Verify returns the user whom the token names and for which of the wanted
// audiences it is good. Nil wanted means this API server.
func (t *Tokens) Verify(ctx context.Context, token string, wanted []string) (request.User, []string, error) {
	id := sha256.Sum256([]byte(token))
	c := t.remembered(id)
	if c == nil {
		var err error
		if c, err = t.parse(id, token); err != nil {
			return request.User{}, nil, err
		}
	}
	return t.verify(ctx, token, c, wanted)
}

// verify checks what of a token changes with time.
func (t *Tokens) verify(ctx context.Context, token string, c *claims, wanted []string) (request.User, []string, error) {
	had := c.Audience
	if len(had) == 0 { // one out of a Secret says nothing of audiences
		had = t.cfg.Audiences
	}
	if len(wanted) == 0 {
		wanted = t.cfg.Audiences
	}
	good := Common(wanted, had)
	if len(good) == 0 {
		return request.User{}, nil, fmt.Errorf("token audiences %q is invalid for the target audiences %q", []string(had), wanted)
	}
	now := t.cfg.Now()
	if c.legacy != nil {
		if err := t.stored(ctx, token, c.legacy, now); err != nil {
			return request.User{}, nil, err
		}
		u := ServiceAccount(c.legacy.Namespace, c.legacy.Account)
		u.UID = c.legacy.UID
		return u, good, nil
	}
	if now.Unix() >= c.Expiry {
		return request.User{}, nil, fmt.Errorf("service account token has expired")
	}
	if now.Add(10*time.Second).Unix() < c.NotBefore {
		return request.User{}, nil, fmt.Errorf("service account token is not valid yet")
	}
	if err := t.bound(ctx, c, now); err != nil {
		return request.User{}, nil, err
	}
	switch after := c.Private.WarnAfter; {
	case after == 0:
	case now.Unix() > after:
		t.cfg.Metrics.stale.Inc()
	default:
		t.cfg.Metrics.valid.Inc()
	}
	return c.user(), good, nil
}

// remembered is what a token says whose signature was checked before; nil if
// that is not known.
func (t *Tokens) remembered(id [sha256.Size]byte) *claims {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.known[id]
}

// parse checks the signature, once per token: a client sends the same one
// with each request.
func (t *Tokens) parse(id [sha256.Size]byte, token string) (*claims, error) {
	payload, err := t.payload(token)
	if err != nil {
		return nil, err
	}
	c := &claims{}
	if err := json.Unmarshal(payload, c); err != nil {
		return nil, errCredentials
	}
	switch {
	case c.Issuer == legacyIssuer:
		if c.legacy, err = parseLegacy(c.Subject, payload); err != nil {
			return nil, err
		}
	case c.Issuer == t.cfg.Issuer || slices.Contains(t.cfg.OldIssuers, c.Issuer):
		ns, name, ok := SplitServiceAccount(c.Subject)
		if !ok || ns != c.Private.Namespace || name != c.Private.ServiceAccount.Name {
			return nil, errCredentials
		}
	default:
		return nil, errCredentials
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil || len(t.known) >= knownLimit {
		t.known = map[[sha256.Size]byte]*claims{}
	}
	t.known[id] = c
	return c, nil
}

// payload is what a token of a key of ours says.
func (t *Tokens) payload(token string) ([]byte, error) {
	sig, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.ES512, jose.RS256})
	if err != nil {
		return nil, errCredentials
	}
	for _, k := range t.keys.Keys {
		if sig.Signatures[0].Header.Algorithm != k.Algorithm {
			continue
		}
		if payload, err := sig.Verify(k.Key); err == nil {
			return payload, nil
		}
	}
	return nil, errCredentials
}

// bound checks that the service account, and what else the token is bound to,
// are still the ones it was issued for.
func (t *Tokens) bound(ctx context.Context, c *claims, now time.Time) error {
	p := c.Private
	alive := func(obj kind.Object, err error, what string, r *ref) error {
		if err != nil {
			return fmt.Errorf("service account token is bound to %s %s that is gone: %w", what, r.Name, err)
		}
		if string(obj.GetUID()) != r.UID {
			return fmt.Errorf("the %s UID (%s) does not match the claim (%s)", what, obj.GetUID(), r.UID)
		}
		if d := obj.GetDeletionTimestamp(); d != nil && now.After(d.Add(leeway)) {
			return fmt.Errorf("the %s %s has been deleted", what, r.Name)
		}
		return nil
	}
	sa, err := client.Get[*corev1.ServiceAccount](ctx, t.cfg.Objects, p.Namespace, p.ServiceAccount.Name)
	if err := alive(sa, err, "service account", &p.ServiceAccount); err != nil {
		return err
	}
	if p.Secret != nil {
		o, err := client.Get[*corev1.Secret](ctx, t.cfg.Objects, p.Namespace, p.Secret.Name)
		if err := alive(o, err, "secret", p.Secret); err != nil {
			return err
		}
	}
	if p.Pod != nil {
		o, err := client.Get[*corev1.Pod](ctx, t.cfg.Objects, p.Namespace, p.Pod.Name)
		return alive(o, err, "pod", p.Pod) // a pod's token survives its node's object: KEP-4193
	}
	if p.Node != nil {
		o, err := client.Get[*corev1.Node](ctx, t.cfg.Objects, "", p.Node.Name)
		return alive(o, err, "node", p.Node)
	}
	return nil
}

// user is the identity a token gives. Extra's keys are upstream's
// (apiserver/pkg/authentication/serviceaccount).
func (c *claims) user() request.User {
	u := ServiceAccount(c.Private.Namespace, c.Private.ServiceAccount.Name)
	u.UID = c.Private.ServiceAccount.UID
	u.Extra = map[string][]string{}
	put := func(key, value string) {
		if value != "" {
			u.Extra["authentication.kubernetes.io/"+key] = []string{value}
		}
	}
	if c.ID != "" {
		u.Extra[credentialID] = []string{"JTI=" + c.ID}
	}
	if p := c.Private.Pod; p != nil {
		put("pod-name", p.Name)
		put("pod-uid", p.UID)
	}
	if n := c.Private.Node; n != nil {
		put("node-name", n.Name)
		put("node-uid", n.UID)
	}
	return u
}

// Audiences are those of this API server.
func (t *Tokens) Audiences() []string { return t.cfg.Audiences }

// Issuers are those whose tokens are accepted.
func (t *Tokens) Issuers() []string { return append([]string{t.cfg.Issuer}, t.cfg.OldIssuers...) }

// KeySet is the document of /openid/v1/jwks. (RFC 7517.)
func (t *Tokens) KeySet() ([]byte, error) { return json.Marshal(t.keys) }

// Discovery is the document of /.well-known/openid-configuration. (OpenID
// Connect Discovery 1.0, section 3.)
func (t *Tokens) Discovery() ([]byte, error) {
	var algs []string
	for _, k := range t.keys.Keys {
		if !slices.Contains(algs, k.Algorithm) {
			algs = append(algs, k.Algorithm)
		}
	}
	slices.Sort(algs)
	return json.Marshal(struct {
		Issuer    string   `json:"issuer"`
		JWKSURI   string   `json:"jwks_uri"`
		Responses []string `json:"response_types_supported"`
		Subjects  []string `json:"subject_types_supported"`
		Algs      []string `json:"id_token_signing_alg_values_supported"`
	}{t.cfg.Issuer, t.cfg.JWKSURI, []string{"id_token"}, []string{"public"}, algs})
}

// issue makes a token for sa.
func (t *Tokens) issue(sa *corev1.ServiceAccount, p kubernetes, audiences []string, now time.Time, lasts time.Duration) (string, error) {
	p.Namespace, p.ServiceAccount = sa.Namespace, ref{Name: sa.Name, UID: string(sa.UID)}
	return t.sign(&claims{Issuer: t.cfg.Issuer, Audience: audiences, ID: string(uuid.NewUUID()),
		Subject:  ServiceAccountUser(sa.Namespace, sa.Name),
		IssuedAt: now.Unix(), NotBefore: now.Unix(), Expiry: now.Add(lasts).Unix(), Private: p})
}

func refOf(o metav1.Object) *ref { return &ref{Name: o.GetName(), UID: string(o.GetUID())} }

// websocketToken finds the token among the subprotocols and takes it out of
// the header: it must reach nobody further.
func websocketToken(h http.Header) (string, bool) {
	var token string
	var keep []string
	for _, line := range h.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(line, ",") {
			p = strings.TrimSpace(p)
			if enc, ok := strings.CutPrefix(p, websocketTokenPrefix); ok && token == "" {
				if dec, err := base64.RawURLEncoding.DecodeString(enc); err == nil {
					token = string(dec)
					continue
				}
			}
			keep = append(keep, p)
		}
	}
	if token == "" || len(keep) == 0 {
		return "", false // upstream: a real subprotocol must be there as well
	}
	h.Set("Sec-WebSocket-Protocol", strings.Join(keep, ","))
	return token, true
}
