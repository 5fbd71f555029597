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
)

// TLS is the configuration of the API's listener: any client may connect, and
// a certificate is asked for. Whether one that is given is any good is the
// authenticator's business, which answers 401 rather than breaking the
// handshake.
func TLS(serving tls.Certificate, clientCA *x509.Certificate) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(clientCA)
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{serving},
		ClientAuth:   tls.RequestClientCert,
		ClientCAs:    pool, // which certificate to send: clients choose by it
		NextProtos:   []string{"h2", "http/1.1"},
	}
}

// Serve answers on the listeners until ctx ends. Then watches and streams are
// ended, requests under way may finish, and Serve returns when all have. It
// is called once.
func (s *Server) Serve(ctx context.Context, config *tls.Config, listeners ...net.Listener) error {
	srv := &http.Server{
		Handler:           s,
		TLSConfig:         config,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(connectionLog{s.cfg.Log}, "", 0),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          maxStreams,
			MaxReceiveBufferPerConnection: 1 << 20,
			MaxReceiveBufferPerStream:     256 << 10,
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
	s.long.close()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if serr := srv.Shutdown(grace); serr != nil {
		s.cfg.Log.Warn("requests were cut off at shutdown", "err", serr)
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
type connectionLog struct{ log *slog.Logger }

func (l connectionLog) Write(p []byte) (int, error) {
	text := strings.TrimSpace(string(p))
	if strings.Contains(text, "panic") {
		l.log.Error("connection failed", "err", text)
	} else {
		l.log.Debug("connection failed", "err", text)
	}
	return len(p), nil
}
