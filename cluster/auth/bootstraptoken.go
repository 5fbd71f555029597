package auth

import (
	"context"
	"crypto/subtle"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/client"
	"sampan/cluster/kind/bootstraptoken"
	"sampan/cluster/request"
)

// BootstrapTokens knows the tokens of machines that join, which are Secrets of
// kube-system. One that is not good is like one that does not exist. (Upstream:
// plugin/pkg/auth/authenticator/token/bootstrap.)
type BootstrapTokens struct {
	Objects client.Reader    // it reads without being asked who it is
	Now     func() time.Time // default: time.Now
}

// AuthenticateToken implements TokenAuthenticator.
func (b BootstrapTokens) AuthenticateToken(ctx context.Context, token string, _ []string) (*Identity, error) {
	id, secret, ok := bootstraptoken.Split(token)
	if !ok {
		return nil, nil
	}
	s, err := client.Get[*corev1.Secret](ctx, b.Objects, metav1.NamespaceSystem, bootstraptoken.NamePrefix+id)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	now := time.Now
	if b.Now != nil {
		now = b.Now
	}
	_, over := bootstraptoken.Left(s, now())
	groups, err := bootstraptoken.Groups(s)
	if s.DeletionTimestamp != nil || s.Type != bootstraptoken.Type || over || err != nil ||
		subtle.ConstantTimeCompare(s.Data[bootstraptoken.KeySecret], []byte(secret)) != 1 ||
		string(s.Data[bootstraptoken.KeyID]) != id || string(s.Data[bootstraptoken.KeyAuthentication]) != "true" {
		return nil, nil
	}
	return &Identity{User: request.User{Name: bootstraptoken.UserPrefix + id, Groups: groups}}, nil
}
