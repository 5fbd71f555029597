// Package api is the HTTP face of the API server: it finds out who asks and
// for what, calls a verb, and writes the answer in the form asked for. It
// also serves what is about the API rather than in it: discovery, OpenAPI,
// health, version, reviews, and the ways through to a node's kubelet port.
//
// api holds no rules about objects and does not know where they are stored.
package api

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/version"

	"sampan/cluster/aggregate"
	"sampan/cluster/audit"
	"sampan/cluster/auth"
	"sampan/cluster/client"
	"sampan/cluster/flow"
	"sampan/cluster/kind"
	"sampan/cluster/kind/oldversion"
	"sampan/cluster/object"
	"sampan/cluster/request"
	"sampan/cluster/schema"
	"sampan/cluster/verb"
	"sampan/internal/fault"
)

// Authenticator says who sent a request, and whose a token is. An error of
// Authenticate means bad credentials.
type Authenticator interface {
	Authenticate(r *http.Request) (request.User, error)
	ReviewToken(ctx context.Context, r *authenticationv1.TokenReview) error
}

// Dialer reaches the kubelet port of a node. HTTP/1.1 is spoken over what it
// returns; a node in this process may give one end of a pipe.
type Dialer interface {
	DialNode(ctx context.Context, name string) (net.Conn, error)
}

// Check is one line of /readyz and /livez.
type Check struct {
	Name string
	Live bool // part of /livez as well
	Run  func(ctx context.Context) error
}

// Config is what a Server needs. Verbs, Kinds, Schemas, Authenticator and
// Authorizer are required.
type Config struct {
	Verbs         *verb.API
	Kinds         *kind.Table
	Schemas       *schema.Schemas
	Authenticator Authenticator
	Authorizer    *auth.Authorizer

	// Objects reads pods, services and nodes for the proxied subresources,
	// after authorization. Nil: those answer 503.
	Objects client.Reader
	Dialer  Dialer       // nil: logs, exec and their siblings answer 503
	Tokens  *auth.Tokens // nil: no OpenID documents

	// OldReviews are answered beside the current versions of their kinds.
	OldReviews []oldversion.Review

	// Components are what `kubectl get componentstatuses` shows.
	Components []Component

	// Aggregate has other servers answer for group versions. Nil: none does.
	Aggregate *aggregate.Aggregator

	Audit *audit.Trail // nil: nothing is recorded, and nothing is spent on it

	Version version.Info      // zero: GitVersion "v1.37.2+sampan"
	Flags   map[string]string // that the program was started with, for /flagz; nil: there is no such path
	Checks  []Check
	Metrics func(w io.Writer)           // appends to /metrics; may be nil
	Debug   map[string]http.HandlerFunc // further paths below /debug/, for system:masters alone
	Log     *slog.Logger                // default: slog.Default
	Now     func() time.Time            // default: time.Now

	Limits Limits
	// BookmarkEvery is how often a quiet watch that asked for bookmarks gets
	// one. Default: a minute.
	BookmarkEvery time.Duration
}

// Server answers API requests. It is an http.Handler, safe for concurrent use.
type Server struct {
	cfg       Config
	codec     *object.Codec
	discovery discoveryCache
	older     olderDocuments
	metrics   metrics
	strangers *strangers
	slis      slis
	inFlight  inFlight
	virtual   []virtualKind
	// components is the kind of the components' statuses.
	components *kind.Kind
	long       longRunning
	pieces     pieces
	active     requests
	closing    closing
}

// New checks cfg. It starts nothing.
func New(cfg Config) (*Server, error) {
	if cfg.Verbs == nil || cfg.Kinds == nil || cfg.Schemas == nil || cfg.Authenticator == nil || cfg.Authorizer == nil {
		return nil, &fault.Error{Class: fault.Invalid, Op: "set up the API server",
			Fix: "give verbs, kinds, schemas, an authenticator and an authorizer"}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.BookmarkEvery == 0 {
		cfg.BookmarkEvery = time.Minute
	}
	var err error
	if cfg.Limits, err = cfg.Limits.withDefaults(); err != nil {
		return nil, err
	}
	if cfg.Version.GitVersion == "" {
		cfg.Version = defaultVersion()
	}
	s := &Server{cfg: cfg, codec: &object.Codec{Kinds: cfg.Kinds}, strangers: newStrangers(), active: requests{none: make(chan struct{}, 1)},
		pieces: pieces{most: piecesBytes}}
	s.virtual, s.components = s.virtualKinds(), componentStatus()
	s.virtual = append(s.virtual, oldReviews(s.virtual, cfg.OldReviews)...)
	cfg.Schemas.Describe(s.described())
	return s, nil
}

// call is one request on its way through the server.
type call struct {
	s     *Server
	w     http.ResponseWriter
	r     *http.Request
	user  request.User
	route route

	asked    string     // what is asked for, as RBAC names it; of a path that is no resource, the method
	query    url.Values // nil: there is none
	began    time.Time
	deadline time.Time // zero: it lasts
	cancel   context.CancelFunc
	turn     *flow.Turn    // nil: it has no seats, or none any more
	counted  *atomic.Int64 // where it counts as worked on

	verb   string // for metrics; set once known
	code   int    // of the answer, 0 before it
	size   int    // of its body so far, for metrics
	warned map[string]bool
	old    *deprecatedAPI // what it asks for, if that will go
	failed error          // what fail answered with, for the log
	record *audit.Record  // of the audit trail; nil: there is none
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	deepen()
	c := &call{s: s, w: w, r: r, route: parseRoute(r.URL.Path), began: time.Now()}
	s.active.enter()
	defer s.active.leave()
	defer c.end()
	defer func() {
		if p := recover(); p != nil {
			c.panicked(p)
		}
		s.metrics.count(c, time.Since(c.began))
	}()
	w.Header()["Cache-Control"] = noCache
	if !c.begin() {
		return
	}
	user, err := s.cfg.Authenticator.Authenticate(r)
	s.strangers.count(user, err, time.Since(c.began))
	if err != nil {
		c.s.cfg.Log.Debug("authentication failed", "path", r.URL.Path, "err", err)
		if s.cfg.Audit != nil {
			c.auditStranger()
		}
		c.fail(auth.Unauthorized())
		return
	}
	c.user = user
	if s.cfg.Audit != nil {
		defer c.endAudit()
		if err := c.beginAudit(); err != nil {
			c.fail(err)
			return
		}
	}
	if err := c.impersonate(); err != nil {
		c.fail(err)
		return
	}
	if !c.admit() {
		return
	}
	if c.elsewhere() {
		return
	}
	if c.route.Resource == "" {
		c.plainPath()
		return
	}
	c.resource()
}

// deepen gives the goroutine the stack that a request needs, while there is
// little on it: net/http starts one for each request of HTTP/2, and its stack
// would be doubled and copied three times, from ever deeper calls.
//
//go:noinline
func deepen() {
	var room [10 << 10]byte
	runtime.KeepAlive(&room[0])
}

var noCache = []string{"no-cache, private"}

// panicked turns a panic of a handler into an answer, or into a broken
// connection where the answer has begun: a client must not take a part for
// the whole.
func (c *call) panicked(p any) {
	if p == http.ErrAbortHandler {
		panic(p)
	}
	c.s.metrics.panics.Add(1)
	c.s.cfg.Log.Error("request panicked", "method", c.r.Method, "path", c.r.URL.Path, "panic", p, "stack", string(debug.Stack()))
	if c.code != 0 {
		panic(http.ErrAbortHandler)
	}
	c.fail(apierrors.NewInternalError(errPanic))
}

var errPanic = &fault.Error{Op: "answer the request", Fix: "the log of the server has the stack of the panic"}
