package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"sampan/internal/fault"
)

// Limits of connections. A request's header must arrive soon; its body gets
// a deadline of its own (see body.go), and a watch has none.
const (
	headerTimeout   = 32 * time.Second
	idleTimeout     = 2 * time.Minute
	maxHeader       = 1 << 20
	maxStreams      = 100 // of one HTTP/2 connection, as upstream since CVE-2023-44487
	shutdownTimeout = 10 * time.Second
	farewell        = 200 * time.Millisecond // for the last answers to leave, once all are given
)

// TLS is the configuration of the API's listener: any client may connect, and
// a certificate is asked for. Whether one that is given is any good is the
// authenticator's business, which answers 401 rather than breaking the
// handshake.
func TLS(serving tls.Certificate, clientCAs ...*x509.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	for _, c := range clientCAs {
		pool.AddCert(c)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{serving},
		ClientAuth:   tls.RequestClientCert,
		ClientCAs:    pool, // which certificate to send: clients choose by it
		NextProtos:   []string{"h2", "http/1.1"},
		// Each record is a call of the kernel, and answers are longer than the small
		// ones that a connection begins with.
		DynamicRecordSizingDisabled: true,
	}
}

// Serve answers on the listeners until ctx ends. Then /readyz fails; after the
// delay that Limits has, watches and streams are ended, requests under way may
// finish, and Serve returns when all have. It is called once.
func (s *Server) Serve(ctx context.Context, config *tls.Config, listeners ...net.Listener) error {
	srv := &http.Server{
		Handler:           s,
		TLSConfig:         config,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(connectionLog{log: s.cfg.Log, handshakes: &s.metrics.tls}, "", 0),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			MaxReceiveBufferPerConnection: 1 << 20,
			MaxReceiveBufferPerStream:     256 << 10,
			// A client that reads nothing at all blocks the whole connection, where
			// the deadlines of single streams do not help. What waits gives up
			// first, and says so.
			WriteByteTimeout: 2 * s.cfg.Limits.Write,
		},
	}
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { failed <- srv.ServeTLS(l, "", "") }()
	}
	ended := 0
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		ended++
	}
	limits := &s.cfg.Limits
	s.closing.began.Store(true)
	if err == nil && limits.ShutdownDelay > 0 {
		delay := time.NewTimer(limits.ShutdownDelay)
		defer delay.Stop()
		select {
		case <-delay.C:
		case err = <-failed:
			ended++
		}
	}
	s.closing.refuse.Store(limits.ShutdownRetryAfter)
	s.long.close(limits.ShutdownWatches)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout+limits.ShutdownWatches)
	defer cancel()
	if limits.ShutdownRetryAfter {
		s.active.drain(grace) // those that do not end are cut off below
	}
	// Shutdown alone waits a second for each HTTP/2 connection, in case that
	// requests are on their way; clients repeat those.
	go func() {
		if s.active.drain(grace) == nil {
			time.AfterFunc(farewell, cancel)
		}
	}()
	if serr := srv.Shutdown(grace); serr != nil {
		if n := s.active.count.Load(); n > 0 {
			s.cfg.Log.Warn("requests were cut off at shutdown", "requests", n)
		}
		srv.Close()
	}
	for ; ended < len(listeners); ended++ {
		<-failed
	}
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return &fault.Error{Class: fault.Unavailable, Op: "serve the API", Err: err}
	}
	return nil
}

// connectionLog takes net/http's complaints about single connections, which
// scanners and half-open clients cause, at a level nobody is woken by.
type connectionLog struct {
	log        *slog.Logger
	handshakes *atomic.Int64 // that failed; nil: nobody counts
}

func (l connectionLog) Write(p []byte) (int, error) {
	text := strings.TrimSpace(string(p))
	if l.handshakes != nil && strings.HasPrefix(text, "http: TLS handshake error") {
		l.handshakes.Add(1)
	}
	if strings.Contains(text, "panic") {
		l.log.Error("connection failed", "err", text)
	} else {
		l.log.Debug("connection failed", "err", text)
	}
	return len(p), nil
}
