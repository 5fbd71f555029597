package bootstrap

import (
	"context"
	"crypto"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/keyutil"

	"sampan/cluster/auth"
	"sampan/cluster/auth/policy"
	"sampan/cluster/auth/setup"
	"sampan/cluster/client"
	"sampan/cluster/kind/legacytoken"
	"sampan/cluster/kind/rbac"
	"sampan/internal/fault"
)

// ServiceAccounts says how the tokens of service accounts are made and checked,
// by upstream's flags --service-account-* and --api-audiences.
type ServiceAccounts struct {
	// SigningKeyFile has the key of new tokens; default: the instance's own,
	// pki/sa.key. KeyFiles have keys of tokens that are accepted as well.
	SigningKeyFile string
	KeyFiles       []string

	Issuers   []string // the first issues, all are accepted; default: auth.DefaultIssuer
	Audiences []string // of this API server; default: the issuers
	JWKSURI   string   // where relying parties read the keys

	MaxExpiration   time.Duration // zero: as long as asked
	ExactExpiration bool          // pods' tokens last no longer than they say

	// CleanUpPeriod is for how long nobody has used a token out of a Secret that
	// was made for an account unasked, before it is refused, and for how long
	// after that it is kept; default: a year.
	CleanUpPeriod time.Duration
}

// tokens makes and checks the tokens of service accounts.
func (r *running) serviceAccountTokens() (*auth.Tokens, error) {
	s := r.cfg.ServiceAccounts
	cfg := auth.TokenConfig{SigningKey: r.pki.SigningKey, OldKeys: r.pki.OldKeys, Objects: r.reader, Audiences: s.Audiences, JWKSURI: s.JWKSURI,
		MaxExpiration: s.MaxExpiration, ExactExpiration: s.ExactExpiration, Used: r.tokenUsed, Metrics: auth.NewTokenMetrics(r.metrics)}
	if len(s.Issuers) > 0 {
		cfg.Issuer, cfg.OldIssuers = s.Issuers[0], s.Issuers[1:]
	}
	wrong := func(path string, err error) error {
		return &fault.Error{Class: fault.Invalid, Op: "read key of service account tokens", On: path, Err: err}
	}
	if s.SigningKeyFile != "" {
		key, err := keyutil.PrivateKeyFromFile(s.SigningKeyFile)
		if err != nil {
			return nil, wrong(s.SigningKeyFile, err)
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, wrong(s.SigningKeyFile, errors.New("it cannot sign"))
		}
		// Tokens of the instance's own key stay good until they end.
		cfg.SigningKey, cfg.OldKeys = signer, append([]crypto.PublicKey{r.pki.SigningKey.Public()}, cfg.OldKeys...)
	}
	for _, path := range s.KeyFiles {
		keys, err := keyutil.PublicKeysFromFile(path)
		if err != nil {
			return nil, wrong(path, err)
		}
		for _, k := range keys {
			if !publicEqual(cfg.SigningKey.Public(), k) {
				cfg.OldKeys = append(cfg.OldKeys, k)
			}
		}
	}
	return auth.NewTokens(cfg)
}

// tokenUsed writes down on a Secret that its token was used on a day, once for
// each, beside the request that brought it.
func (r *running) tokenUsed(ctx context.Context, s *corev1.Secret, day string) {
	err := r.labelSecret(context.WithoutCancel(ctx), s, day)
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		r.log.Error("the last use of a token is not written down", "secret", s.Namespace+"/"+s.Name, "err", err)
	}
}

func (r *running) labelSecret(ctx context.Context, s *corev1.Secret, day string) error {
	c := r.verbs.As(auth.Server())
	_, err := c.Patch(ctx, client.KindOf[*corev1.Secret](c), client.Patch{Namespace: s.Namespace, Name: s.Name, Type: types.MergePatchType,
		Data: []byte(`{"metadata":{"uid":"` + string(s.UID) + `","labels":{"` + legacytoken.LastUsed + `":"` + day + `"}}}`)})
	return err
}

// openIdentity puts together who says who somebody is, and what they may.
func (r *running) openIdentity() (err error) {
	if r.tokens, err = r.serviceAccountTokens(); err != nil {
		return err
	}
	r.rbac = auth.NewRBAC(auth.RBACConfig{Objects: r.reader, Changes: r.store.Changes(rbac.Kinds()...), Policy: policy.Bootstrap()})
	if r.rules, err = r.cfg.Authorization.Open(setup.Rules{Node: auth.NewNodeRule(r.reader), RBAC: r.rbac, Log: r.log}); err != nil {
		return err
	}
	r.may = r.rules.Authorizer
	r.may.Metrics = auth.NewMetrics(r.metrics)
	r.authenticators, err = r.cfg.Authentication.Open(setup.Base{ClientCA: auth.NewTrust(r.pki.CA), Tokens: r.tokens, Issuers: r.tokens.Issuers(),
		Bootstrap: auth.BootstrapTokens{Objects: r.reader}, NoAnonymous: r.rules.AlwaysAllow, Log: r.log})
	if err != nil {
		return err
	}
	r.who = r.authenticators.Authenticator
	return nil
}

// identityParts keep both up to date with their files.
func (r *running) identityParts() (all []part) {
	if r.cfg.Authentication.ConfigFile != "" {
		all = append(all, part{"authentication", r.authenticators.Run})
	}
	if r.cfg.Authorization.ConfigFile != "" {
		all = append(all, part{"authorization", r.rules.Run})
	}
	return all
}
