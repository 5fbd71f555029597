package api

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/url"

	"k8s.io/streaming/pkg/httpstream/wsstream"
)

// logSocket sends a log as the messages of a WebSocket, whose end is the
// log's. (Upstream: InputStream in apiserver's responsewriters.)
func (c *call) logSocket(ctx context.Context, where *target) {
	transport := &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx, where) },
		DisableKeepAlives: true,
	}
	u := &url.URL{Scheme: "http", Host: where.host(), Path: where.path, RawQuery: where.query.Encode()}
	c.code = 0
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		c.fail(err)
		return
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		c.fail(where.unreachable(err))
		return
	}
	defer resp.Body.Close()
	if err := kubeletError(resp, c.route); err != nil {
		c.fail(err)
		return
	}
	c.code = http.StatusSwitchingProtocols
	// The library drops bytes that come together with the end; a buffer tells
	// of the end by itself.
	reader := wsstream.NewReader(bufio.NewReader(resp.Body), true, wsstream.NewDefaultReaderProtocols())
	if err := reader.Copy(c.w, c.r); err != nil && ctx.Err() == nil {
		c.s.cfg.Log.Debug("log over a websocket ended early", "key", where.path, "err", err)
	}
}
