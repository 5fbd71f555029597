package setup

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"

	"sampan/cluster/auth"
	"sampan/cluster/auth/oidc"
	"sampan/cluster/auth/webhook"
	"sampan/internal/fault"
)

// Authentication says who is believed beside client certificates and service
// accounts. The zero value: machines that join, and everybody is somebody, if
// only system:anonymous.
type Authentication struct {
	ConfigFile        string // --authentication-config
	Anonymous         *bool  // --anonymous-auth; nil: yes
	NoBootstrapTokens bool   // --enable-bootstrap-token-auth=false
	OIDC              OIDC
	Webhook           TokenWebhook
	FrontProxy        FrontProxy
}

// OIDC is one issuer, by the flags --oidc-*.
type OIDC struct {
	IssuerURL, ClientID, CAFile string
	UsernameClaim               string // default: sub
	UsernamePrefix              string // default: the issuer and "#", but for the claim email; "-": none
	GroupsClaim, GroupsPrefix   string
	Algorithms                  []string          // default: RS256
	RequiredClaims              map[string]string // and their values
}

// TokenWebhook is by the flags --authentication-token-webhook-*.
type TokenWebhook struct {
	ConfigFile string
	Version    string         // default: v1beta1, which is upstream's
	CacheTTL   *time.Duration // default: 2 minutes
}

// FrontProxy is by the flags --requestheader-*.
type FrontProxy struct {
	CAFile                                               string
	Names                                                []string
	UserHeaders, UIDHeaders, GroupHeaders, ExtraPrefixes []string
}

// What of a token is remembered. Upstream keeps its whole chain's answers for
// ten seconds; here only those that cost something.
const (
	issuerAnswers  = 10 * time.Second
	webhookAnswers = 2 * time.Minute
)

// Base is what is believed anyway.
type Base struct {
	ClientCA  *auth.Trust
	Tokens    *auth.Tokens         // of service accounts
	Issuers   []string             // of service accounts' tokens, which no other may claim to be
	Bootstrap auth.BootstrapTokens // of machines that join

	// NoAnonymous: nobody comes without a name, because all may do everything.
	NoAnonymous bool
	Log         *slog.Logger
}

// Authenticators is who says who somebody is. It is ready for use; Run keeps it
// up to date.
type Authenticators struct {
	*auth.Authenticator

	// Proxies are the authorities of proxies, for the TLS listener to name.
	Proxies []*x509.Certificate

	base      Base
	file      string
	tried     []byte
	anonymous *apiserver.AnonymousAuthConfig // of the file; it cannot change
	jwt       atomic.Pointer[auth.TokenChain]
}

// Open reads the files and checks all. It asks nobody yet.
func (a Authentication) Open(base Base) (*Authenticators, error) {
	out := &Authenticators{base: base, file: a.ConfigFile, Authenticator: &auth.Authenticator{ClientCA: base.ClientCA}}
	cfg, algorithms, err := a.configuration(out)
	if err != nil {
		return nil, err
	}
	out.anonymous = cfg.Anonymous
	if err := a.allowAnonymous(out.Authenticator, cfg.Anonymous, base); err != nil {
		return nil, err
	}
	audiences := base.Tokens.Audiences()
	chain := auth.TokenChain{base.Tokens}
	if !a.NoBootstrapTokens {
		chain = append(chain, auth.ForAudiences{Audiences: audiences, Of: base.Bootstrap})
	}
	if a.ConfigFile != "" || len(cfg.JWT) > 0 {
		issuers, err := out.issuers(cfg, algorithms)
		if err != nil {
			return nil, err
		}
		out.take(issuers)
		// After service accounts: theirs is not a reason to ask an issuer.
		chain = append(chain, auth.ForAudiences{Audiences: audiences, Of: replaced{out}})
	}
	if a.Webhook.ConfigFile != "" {
		w, err := a.Webhook.open(audiences)
		if err != nil {
			return nil, err
		}
		chain = append(chain, w)
	}
	out.Tokens = chain
	if out.FrontProxy, out.Proxies, err = a.FrontProxy.open(); err != nil {
		return nil, err
	}
	return out, nil
}

// configuration is that of the file, or the one that the flags stand for.
func (a Authentication) configuration(out *Authenticators) (*apiserver.AuthenticationConfiguration, []string, error) {
	wrong := func(on string, err error) error {
		return &fault.Error{Class: fault.Invalid, Op: "configure authentication", On: on, Err: err}
	}
	flags := !reflect.DeepEqual(a.OIDC, OIDC{})
	if a.ConfigFile == "" {
		if !flags {
			return &apiserver.AuthenticationConfiguration{}, nil, nil
		}
		if a.OIDC.IssuerURL == "" || a.OIDC.ClientID == "" {
			return nil, nil, wrong("--oidc-*", errors.New("oidc-issuer-url and oidc-client-id must be specified together when any oidc-* flags are set"))
		}
		jwt, err := a.OIDC.issuer()
		if err != nil {
			return nil, nil, err
		}
		return &apiserver.AuthenticationConfiguration{JWT: []apiserver.JWTAuthenticator{jwt}}, a.OIDC.Algorithms, nil
	}
	if flags {
		return nil, nil, wrong(a.ConfigFile, errors.New("authentication-config file and oidc-* flags are mutually exclusive"))
	}
	data, err := read(a.ConfigFile)
	if err != nil {
		return nil, nil, err
	}
	out.tried = data
	cfg, err := load[apiserver.AuthenticationConfiguration](a.ConfigFile, data)
	if err != nil {
		return nil, nil, err
	}
	if err := validation.ValidateAuthenticationConfiguration(authenticationcel.NewDefaultCompiler(), cfg, out.base.Issuers).ToAggregate(); err != nil {
		return nil, nil, wrong(a.ConfigFile, err)
	}
	return cfg, oidc.Algorithms(), nil
}

// allowAnonymous says who may come without a name, and where.
func (a Authentication) allowAnonymous(to *auth.Authenticator, file *apiserver.AnonymousAuthConfig, base Base) error {
	switch {
	case file != nil && a.Anonymous != nil:
		return &fault.Error{Class: fault.Invalid, Op: "configure authentication", On: a.ConfigFile, Err: field.Forbidden(field.NewPath("anonymous"),
			"--anonymous-auth flag cannot be set when anonymous field is configured in authentication configuration file")}
	case file != nil:
		to.NoAnonymous = !file.Enabled
		for _, c := range file.Conditions {
			to.AnonymousPaths = append(to.AnonymousPaths, c.Path)
		}
	case a.Anonymous != nil:
		to.NoAnonymous = !*a.Anonymous
	}
	if base.NoAnonymous && !to.NoAnonymous {
		base.Log.Warn("anonymous requests are refused: every user may do everything")
		to.NoAnonymous = true
	}
	return nil
}

// issuer is the flags as a file would say it.
func (o OIDC) issuer() (apiserver.JWTAuthenticator, error) {
	claim, prefix := o.UsernameClaim, o.UsernamePrefix
	if claim == "" {
		claim = "sub"
	}
	switch {
	case prefix == "-":
		prefix = ""
	case prefix == "" && claim != "email": // names of several issuers must not clash
		prefix = o.IssuerURL + "#"
	}
	jwt := apiserver.JWTAuthenticator{
		Issuer:        apiserver.Issuer{URL: o.IssuerURL, Audiences: []string{o.ClientID}},
		ClaimMappings: apiserver.ClaimMappings{Username: apiserver.PrefixedClaimOrExpression{Claim: claim, Prefix: &prefix}},
	}
	if o.GroupsClaim != "" {
		jwt.ClaimMappings.Groups = apiserver.PrefixedClaimOrExpression{Claim: o.GroupsClaim, Prefix: &o.GroupsPrefix}
	}
	for _, name := range slices.Sorted(maps.Keys(o.RequiredClaims)) {
		jwt.ClaimValidationRules = append(jwt.ClaimValidationRules, apiserver.ClaimValidationRule{Claim: name, RequiredValue: o.RequiredClaims[name]})
	}
	if o.CAFile != "" {
		data, err := read(o.CAFile)
		if err != nil {
			return jwt, err
		}
		jwt.Issuer.CertificateAuthority = string(data)
	}
	return jwt, nil
}

func (w TokenWebhook) open(audiences []string) (auth.TokenAuthenticator, error) {
	if w.Version == "" {
		w.Version = "v1beta1"
	}
	lasts := webhookAnswers
	if w.CacheTTL != nil {
		lasts = *w.CacheTTL
	}
	e, err := webhook.Open(w.ConfigFile, 0)
	if err != nil {
		return nil, err
	}
	t, err := webhook.NewTokens(e, w.Version, audiences)
	if err != nil {
		return nil, err
	}
	return &auth.Cached{Of: t, Success: lasts, Failure: lasts}, nil
}

func (p FrontProxy) open() (*auth.FrontProxy, []*x509.Certificate, error) {
	wrong := func(on string, err error) error {
		return &fault.Error{Class: fault.Invalid, Op: "configure front proxy", On: on, Err: err}
	}
	if p.CAFile == "" {
		if !reflect.DeepEqual(p, FrontProxy{}) {
			return nil, nil, wrong("--requestheader-*", errors.New("--requestheader-client-ca-file is required with the others"))
		}
		return nil, nil, nil
	}
	if len(p.UserHeaders) == 0 {
		return nil, nil, wrong("--requestheader-username-headers", errors.New("at least one header is required"))
	}
	data, err := read(p.CAFile)
	if err != nil {
		return nil, nil, err
	}
	var all []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, wrong(p.CAFile, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, nil, wrong(p.CAFile, errors.New("no certificate in it"))
	}
	return &auth.FrontProxy{CA: auth.NewTrust(all...), Names: p.Names, UserHeaders: p.UserHeaders, UIDHeaders: p.UIDHeaders,
		GroupHeaders: p.GroupHeaders, ExtraPrefixes: p.ExtraPrefixes}, all, nil
}

// replaced asks the issuers that count at that moment.
type replaced struct{ in *Authenticators }

// AuthenticateToken implements auth.TokenAuthenticator.
func (r replaced) AuthenticateToken(ctx context.Context, token string, wanted []string) (*auth.Identity, error) {
	return (*r.in.jwt.Load()).AuthenticateToken(ctx, token, wanted)
}

func (a *Authenticators) issuers(cfg *apiserver.AuthenticationConfiguration, algorithms []string) (all []*oidc.Issuer, err error) {
	var compiler authenticationcel.Compiler
	if len(cfg.JWT) > 0 {
		compiler = authenticationcel.NewDefaultCompiler()
	}
	for _, jwt := range cfg.JWT {
		i, err := oidc.New(oidc.Config{JWT: jwt, Algorithms: algorithms, Own: a.base.Issuers, Compiler: compiler})
		if err != nil {
			return nil, err
		}
		all = append(all, i)
	}
	return all, nil
}

// take has these issuers count from now on. What was remembered of others is
// forgotten.
func (a *Authenticators) take(issuers []*oidc.Issuer) {
	chain := auth.TokenChain{}
	for _, i := range issuers {
		chain = append(chain, &auth.Cached{Of: i, Success: issuerAnswers})
	}
	a.jwt.Store(&chain)
}

// readyWithin is how long a new configuration has until its issuers have
// answered, asked again now and then. (Upstream: a minute.)
const (
	readyWithin = time.Minute
	readyAgain  = 11 * time.Second
)

// Run takes up what the configuration's file says when it changes, until ctx
// ends.
func (a *Authenticators) Run(ctx context.Context) error {
	if a.file == "" {
		<-ctx.Done()
		return nil
	}
	return follow(ctx, a.base.Log, a.file, a.tried, func(data []byte) error { return a.replace(ctx, data) })
}

func (a *Authenticators) replace(ctx context.Context, data []byte) error {
	cfg, err := load[apiserver.AuthenticationConfiguration](a.file, data)
	if err != nil {
		return err
	}
	errs := validation.ValidateAuthenticationConfiguration(authenticationcel.NewDefaultCompiler(), cfg, a.base.Issuers)
	if !reflect.DeepEqual(cfg.Anonymous, a.anonymous) {
		errs = append(errs, field.Forbidden(field.NewPath("anonymous"), "changed from initial configuration file"))
	}
	if err := errs.ToAggregate(); err != nil {
		return err
	}
	issuers, err := a.issuers(cfg, oidc.Algorithms())
	if err != nil {
		return err
	}
	if err := ready(ctx, issuers); err != nil {
		return err
	}
	a.take(issuers)
	return nil
}

// ready waits until all issuers have answered once: a configuration that does
// not work must not take the place of one that does.
func ready(ctx context.Context, issuers []*oidc.Issuer) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	failed := make([]error, len(issuers))
	var all sync.WaitGroup
	for n, i := range issuers {
		all.Go(func() {
			for failed[n] = i.Ready(ctx); failed[n] != nil; failed[n] = i.Ready(ctx) {
				select {
				case <-ctx.Done():
					return
				case <-time.After(readyAgain):
				}
			}
		})
	}
	all.Wait()
	return errors.Join(failed...)
}
