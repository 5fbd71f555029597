// Package oidc believes tokens of issuers that an administrator named: JSON Web
// Tokens signed by an OpenID Connect provider, whose claims are mapped to a
// user. Issuers are described as in the AuthenticationConfiguration of
// apiserver.config.k8s.io (KEP-3331), whatever they were configured by.
// (Upstream: apiserver/plugin/pkg/authenticator/token/oidc.)
//
// It gives out no tokens, and keeps none.
package oidc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"

	"sampan/cluster/auth"
	"sampan/internal/fault"
)

// Config is what an Issuer needs.
type Config struct {
	JWT apiserver.JWTAuthenticator

	// Algorithms that tokens may be signed by; default: RS256 alone. See
	// Algorithms.
	Algorithms []string

	// Own are the issuers of this API server's own tokens, which no other may
	// claim to be.
	Own []string

	// Compiler of the expressions; it is costly, and shared by all issuers of
	// one configuration.
	Compiler authenticationcel.Compiler

	Client *http.Client     // default: one that trusts what JWT says
	Now    func() time.Time // default: time.Now
}

// Algorithms are all that tokens can be signed by: the asymmetric ones. (RFC
// 7518, section 3.1.)
func Algorithms() []string {
	return []string{"ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"}
}

// requestTimeout bounds a question to the issuer.
const requestTimeout = 30 * time.Second

// early is how much sooner than it says a token may be used, for clocks that
// differ. (Upstream: go-oidc.)
const early = 5 * time.Minute

// Issuer checks the tokens of one issuer. It is an auth.TokenAuthenticator,
// safe for concurrent use.
type Issuer struct {
	jwt      apiserver.JWTAuthenticator
	mapper   authenticationcel.CELMapper
	provider *provider

	mu     sync.Mutex // guards all below
	others map[string]*provider
}

// New checks the configuration. The issuer is asked nothing yet.
func New(cfg Config) (*Issuer, error) {
	if cfg.Compiler == nil {
		cfg.Compiler = authenticationcel.NewDefaultCompiler()
	}
	wrong := func(err error) error {
		return &fault.Error{Class: fault.Invalid, Op: "configure issuer of tokens", On: cfg.JWT.Issuer.URL, Err: err}
	}
	mapper, errs := validation.CompileAndValidateJWTAuthenticator(cfg.Compiler, cfg.JWT, cfg.Own)
	if err := errs.ToAggregate(); err != nil {
		return nil, wrong(err)
	}
	if cfg.JWT.Issuer.EgressSelectorType != "" {
		return nil, wrong(errors.New("issuer.egressSelectorType: there is no egress selector here; leave it out"))
	}
	if len(cfg.Algorithms) == 0 {
		cfg.Algorithms = []string{"RS256"}
	}
	var algorithms []jose.SignatureAlgorithm
	for _, a := range cfg.Algorithms {
		if !slices.Contains(Algorithms(), a) {
			return nil, wrong(fmt.Errorf("oidc: unsupported signing alg: %q", a))
		}
		algorithms = append(algorithms, jose.SignatureAlgorithm(a))
	}
	if cfg.Client == nil {
		trust := &tls.Config{}
		if ca := cfg.JWT.Issuer.CertificateAuthority; ca != "" {
			trust.RootCAs = x509.NewCertPool()
			trust.RootCAs.AppendCertsFromPEM([]byte(ca)) // validation has seen that there is one
		}
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.TLSClientConfig, t.IdleConnTimeout = trust, 30*time.Second
		cfg.Client = &http.Client{Transport: t, Timeout: requestTimeout}
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Issuer{jwt: cfg.JWT, mapper: mapper,
		provider: newProvider(cfg.JWT.Issuer.URL, cfg.JWT.Issuer.DiscoveryURL, algorithms, cfg.Client, cfg.Now)}, nil
}

// Ready returns when the issuer has described itself and its keys are there, or
// why that cannot be.
func (i *Issuer) Ready(ctx context.Context) error {
	if err := i.provider.ready(ctx); err != nil {
		return fmt.Errorf("oidc: authenticator for issuer %q is not healthy: %w", i.jwt.Issuer.URL, err)
	}
	return nil
}

// AuthenticateToken implements auth.TokenAuthenticator.
func (i *Issuer) AuthenticateToken(ctx context.Context, token string, _ []string) (*auth.Identity, error) {
	if said := auth.UncheckedIssuer(token); said == "" || canonical(said) != i.jwt.Issuer.URL {
		return nil, nil
	}
	payload, err := i.verify(ctx, i.provider, token)
	if err != nil {
		return nil, fmt.Errorf("oidc: verify token: %w", err)
	}
	var c claims
	if err := json.Unmarshal(payload, &c); err != nil {
		return nil, fmt.Errorf("oidc: parse claims: %v", err)
	}
	if name := i.jwt.ClaimMappings.Groups.Claim; name != "" {
		if err := i.expand(ctx, c, name); err != nil {
			return nil, fmt.Errorf("oidc: could not expand distributed claims: %w", err)
		}
	}
	u, err := i.user(ctx, c)
	if err != nil {
		return nil, err
	}
	return &auth.Identity{User: u}, nil
}

// canonical is an issuer's name; Google's tokens have two. (OpenID Connect Core
// 1.0, section 15.6.2.)
func canonical(issuer string) string {
	if issuer == "accounts.google.com" {
		return "https://accounts.google.com"
	}
	return issuer
}

// verify returns what a token says if it is the provider's, for this API
// server, and good now.
func (i *Issuer) verify(ctx context.Context, p *provider, token string) ([]byte, error) {
	payload, err := p.verify(ctx, token)
	if err != nil {
		return nil, err
	}
	var c struct {
		Issuer    string       `json:"iss"`
		Audience  oneOrMore    `json:"aud"`
		Expiry    *numericDate `json:"exp"`
		NotBefore *numericDate `json:"nbf"`
	}
	if err := json.Unmarshal(payload, &c); err != nil {
		return nil, fmt.Errorf("oidc: failed to unmarshal claims: %v", err)
	}
	if canonical(c.Issuer) != p.issuer {
		return nil, fmt.Errorf("oidc: id token issued by a different provider, expected %q got %q", p.issuer, c.Issuer)
	}
	wanted := i.jwt.Issuer.Audiences
	if !slices.ContainsFunc(wanted, func(a string) bool { return slices.Contains(c.Audience, a) }) {
		return nil, fmt.Errorf("oidc: expected audience in %q got %q", slices.Sorted(slices.Values(wanted)), []string(c.Audience))
	}
	now := p.now()
	if c.Expiry == nil || now.After(c.Expiry.Time) {
		end := time.Time{}
		if c.Expiry != nil {
			end = c.Expiry.Time
		}
		return nil, fmt.Errorf("oidc: token is expired (Token Expiry: %v)", end)
	}
	if c.NotBefore != nil && now.Add(early).Before(c.NotBefore.Time) {
		return nil, fmt.Errorf("oidc: current time %v before the nbf (not before) time: %v", now, c.NotBefore.Time)
	}
	return payload, nil
}
