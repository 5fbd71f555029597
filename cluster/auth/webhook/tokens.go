package webhook

import (
	"context"
	"errors"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sampan/cluster/auth"
	"sampan/cluster/request"
	"sampan/internal/fault"
)

// Tokens asks a webhook whose a token is. It is to be used behind an
// auth.Cached.
type Tokens struct {
	endpoint  *Endpoint
	version   string
	audiences []string // of this API server
}

// NewTokens returns a TokenAuthenticator that asks in a version of
// authentication.k8s.io, v1 or v1beta1, which have one form.
func NewTokens(e *Endpoint, version string, audiences []string) (*Tokens, error) {
	if version != "v1" && version != "v1beta1" {
		return nil, &fault.Error{Class: fault.Invalid, Op: "configure token webhook", On: "version " + version,
			Err: errors.New(`supported versions are "v1", "v1beta1"`)}
	}
	return &Tokens{endpoint: e, version: version, audiences: audiences}, nil
}

// AuthenticateToken implements auth.TokenAuthenticator.
func (t *Tokens) AuthenticateToken(ctx context.Context, token string, wanted []string) (*auth.Identity, error) {
	if len(wanted) == 0 {
		wanted = t.audiences
	}
	review := authenticationv1.TokenReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authentication.k8s.io/" + t.version, Kind: "TokenReview"},
		Spec:     authenticationv1.TokenReviewSpec{Token: token, Audiences: wanted}}
	var answer authenticationv1.TokenReview
	if err := t.endpoint.post(ctx, review, &answer); err != nil {
		return nil, err
	}
	if err := version(answer.TypeMeta, review.TypeMeta); err != nil {
		return nil, err
	}
	return Judge(answer.Status, wanted, t.audiences)
}

// Judge makes an identity of what a TokenReview says, nil if it says no. A
// webhook that says nothing of audiences knows this API server's alone.
func Judge(s authenticationv1.TokenReviewStatus, wanted, own []string) (*auth.Identity, error) {
	had := own
	if len(s.Audiences) > 0 {
		had = s.Audiences
	}
	good := auth.Common(wanted, had)
	switch {
	case len(wanted) > 0 && len(good) == 0:
		return nil, nil
	case !s.Authenticated && s.Error != "":
		return nil, errors.New(s.Error)
	case !s.Authenticated:
		return nil, nil
	}
	u := request.User{Name: s.User.Username, UID: s.User.UID, Groups: s.User.Groups}
	if len(s.User.Extra) > 0 {
		u.Extra = map[string][]string{}
		for k, v := range s.User.Extra {
			u.Extra[k] = v
		}
	}
	return &auth.Identity{User: u, Audiences: good}, nil
}
