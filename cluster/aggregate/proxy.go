package aggregate

import (
	"context"
	"errors"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"

	"sampan/cluster/request"
)

// discoveryWait bounds the question what a group version has: clients ask all
// servers for that, and one that hangs must not hold them up. (Upstream's
// NewRequestForProxy.)
const discoveryWait = 5 * time.Second

// Pass has another server answer a request as u, whom nobody authorizes here.
// What goes wrong on the way is answered as upstream's aggregator does, in
// plain text. ctx ends what lasts; when its deadline is over before there is an
// answer, that is the error, and nothing is answered.
func (a *Aggregator) Pass(ctx context.Context, w http.ResponseWriter, r *http.Request, to *Remote, u request.User) (late error) {
	a.touch(to.name)
	switch {
	case !to.available:
		http.Error(w, "service unavailable", http.StatusServiceUnavailable)
		return nil
	case to.connection.wrong != nil:
		http.Error(w, to.connection.wrong.Error(), http.StatusInternalServerError)
		return nil
	}
	addresses, not := a.locate(ctx, to.service)
	if not != nil {
		a.cfg.Log.Debug("no endpoint of an aggregated API", "key", to.name, "reason", not.Reason, "message", not.Message)
		http.Error(w, "service unavailable", http.StatusServiceUnavailable)
		return nil
	}
	if strings.Count(strings.Trim(r.URL.Path, "/"), "/") == 2 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, discoveryWait, errHangs)
		defer cancel()
	}
	transport := to.connection.plain
	if upgrades(r) {
		transport = to.connection.upgrade
	}
	address := addresses[rand.IntN(len(addresses))]
	proxy := &httputil.ReverseProxy{
		Transport:      transport,
		FlushInterval:  -1, // of a watch each event shows at once
		ErrorLog:       log.New(quiet{a.cfg.Log}, "", 0),
		Rewrite:        func(p *httputil.ProxyRequest) { rewrite(p, address, u) },
		ModifyResponse: func(resp *http.Response) error { return answered(w, resp) },
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			switch cause := context.Cause(r.Context()); cause {
			case nil:
				a.doubt(to.name) // nobody answers where somebody should
			case context.Canceled:
				panic(http.ErrAbortHandler) // the client has left, or this server is leaving
			case context.DeadlineExceeded:
				late = cause
				return
			}
			http.Error(w, "error trying to reach service: "+err.Error(), http.StatusServiceUnavailable)
		},
	}
	proxy.ServeHTTP(w, r.WithContext(ctx))
	return late
}

var errHangs = errors.New("no answer within " + discoveryWait.String())

// doubt has a server looked at now that somebody could not reach.
func (a *Aggregator) doubt(name string) {
	a.mu.Lock()
	k := a.known[name]
	recent := k == nil || a.cfg.Now().Sub(k.looked) < firstRetry
	a.mu.Unlock()
	if !recent {
		a.loop.Add(name)
	}
}

func rewrite(p *httputil.ProxyRequest, address string, u request.User) {
	out := p.Out
	out.URL.Scheme, out.URL.Host, out.Host = "https", address, ""
	out.Header["X-Forwarded-For"] = p.In.Header["X-Forwarded-For"]
	p.SetXForwarded()
	out.Header.Set("X-Forwarded-Uri", p.In.URL.Path)
	identify(out.Header, u)
}

// answered settles what of an answer this server says itself.
func answered(w http.ResponseWriter, resp *http.Response) error {
	if resp.StatusCode >= 300 && resp.StatusCode <= 399 && resp.Header.Get("Location") != "" {
		// A client that followed would be asked for its credentials by somebody
		// else. (Upstream: --aggregator-reject-forwarding-redirect.)
		const text = "the backend attempted to redirect this request, which is not permitted"
		resp.Body.Close()
		resp.StatusCode, resp.Status = http.StatusBadGateway, ""
		resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		resp.Header = http.Header{"Content-Length": {strconv.Itoa(len(text))}, "Content-Type": {"text/plain; charset=utf-8"}}
	}
	for key := range resp.Header {
		w.Header().Del(key) // once, not twice
	}
	return nil
}

func upgrades(r *http.Request) bool {
	return r.Header.Get("Upgrade") != "" && strings.Contains(strings.ToLower(strings.Join(r.Header.Values("Connection"), ",")), "upgrade")
}

// quiet takes net/http's complaints about single connections.
type quiet struct{ log *slog.Logger }

func (q quiet) Write(p []byte) (int, error) {
	q.log.Debug("aggregated connection failed", "err", strings.TrimSpace(string(p)))
	return len(p), nil
}
