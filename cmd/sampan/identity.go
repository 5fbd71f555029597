//go:build !split

package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sampan/bootstrap"
)

// identityFlags puts on a command the flags about who users are and what they
// may: upstream's, by upstream's names.
func identityFlags(cmd *cobra.Command, cfg *bootstrap.Config) {
	f := cmd.Flags()
	a := &cfg.Authentication
	f.StringVar(&a.ConfigFile, "authentication-config", "", "an AuthenticationConfiguration: issuers of tokens that are believed, and who may come without a name")
	f.Var(&choice{is: &a.Anonymous, usual: true}, "anonymous-auth", "let requests without credentials come as system:anonymous")
	f.Lookup("anonymous-auth").NoOptDefVal = "true"
	f.Var((*not)(&a.NoBootstrapTokens), "enable-bootstrap-token-auth", "let machines that join prove who they are by secrets of the type bootstrap.kubernetes.io/token")
	f.Lookup("enable-bootstrap-token-auth").NoOptDefVal = "true"

	o := &a.OIDC
	f.StringVar(&o.IssuerURL, "oidc-issuer-url", "", "an OpenID Connect issuer whose tokens are believed (https)")
	f.StringVar(&o.ClientID, "oidc-client-id", "", "the audience that its tokens must be for")
	f.StringVar(&o.CAFile, "oidc-ca-file", "", "authorities of its certificate (default: the machine's)")
	f.StringVar(&o.UsernameClaim, "oidc-username-claim", "", "the claim with the user's name (default sub)")
	f.StringVar(&o.UsernamePrefix, "oidc-username-prefix", "", "what goes before the name; - for nothing (default: the issuer and #, but for email)")
	f.StringVar(&o.GroupsClaim, "oidc-groups-claim", "", "the claim with the user's groups")
	f.StringVar(&o.GroupsPrefix, "oidc-groups-prefix", "", "what goes before each group")
	f.StringSliceVar(&o.Algorithms, "oidc-signing-algs", nil, "how its tokens may be signed (default RS256)")
	f.Var((*claimValues)(&o.RequiredClaims), "oidc-required-claim", "CLAIM=VALUE that a token must have; may be repeated")

	w := &a.Webhook
	f.StringVar(&w.ConfigFile, "authentication-token-webhook-config-file", "", "a kubeconfig that names a program to ask whose a token is")
	f.StringVar(&w.Version, "authentication-token-webhook-version", "", "version of TokenReview to ask it in (default v1beta1)")
	f.Var(&duration{&w.CacheTTL}, "authentication-token-webhook-cache-ttl", "how long its answers count (default 2m0s)")

	p := &a.FrontProxy
	f.StringVar(&p.CAFile, "requestheader-client-ca-file", "", "authorities of proxies that say in headers who a user is")
	f.StringSliceVar(&p.Names, "requestheader-allowed-names", nil, "common names of those proxies' certificates (default: all)")
	f.StringSliceVar(&p.UserHeaders, "requestheader-username-headers", nil, "headers with the user's name")
	f.StringSliceVar(&p.UIDHeaders, "requestheader-uid-headers", nil, "headers with the user's UID")
	f.StringSliceVar(&p.GroupHeaders, "requestheader-group-headers", nil, "headers with the user's groups")
	f.StringSliceVar(&p.ExtraPrefixes, "requestheader-extra-headers-prefix", nil, "prefixes of headers with more about the user")

	z := &cfg.Authorization
	f.StringVar(&z.ConfigFile, "authorization-config", "", "an AuthorizationConfiguration: who decides what users may, in order")
	f.StringSliceVar(&z.Modes, "authorization-mode", nil, "who decides what users may, in order: AlwaysAllow, AlwaysDeny, Webhook, RBAC, Node (default Node,RBAC)")
	f.StringVar(&z.Webhook.ConfigFile, "authorization-webhook-config-file", "", "a kubeconfig that names a program to ask what users may")
	f.StringVar(&z.Webhook.Version, "authorization-webhook-version", "", "version of SubjectAccessReview to ask it in (default v1beta1)")
	f.Var(&duration{&z.Webhook.Yes}, "authorization-webhook-cache-authorized-ttl", "how long it counts that somebody may (default 5m0s)")
	f.Var(&duration{&z.Webhook.No}, "authorization-webhook-cache-unauthorized-ttl", "how long it counts that somebody may not (default 30s)")

	s := &cfg.ServiceAccounts
	f.StringVar(&s.SigningKeyFile, "service-account-signing-key-file", "", "key that signs tokens of service accounts, RSA or ECDSA (default: the instance's own)")
	f.StringArrayVar(&s.KeyFiles, "service-account-key-file", nil, "keys of tokens that are accepted too; may be repeated")
	f.StringArrayVar(&s.Issuers, "service-account-issuer", nil, "issuer of tokens; may be repeated: the first issues, all are accepted")
	f.StringSliceVar(&s.Audiences, "api-audiences", nil, "audiences of this API server (default: the issuers)")
	f.StringVar(&s.JWKSURI, "service-account-jwks-uri", "", "where others find the keys of tokens, in the OpenID document")
	f.DurationVar(&s.MaxExpiration, "service-account-max-token-expiration", 0, "how long a token lasts at most (default: as long as asked)")
	f.DurationVar(&s.CleanUpPeriod, "legacy-service-account-token-clean-up-period", 0, "for how long nobody has used a token of a Secret that was made for an account unasked, before it is refused and later deleted (default 8760h0m0s)")
	f.Var((*not)(&s.ExactExpiration), "service-account-extend-token-expiration", "let the default tokens of pods last a year, for clients that never read them again")
	f.Lookup("service-account-extend-token-expiration").NoOptDefVal = "true"
}

// identityFiles are the paths among those flags.
func identityFiles(cfg *bootstrap.Config) []*string {
	all := []*string{&cfg.Authentication.ConfigFile, &cfg.Authentication.OIDC.CAFile, &cfg.Authentication.Webhook.ConfigFile,
		&cfg.Authentication.FrontProxy.CAFile, &cfg.Authorization.ConfigFile, &cfg.Authorization.Webhook.ConfigFile, &cfg.ServiceAccounts.SigningKeyFile}
	for i := range cfg.ServiceAccounts.KeyFiles {
		all = append(all, &cfg.ServiceAccounts.KeyFiles[i])
	}
	return all
}

// not is a switch that is on unless it is turned off.
type not bool

func (n *not) String() string { return strconv.FormatBool(!bool(*n)) }

func (n *not) Set(s string) error {
	on, err := strconv.ParseBool(s)
	*n = not(!on)
	return err
}

func (*not) Type() string { return "bool" }

// choice is a switch of which it matters whether it was set.
type choice struct {
	is    **bool
	usual bool
}

func (c *choice) String() string {
	if c.is == nil || *c.is == nil {
		return strconv.FormatBool(c.usual)
	}
	return strconv.FormatBool(**c.is)
}

func (c *choice) Set(s string) error {
	on, err := strconv.ParseBool(s)
	*c.is = &on
	return err
}

func (*choice) Type() string { return "bool" }

// duration is a time of which zero means something too.
type duration struct{ is **time.Duration }

func (d *duration) String() string {
	if d.is == nil || *d.is == nil {
		return ""
	}
	return (**d.is).String()
}

func (d *duration) Set(s string) error {
	v, err := time.ParseDuration(s)
	*d.is = &v
	return err
}

func (*duration) Type() string { return "duration" }

// claimValues are KEY=VALUE, one each time.
type claimValues map[string]string

func (p *claimValues) String() string { return "" }

func (p *claimValues) Set(s string) error {
	k, v, ok := strings.Cut(s, "=")
	if !ok {
		return strconv.ErrSyntax
	}
	if *p == nil {
		*p = claimValues{}
	}
	(*p)[strings.TrimSpace(k)] = strings.TrimSpace(v)
	return nil
}

func (*claimValues) Type() string { return "key=value" }
