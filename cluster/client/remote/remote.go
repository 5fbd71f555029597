// Package remote is the client.Client of a process that does not hold the
// store: a node that joined. It speaks the Kubernetes API over HTTP, in
// protobuf where the kind has it, and keeps in memory what is watched.
//
// Memory is filled per kind and query (view.go): a kind named in Config.Whole
// by one watch over all its objects, any other by watches of just what is
// followed, because a node may read single secrets only. What is not in memory
// is read from the server. A watch ends when nobody uses it.
//
// It has no rules of any kind, and works with any server of that API.
package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/client"
	"sampan/cluster/kind"
	"sampan/internal/fault"
)

// Config is what a Client needs. Server, TLS and Kinds have no default.
type Config struct {
	Server string      // URL, without a path
	TLS    *tls.Config // trusts the server, and has the certificate of the user
	Kinds  *kind.Table

	// Whole are the kinds of which all objects are kept in memory, from the
	// first read or watch of one until ten minutes after the last.
	Whole []schema.GroupResource

	Agent string // User-Agent, and with it the field manager: "kubelet"
	Log   *slog.Logger
}

// Bounds of requests that are no watches.
const (
	patience = time.Minute      // for an answer; the server's own bound
	fillWait = 10 * time.Second // of a read for a kind that is being read for the first time
)

// Client is a client.Client over HTTP. It is safe for concurrent use. What it
// keeps in memory it keeps only while Run runs. A read from memory may be
// older than the last write.
type Client struct {
	cfg   Config
	base  *url.URL
	http  *http.Client
	whole map[schema.GroupResource]bool

	mu      sync.Mutex // guards all below; before a view's
	running context.Context
	views   map[selection]*view
	group   sync.WaitGroup
}

var _ client.Client = (*Client)(nil)

// New checks the configuration and connects to nothing.
func New(cfg Config) (*Client, error) {
	wrong := func(field string, err error) error {
		return &fault.Error{Class: fault.Invalid, Op: "make client of the API", On: field, Err: err}
	}
	base, err := url.Parse(cfg.Server)
	switch {
	case err != nil:
		return nil, wrong(cfg.Server, err)
	case base.Scheme != "https" || base.Host == "":
		return nil, wrong(cfg.Server, errors.New("want a URL that begins with https://"))
	case cfg.TLS == nil || cfg.Kinds == nil:
		return nil, wrong("Config", errors.New("TLS and Kinds have to be set"))
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	c := &Client{cfg: cfg, base: base, whole: map[schema.GroupResource]bool{}, views: map[selection]*view{}}
	for _, r := range cfg.Whole {
		c.whole[r] = true
	}
	// All watches share one connection. Whether its other end still lives is
	// asked when nothing came for a while: a machine that lost its power says
	// nothing. (Upstream's client: the same times.)
	c.http = &http.Client{Transport: &http.Transport{TLSClientConfig: cfg.TLS, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 90 * time.Second,
		HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second}}}
	return c, nil
}

// Run lets watches run until ctx ends.
func (c *Client) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	c.running = ctx
	for _, v := range c.views {
		c.startLocked(v)
	}
	c.mu.Unlock()
	<-ctx.Done()
	c.mu.Lock()
	c.running = nil
	for _, v := range c.views {
		v.stop()
	}
	c.mu.Unlock()
	c.group.Wait()
	c.http.CloseIdleConnections()
	return nil
}

// Kinds implements client.Reader.
func (c *Client) Kinds() *kind.Table { return c.cfg.Kinds }

// Create implements client.Client.
func (c *Client) Create(ctx context.Context, k *kind.Kind, obj kind.Object) (kind.Object, error) {
	body, media, err := encode(k, obj)
	if err != nil {
		return nil, err
	}
	return c.object(ctx, k, request{method: http.MethodPost, path: path(k, obj.GetNamespace(), "", ""), body: body, media: media})
}

// Update implements client.Client.
func (c *Client) Update(ctx context.Context, k *kind.Kind, obj kind.Object, sub string) (kind.Object, error) {
	body, media, err := encode(k, obj)
	if err != nil {
		return nil, err
	}
	return c.object(ctx, k, request{method: http.MethodPut, path: path(k, obj.GetNamespace(), obj.GetName(), sub), body: body, media: media})
}

// Patch implements client.Client.
func (c *Client) Patch(ctx context.Context, k *kind.Kind, p client.Patch) (kind.Object, error) {
	q := url.Values{}
	if p.FieldManager != "" {
		q.Set("fieldManager", p.FieldManager)
	}
	if p.Force {
		q.Set("force", "true")
	}
	return c.object(ctx, k, request{method: http.MethodPatch, path: path(k, p.Namespace, p.Name, p.Sub), query: q,
		body: p.Data, media: string(p.Type)})
}

// Delete implements client.Client.
func (c *Client) Delete(ctx context.Context, k *kind.Kind, namespace, name string, opts *metav1.DeleteOptions) error {
	r := request{method: http.MethodDelete, path: path(k, namespace, name, "")}
	if opts != nil {
		o := opts.DeepCopy()
		o.APIVersion, o.Kind = "v1", "DeleteOptions"
		var err error
		if r.body, r.media, err = encodeJSON(o); err != nil {
			return err
		}
	}
	_, err := c.do(ctx, r)
	return err
}

// Act implements client.Client.
func (c *Client) Act(ctx context.Context, k *kind.Kind, namespace, name, sub string, body runtime.Object) (runtime.Object, error) {
	action, ok := k.Actions[sub]
	if !ok {
		return nil, &fault.Error{Class: fault.Invalid, Op: "post to subresource", On: k.String() + "/" + sub,
			Err: errors.New("the kind has none of that name")}
	}
	body = body.DeepCopyObject()
	body.GetObjectKind().SetGroupVersionKind(action.GVK)
	data, media, err := encodeJSON(body)
	if err != nil {
		return nil, err
	}
	a, err := c.do(ctx, request{method: http.MethodPost, path: path(k, namespace, name, sub), body: data, media: media})
	if err != nil {
		return nil, err
	}
	if status := new(metav1.Status); a.is("Status") {
		return status, a.into(status, statusKind)
	}
	answer := action.New()
	return answer, a.into(answer, action.GVK)
}

// Review asks the server whether a user may do something: a
// SubjectAccessReview, which is no kind of the table because it is not stored.
func (c *Client) Review(ctx context.Context, spec authorizationv1.SubjectAccessReviewSpec) (authorizationv1.SubjectAccessReviewStatus, error) {
	gvk := authorizationv1.SchemeGroupVersion.WithKind("SubjectAccessReview")
	review := &authorizationv1.SubjectAccessReview{Spec: spec}
	review.SetGroupVersionKind(gvk)
	body, media, err := encodeJSON(review)
	if err != nil {
		return authorizationv1.SubjectAccessReviewStatus{}, err
	}
	a, err := c.do(ctx, request{method: http.MethodPost, path: "/apis/authorization.k8s.io/v1/subjectaccessreviews", body: body, media: media})
	if err != nil {
		return authorizationv1.SubjectAccessReviewStatus{}, err
	}
	answer := new(authorizationv1.SubjectAccessReview)
	err = a.into(answer, gvk)
	return answer.Status, err
}

// ReviewToken asks the server whose token it is: a TokenReview.
func (c *Client) ReviewToken(ctx context.Context, spec authenticationv1.TokenReviewSpec) (authenticationv1.TokenReviewStatus, error) {
	gvk := authenticationv1.SchemeGroupVersion.WithKind("TokenReview")
	review := &authenticationv1.TokenReview{Spec: spec}
	review.SetGroupVersionKind(gvk)
	body, media, err := encodeJSON(review)
	if err != nil {
		return authenticationv1.TokenReviewStatus{}, err
	}
	a, err := c.do(ctx, request{method: http.MethodPost, path: "/apis/authentication.k8s.io/v1/tokenreviews", body: body, media: media})
	if err != nil {
		return authenticationv1.TokenReviewStatus{}, err
	}
	answer := new(authenticationv1.TokenReview)
	err = a.into(answer, gvk)
	return answer.Status, err
}

// path is where objects of k, one object, or a part of it are.
func path(k *kind.Kind, namespace, name, sub string) string {
	b := strings.Builder{}
	if k.GVK.Group == "" {
		b.WriteString("/api/" + k.GVK.Version)
	} else {
		b.WriteString("/apis/" + k.GVK.Group + "/" + k.GVK.Version)
	}
	if namespace != "" && !k.Cluster {
		b.WriteString("/namespaces/" + url.PathEscape(namespace))
	}
	for _, part := range []string{k.Plural, name, sub} {
		if part != "" {
			b.WriteString("/" + url.PathEscape(part))
		}
	}
	return b.String()
}
