package auth

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"

	"sampan/cluster/request"
)

// Authenticator says who sent a request: the first of those below that knows
// does. The exported fields are set before the first request. It is safe for
// concurrent use.
type Authenticator struct {
	// FrontProxy is asked first: who comes through a proxy. Nil: nobody does.
	FrontProxy *FrontProxy
	// ClientCA signs client certificates.
	ClientCA *Trust
	// Tokens checks bearer tokens; nil: every token is refused.
	Tokens TokenAuthenticator

	// NoAnonymous refuses requests without credentials. AnonymousPaths, if there
	// are any, refuses them at all other paths.
	NoAnonymous    bool
	AnonymousPaths []string

	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// TokenAuthenticator says whose a bearer token is. It is safe for concurrent
// use.
type TokenAuthenticator interface {
	// AuthenticateToken returns nil, without an error, if the token is none of
	// its own; an error if it is one and not good. The Identity is shared: it
	// must not be written to. The audiences wanted are those of this API server
	// if there are none.
	AuthenticateToken(ctx context.Context, token string, wanted []string) (*Identity, error)
}

// Identity is what a token proves.
type Identity struct {
	User      request.User
	Audiences []string // of those wanted, the ones that it is good for
}

// errCredentials is all that a client learns about bad credentials.
var errCredentials = errors.New("invalid credentials")

// errToken is for a token that nobody knows. (Upstream:
// apiserver/pkg/authentication/request/bearertoken.)
var errToken = errors.New("invalid bearer token")

// Authenticate returns the user of r. Without credentials that is
// system:anonymous, where it may come; with bad ones it is an error, to be
// answered with 401. A token, and what a proxy says, is taken out of the header:
// nobody further in is to see it.
func (a *Authenticator) Authenticate(r *http.Request) (request.User, error) {
	var failed []error
	now := a.now()
	if a.FrontProxy != nil {
		u, ok, err := a.FrontProxy.user(r, now)
		if ok {
			return withAuthenticated(u), nil
		}
		if err != nil {
			failed = append(failed, err)
		}
	}
	if a.ClientCA != nil && r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		u, err := a.ClientCA.user(r.TLS.PeerCertificates, now)
		if err == nil && u.Name != "" {
			return withAuthenticated(u), nil
		}
		if err != nil {
			failed = append(failed, err)
		}
	}
	if token, given := bearer(r); given {
		id, err := a.token(r.Context(), token, nil)
		if err == nil {
			r.Header.Del("Authorization")
			return id.User, nil
		}
		failed = append(failed, err)
	}
	if len(failed) > 0 { // bad credentials are not the same as none
		return request.User{}, utilerrors.NewAggregate(failed)
	}
	if a.NoAnonymous || len(a.AnonymousPaths) > 0 && !slices.Contains(a.AnonymousPaths, r.URL.Path) {
		return request.User{}, errCredentials
	}
	return request.User{Name: Anonymous, Groups: []string{Unauthenticated}}, nil
}

// token returns the identity that a token proves, in the groups of all who are
// known.
func (a *Authenticator) token(ctx context.Context, token string, wanted []string) (*Identity, error) {
	if a.Tokens == nil {
		return nil, errToken
	}
	id, err := a.Tokens.AuthenticateToken(ctx, token, wanted)
	if err != nil {
		return nil, err
	}
	if id == nil {
		return nil, errToken
	}
	return &Identity{User: withAuthenticated(id.User), Audiences: id.Audiences}, nil
}

// ReviewToken answers whose token it is, by all that check tokens of requests.
func (a *Authenticator) ReviewToken(ctx context.Context, r *authenticationv1.TokenReview) error {
	if r.Spec.Token == "" {
		return apierrors.NewBadRequest("token is required for TokenReview in authentication")
	}
	id, err := a.token(ctx, r.Spec.Token, r.Spec.Audiences)
	r.Status = authenticationv1.TokenReviewStatus{}
	if err != nil {
		r.Status.Error = err.Error()
		return nil
	}
	r.Status.Authenticated, r.Status.User, r.Status.Audiences = true, userInfo(id.User), id.Audiences
	return nil
}

func (a *Authenticator) now() time.Time {
	if a.Now != nil {
		return a.Now()
	}
	return time.Now()
}

// withAuthenticated puts a user into the group of all who are known, unless it
// is in one of both already. (Upstream: apiserver/pkg/authentication/group.)
func withAuthenticated(u request.User) request.User {
	if u.Name == Anonymous || slices.Contains(u.Groups, Authenticated) || slices.Contains(u.Groups, Unauthenticated) {
		return u
	}
	u.Groups = append(slices.Clip(u.Groups), Authenticated)
	return u
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
