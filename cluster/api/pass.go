package api

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// pass sends the request on to where, and the answer back. Upgraded
// connections are copied byte by byte, but for the two WebSocket protocols
// that a kubelet does not speak: those are translated into SPDY.
func (c *call) pass(ctx context.Context, where *target) {
	c.code = http.StatusOK
	switch {
	case where.empty:
		c.sendBytes(http.StatusOK, "text/plain", nil)
		return
	case where.stream != "" && !isUpgrade(c.r):
		c.code = 0
		c.fail(apierrors.NewBadRequest("Upgrade request required"))
		return
	case (where.stream == "exec" || where.stream == "attach") && offers(c.r, protocolV5):
		c.code = 0
		c.translate(ctx, where)
		return
	case where.stream == "portforward" && offers(c.r, protocolTunnel):
		c.code = 0
		c.tunnel(ctx, where)
		return
	case where.log && wsstream.IsWebSocketRequest(c.r):
		c.logSocket(ctx, where)
		return
	case where.stream == "" && !where.log && where.path == "" && !isUpgrade(c.r) &&
		(c.r.Method == http.MethodGet || c.r.Method == http.MethodHead):
		location := c.r.URL.Path + "/"
		if c.r.URL.RawQuery != "" {
			location += "?" + c.r.URL.RawQuery
		}
		c.w.Header().Set("Location", location) // relative links of the page must work
		c.code = http.StatusMovedPermanently
		c.w.WriteHeader(http.StatusMovedPermanently)
		return
	}
	transport := &http.Transport{
		DialContext:           func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx, where) },
		DisableKeepAlives:     !isUpgrade(c.r), // one request, one connection; the header would break an upgrade
		DisableCompression:    true,
		ResponseHeaderTimeout: headerWait(where, c.s.cfg.Limits.Request),
		TLSClientConfig:       &tls.Config{InsecureSkipVerify: true}, // of a pod's own server, named by nobody; as upstream
	}
	defer transport.CloseIdleConnections()
	var trip http.RoundTripper = transport
	if where.stream == "" && !where.log && !isUpgrade(c.r) {
		// Links and redirects of what is shown must lead back through here.
		trip = &proxy.Transport{PathPrepend: prefix(c.r.URL.Path, where.path), RoundTripper: transport}
	}
	reverse := &httputil.ReverseProxy{
		Transport:     trip,
		FlushInterval: -1, // logs that are followed show each line at once
		ErrorLog:      log.New(connectionLog{log: c.s.cfg.Log}, "", 0),
		Rewrite:       func(p *httputil.ProxyRequest) { where.rewrite(p) },
		ModifyResponse: func(resp *http.Response) error {
			c.code = resp.StatusCode
			if where.log || where.stream != "" {
				if err := kubeletError(resp, c.route); err != nil {
					return err
				}
			}
			if where.log {
				resp.Header.Set("Content-Type", "text/plain")
			}
			return nil
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, err error) {
			if ctx.Err() != nil {
				panic(http.ErrAbortHandler) // the client has left, or the server is leaving
			}
			if _, ok := err.(apierrors.APIStatus); !ok {
				err = where.unreachable(err)
			}
			c.code = 0
			c.fail(err)
		},
	}
	reverse.ServeHTTP(c.w, c.r.WithContext(ctx))
}

// prefix is what of the path asked for is not the other side's.
func prefix(asked, theirs string) string {
	if strings.HasSuffix(asked, "/") && !strings.HasSuffix(theirs, "/") {
		theirs += "/"
	}
	return strings.TrimSuffix(asked, theirs)
}

// headerWait bounds the wait for an answer's beginning; a stream may think.
func headerWait(t *target, most time.Duration) time.Duration {
	if t.stream != "" || t.log {
		return 0
	}
	return most
}

func (t *target) rewrite(p *httputil.ProxyRequest) {
	out := p.Out
	out.URL.Scheme, out.URL.Host = "http", t.host()
	if t.node == "" {
		out.URL.Scheme = t.scheme
	}
	out.URL.Path, out.URL.RawPath = t.path, ""
	out.URL.RawQuery = t.query.Encode()
	out.Host = ""
	if t.stream == "" && !t.log {
		p.SetXForwarded()
	}
	// Who asks was settled here; their credentials are not for the other side.
	out.Header.Del("Authorization")
	if t.log || t.stream != "" {
		out.Header.Del("Accept-Encoding")
	}
}

func (t *target) host() string {
	if t.node != "" {
		return t.node
	}
	return t.address
}

// unreachable is upstream's answer where nothing answers.
func (t *target) unreachable(err error) error {
	if t.node != "" {
		return apierrors.NewInternalError(fmt.Errorf("error dialing backend: %w", err))
	}
	return apierrors.NewServiceUnavailable("error trying to reach service: " + err.Error())
}

func (c *call) dial(ctx context.Context, t *target) (net.Conn, error) {
	if t.node == "" {
		return (&net.Dialer{Timeout: 30 * time.Second}).DialContext(ctx, "tcp", t.address)
	}
	if c.s.cfg.Dialer == nil {
		return nil, apierrors.NewServiceUnavailable(fmt.Sprintf("this server has no way to node %q", t.node))
	}
	return c.s.cfg.Dialer.DialNode(ctx, t.node)
}

// kubeletError turns a refusal of the kubelet, which is plain text, into a
// Status. (Upstream: GenericHttpResponseChecker.)
func kubeletError(resp *http.Response, r route) error {
	if resp.StatusCode == http.StatusSwitchingProtocols || resp.StatusCode >= 200 && resp.StatusCode <= 206 {
		return nil
	}
	const enough = 64 << 10
	data, _ := io.ReadAll(io.LimitReader(resp.Body, enough))
	resp.Body.Close()
	text := strings.TrimSpace(string(data))
	switch resp.StatusCode {
	case http.StatusInternalServerError:
		return apierrors.NewInternalError(fmt.Errorf("%s", text))
	case http.StatusBadRequest:
		return apierrors.NewBadRequest(text)
	}
	return apierrors.NewGenericServerResponse(resp.StatusCode, "", schema.GroupResource{Group: r.GV.Group, Resource: r.Resource},
		r.Name, text, 0, false)
}

func isUpgrade(r *http.Request) bool {
	for _, h := range r.Header.Values("Connection") {
		if strings.Contains(strings.ToLower(h), "upgrade") {
			return r.Header.Get("Upgrade") != ""
		}
	}
	return false
}

// offers reports whether the client offers a WebSocket subprotocol.
func offers(r *http.Request, protocol string) bool {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return false
	}
	for _, h := range r.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(h, ",") {
			if strings.TrimSpace(p) == protocol {
				return true
			}
		}
	}
	return false
}

// upgradeWait bounds the handshake with a kubelet.
const upgradeWait = 30 * time.Second

// spdy dials the kubelet and upgrades the connection to SPDY/3.1 with the
// stream protocol given.
func (c *call) spdy(ctx context.Context, t *target, protocol string) (net.Conn, error) {
	conn, err := c.dial(ctx, t)
	if err != nil {
		if _, ok := err.(apierrors.APIStatus); ok {
			return nil, err
		}
		return nil, t.unreachable(err)
	}
	req := &http.Request{Method: http.MethodPost, Host: t.node, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		URL: &url.URL{Path: t.path, RawQuery: t.query.Encode()},
		Header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {"SPDY/3.1"},
			"X-Stream-Protocol-Version": {protocol}}}
	conn.SetDeadline(time.Now().Add(upgradeWait))
	in := bufio.NewReader(conn)
	err = req.Write(conn)
	var resp *http.Response
	if err == nil {
		resp, err = http.ReadResponse(in, req)
	}
	if err != nil {
		conn.Close()
		return nil, t.unreachable(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer conn.Close()
		if err := kubeletError(resp, c.route); err != nil {
			return nil, err
		}
		return nil, t.unreachable(fmt.Errorf("the kubelet answered %s instead of changing protocols", resp.Status))
	}
	conn.SetDeadline(time.Time{})
	return &bufferedConn{Conn: conn, in: in}, nil
}

// bufferedConn reads first what came together with the handshake's answer.
type bufferedConn struct {
	net.Conn
	in *bufio.Reader
}

func (b *bufferedConn) Read(p []byte) (int, error) { return b.in.Read(p) }
