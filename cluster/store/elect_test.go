package store

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

// Not beside other tests: what raft publishes is of the last server of a process.
func TestTheOnlyMemberLeadsWithoutItsClock(t *testing.T) {
	ended := newEnding("")
	c := embedded(Config{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)}, ended)
	c.TickMs, c.ElectionMs = 9_000, 45_000 // by the clock it would take one tick at least
	for _, state := range []string{"new", "kept", "kept twice"} {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		server, err := embed.StartEtcd(c)
		if err != nil {
			t.Fatal(err)
		}
		e := &etcd{ended: ended, client: v3client.New(server.Server), server: server, log: slog.New(slog.DiscardHandler)}
		if err := e.ready(ctx); err != nil {
			t.Errorf("on %s state it does not lead: %v", state, err)
		} else if _, err := e.client.Put(ctx, "/state", state); err != nil {
			t.Errorf("on %s state it does not write: %v", state, err)
		}
		cancel()
		e.client.Close()
		server.Close()
		<-server.Server.StopNotify()
	}
}
