package aggregate

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"time"

	"sampan/cluster/request"
)

// connection is how one server behind a service is reached and trusted. A nil
// connection is closed.
type connection struct {
	plain   *http.Transport
	upgrade *http.Transport // HTTP/1.1 alone: HTTP/2 has no upgrades
	wrong   error           // why there are none
}

// How many idle connections are kept to each endpoint, and how long.
const (
	maxIdle = 8
	idleFor = 90 * time.Second
)

// connect makes ready to ask the server behind s. It dials nothing.
func (a *Aggregator) connect(s *apiService) *connection {
	trust := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{a.cfg.Certificate},
		ServerName:         s.Spec.Service.Name + "." + s.Spec.Service.Namespace + ".svc",
		InsecureSkipVerify: s.Spec.InsecureSkipTLSVerify}
	if len(s.Spec.CABundle) > 0 {
		trust.RootCAs = x509.NewCertPool()
		if !trust.RootCAs.AppendCertsFromPEM(s.Spec.CABundle) {
			return &connection{wrong: errors.New("unable to load root certificates: unable to parse bytes as PEM block")}
		}
	}
	transport := func(http2 bool) *http.Transport {
		return &http.Transport{
			DialContext: a.cfg.Dial, TLSClientConfig: trust.Clone(), TLSHandshakeTimeout: 10 * time.Second,
			MaxIdleConnsPerHost: maxIdle, IdleConnTimeout: idleFor, DisableCompression: true, ForceAttemptHTTP2: http2,
			// A watch that says nothing looks like a server that has gone.
			HTTP2: &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
		}
	}
	return &connection{plain: transport(true), upgrade: transport(false)}
}

func (c *connection) close() {
	if c != nil && c.plain != nil {
		c.plain.CloseIdleConnections()
		c.upgrade.CloseIdleConnections()
	}
}

// itself is who this server is where it asks for itself, as upstream's.
var itself = request.User{Name: "system:kube-aggregator", Groups: []string{"system:masters"}}

// ask sends a request of this server's own.
func (c *connection) ask(req *http.Request) (*http.Response, error) {
	if c.wrong != nil {
		return nil, c.wrong
	}
	identify(req.Header, itself)
	follow := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return (&http.Client{Transport: c.plain, CheckRedirect: follow}).Do(req)
}

// The headers by which a front proxy says whom a request is from. Names of
// extra fields follow the prefix.
const (
	UserHeader  = "X-Remote-User"
	UIDHeader   = "X-Remote-Uid"
	GroupHeader = "X-Remote-Group"
	ExtraPrefix = "X-Remote-Extra-"
)

// identify has h say that a request is u's, and nothing else about who sent
// it. (Upstream: SetAuthProxyHeaders in client-go/transport.)
func identify(h http.Header, u request.User) {
	for key := range h {
		if key == UserHeader || key == UIDHeader || key == GroupHeader || key == "Authorization" ||
			strings.HasPrefix(strings.ToLower(key), strings.ToLower(ExtraPrefix)) {
			delete(h, key)
		}
	}
	h.Set(UserHeader, u.Name)
	if u.UID != "" {
		h.Set(UIDHeader, u.UID)
	}
	for _, g := range u.Groups {
		h.Add(GroupHeader, g)
	}
	for key, values := range u.Extra {
		for _, v := range values {
			h.Add(ExtraPrefix+escape(key), v)
		}
	}
}

// escape writes with percent signs what cannot be in the name of a header.
// (RFC 9110, 5.6.2.)
func escape(key string) string {
	const token = "!#$&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(key) {
		if c := key[i]; strings.IndexByte(token, c) >= 0 {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}
