package auth

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/client"
	"sampan/cluster/kind/legacytoken"
)

// legacyIssuer is the issuer of tokens that are kept in Secrets of the type
// kubernetes.io/service-account-token. They have no end and no audience, and are
// good as long as their Secret holds them. (Upstream:
// pkg/serviceaccount/legacy.go.)
const legacyIssuer = "kubernetes/serviceaccount"

type legacyClaims struct {
	Namespace string `json:"kubernetes.io/serviceaccount/namespace"`
	Secret    string `json:"kubernetes.io/serviceaccount/secret.name"`
	Account   string `json:"kubernetes.io/serviceaccount/service-account.name"`
	UID       string `json:"kubernetes.io/serviceaccount/service-account.uid"`
}

// ForSecret makes the token that a Secret is to hold.
func (t *Tokens) ForSecret(sa *corev1.ServiceAccount, secret string) (string, error) {
	return t.sign(struct {
		Issuer  string `json:"iss"`
		Subject string `json:"sub"`
		legacyClaims
	}{legacyIssuer, ServiceAccountUser(sa.Namespace, sa.Name),
		legacyClaims{Namespace: sa.Namespace, Secret: secret, Account: sa.Name, UID: string(sa.UID)}})
}

func parseLegacy(subject string, payload []byte) (*legacyClaims, error) {
	c := &legacyClaims{}
	if err := json.Unmarshal(payload, c); err != nil {
		return nil, errCredentials
	}
	for _, claim := range []struct{ name, value string }{
		{"sub", subject}, {"namespace", c.Namespace}, {"secretName", c.Secret}, {"serviceAccountName", c.Account}, {"serviceAccountUID", c.UID}} {
		if claim.value == "" {
			return nil, errors.New(claim.name + " claim is missing")
		}
	}
	if subject != ServiceAccountUser(c.Namespace, c.Account) {
		return nil, errors.New("sub claim is invalid")
	}
	return c, nil
}

// stored checks that the Secret still holds the token, for the account it was
// made for.
func (t *Tokens) stored(ctx context.Context, token string, c *legacyClaims, now time.Time) error {
	m := t.cfg.Metrics
	m.legacy.Inc()
	secret, err := client.Get[*corev1.Secret](ctx, t.cfg.Objects, c.Namespace, c.Secret)
	if err != nil || secret.DeletionTimestamp != nil {
		return errors.New("Token has been invalidated")
	}
	if subtle.ConstantTimeCompare(secret.Data[corev1.ServiceAccountTokenKey], []byte(token)) != 1 {
		return errors.New("Token does not match server's copy")
	}
	sa, err := client.Get[*corev1.ServiceAccount](ctx, t.cfg.Objects, c.Namespace, c.Account)
	if err != nil {
		return err
	}
	if sa.DeletionTimestamp != nil {
		return fmt.Errorf("ServiceAccount %s/%s has been deleted", c.Namespace, c.Account)
	}
	if string(sa.UID) != c.UID {
		return fmt.Errorf("ServiceAccount UID (%s) does not match claim (%s)", sa.UID, c.UID)
	}
	today, used := legacytoken.Day(now), secret.Labels[legacytoken.LastUsed]
	if t.cfg.Used != nil && used != today && used != legacytoken.Day(now.AddDate(0, 0, 1)) {
		t.cfg.Used(ctx, secret, today)
	}
	if secret.Labels[legacytoken.InvalidSince] != "" {
		m.invalid.Inc()
		return fmt.Errorf("the token in secret %s/%s for service account %s/%s has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the '%s' label from the secret to temporarily allow use of this token",
			c.Namespace, c.Secret, c.Namespace, c.Account, legacytoken.InvalidSince)
	}
	if legacytoken.Generated(sa, c.Secret) {
		m.generated.Inc()
	} else {
		m.asked.Inc()
	}
	return nil
}
