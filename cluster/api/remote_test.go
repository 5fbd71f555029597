package api_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"sampan/cluster/auth"
	"sampan/cluster/client"
	"sampan/cluster/client/clienttest"
	"sampan/cluster/client/remote"
)

// remote is a client over HTTP that may do everything.
func (w *world) remote(whole ...string) client.Client {
	w.t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(w.ca)
	cfg := remote.Config{Server: w.url, Kinds: kinds(), Agent: "test/1", Log: slog.New(slog.NewTextHandler(w.t.Output(), nil)),
		TLS: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{w.user(w.t, "admin", auth.Masters)}}}
	for _, name := range whole {
		cfg.Whole = append(cfg.Whole, schema.GroupResource{Resource: name})
	}
	c, err := remote.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	w.t.Cleanup(func() { stop(); <-ended })
	return c
}

func TestTheClientOverHTTPIsAClient(t *testing.T) {
	t.Run("with kinds in memory", func(t *testing.T) {
		clienttest.Suite(t, func(t *testing.T) client.Client { return newWorld(t).remote("configmaps", "pods") })
	})
	t.Run("with watches of what is asked for", func(t *testing.T) {
		clienttest.Suite(t, func(t *testing.T) client.Client { return newWorld(t).remote() })
	})
	t.Run("as the one in this process is", func(t *testing.T) {
		clienttest.Suite(t, func(t *testing.T) client.Client { return newWorld(t).all })
	})
}
