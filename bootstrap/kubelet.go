package bootstrap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"

	"sampan/cluster/auth"
	authwebhook "sampan/cluster/auth/webhook"
	"sampan/cluster/client"
	"sampan/cluster/client/remote"
	"sampan/internal/fault"
)

// dialer reaches the nodes' own API: this machine's through a pipe, others by
// TLS to the address that their Node object names. It is an api.Dialer.
type dialer struct {
	local *pipe
	nodes client.Reader
	pki   *PKI
}

// dialTimeout bounds the way to a node, the handshake included.
const dialTimeout = 30 * time.Second

// DialNode implements api.Dialer. The node proves that it has the name, which
// is what the cluster knows it by: its address may change.
func (d dialer) DialNode(ctx context.Context, name string) (net.Conn, error) {
	if name == d.local.node {
		return d.local.DialNode(ctx, name)
	}
	node, err := client.Get[*corev1.Node](ctx, d.nodes, "", name)
	if err != nil {
		return nil, err
	}
	unreachable := func(on string, err error) error {
		return &fault.Error{Class: fault.Unavailable, Op: "reach node " + name, On: on, Err: err}
	}
	address := internalAddress(node)
	port := node.Status.DaemonEndpoints.KubeletEndpoint.Port
	if address == "" || port == 0 {
		return nil, unreachable("at its port", errors.New("it has not said where it is yet"))
	}
	roots := x509.NewCertPool()
	roots.AddCert(d.pki.CA)
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	to := net.JoinHostPort(address, strconv.Itoa(int(port)))
	t := tls.Dialer{Config: &tls.Config{ServerName: name, RootCAs: roots, Certificates: []tls.Certificate{d.pki.Kubelet}}}
	c, err := t.DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, unreachable("at "+to, err)
	}
	return c, nil
}

func internalAddress(n *corev1.Node) string {
	for _, a := range n.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			return a.Address
		}
	}
	return ""
}

// reviewer says whether somebody may do something.
type reviewer interface {
	Check(ctx context.Context, a auth.Attributes) error
}

// guarded lets only those at h who may reach the node's own API: whoever may
// use the subresource proxy of nodes.
func guarded(h http.Handler, node string, who *auth.Authenticator, may reviewer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			h.ServeHTTP(w, r)
			return
		}
		user, err := who.Authenticate(r)
		if err != nil {
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
			return
		}
		verb := "create"
		if r.Method == http.MethodGet {
			verb = "get"
		}
		if err := may.Check(r.Context(), auth.Attributes{User: user, Verb: verb, Version: "v1",
			Resource: "nodes", Subresource: "proxy", Name: node}); err != nil {
			http.Error(w, err.Error(), http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// tokenReviews asks the API server whose token it is that comes to a joined
// node's own API. Answers are kept for a while, as upstream's kubelet does.
type tokenReviews struct{ client *remote.Client }

// tokensLast is how long answers count. (Upstream:
// authentication.webhook.cacheTTL.)
const tokensLast = 2 * time.Minute

// AuthenticateToken implements auth.TokenAuthenticator.
func (r tokenReviews) AuthenticateToken(ctx context.Context, token string, wanted []string) (*auth.Identity, error) {
	status, err := r.client.ReviewToken(ctx, authenticationv1.TokenReviewSpec{Token: token, Audiences: wanted})
	if err != nil {
		return nil, err
	}
	return authwebhook.Judge(status, wanted, nil)
}

// reviews asks the API server who may reach a joined node's own API. The API
// server itself may: it has asked itself who wants what. Answers are kept for a
// while, as upstream's kubelet does.
type reviews struct {
	client *remote.Client

	mu    sync.Mutex // guards all below
	known map[string]review
}

type review struct {
	err   error
	until time.Time
}

// How long answers count (upstream: authorization.webhook.cacheAuthorizedTTL
// and cacheUnauthorizedTTL), and how many are kept.
const (
	yesLasts    = 5 * time.Minute
	noLasts     = 30 * time.Second
	mostReviews = 256
)

// Check implements reviewer.
func (r *reviews) Check(ctx context.Context, a auth.Attributes) error {
	if a.User.Name == KubeletClient {
		return nil
	}
	spec := a.Review()
	key, err := json.Marshal(spec) // maps are in order
	if err != nil {
		return err
	}
	r.mu.Lock()
	known, ok := r.known[string(key)]
	r.mu.Unlock()
	if ok && time.Now().Before(known.until) {
		return known.err
	}
	status, err := r.client.Review(ctx, spec)
	if err != nil {
		return err
	}
	answer := review{until: time.Now().Add(yesLasts)}
	if !status.Allowed {
		answer = review{until: time.Now().Add(noLasts), err: &fault.Error{Class: fault.Forbidden, Op: a.Verb + " " + a.Resource + "/" + a.Subresource,
			On: a.Name, Err: errors.New("user " + a.User.Name + " may not" + because(status.Reason))}}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil || len(r.known) >= mostReviews {
		r.known = map[string]review{}
	}
	r.known[string(key)] = answer
	return answer.err
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}
