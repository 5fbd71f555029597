package store

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"

	"sampan/internal/fault"
)

// etcd is where the store's bytes are: in this process, or elsewhere.
type etcd struct {
	client *clientv3.Client
	server *embed.Etcd // nil: elsewhere
}

func openEtcd(ctx context.Context, c Config) (*etcd, error) {
	if len(c.Endpoints) > 0 {
		client, err := clientv3.New(clientv3.Config{
			Endpoints: c.Endpoints, TLS: c.TLS, Logger: zapTo(c.Log),
			DialKeepAliveTime: 30 * time.Second, DialKeepAliveTimeout: 10 * time.Second,
		})
		if err != nil {
			return nil, unavailable("connect to etcd at", c.Endpoints[0], err)
		}
		return &etcd{client: client}, nil
	}
	if err := errors.Join(os.MkdirAll(c.Dir, 0o700), os.Chmod(c.Dir, 0o700)); err != nil {
		return nil, &fault.Error{Op: "make state directory", On: c.Dir, Err: err}
	}
	server, err := embed.StartEtcd(embedded(c))
	if err != nil {
		return nil, &fault.Error{Op: "start etcd in", On: c.Dir, Err: err}
	}
	select {
	case <-server.Server.ReadyNotify():
		return &etcd{client: v3client.New(server.Server), server: server}, nil
	case err = <-server.Err():
	case <-server.Server.StopNotify():
		err = errors.New("it stopped")
	case <-ctx.Done():
		err = ctx.Err()
	}
	server.Close()
	return nil, &fault.Error{Class: fault.Unavailable, Op: "start etcd in", On: c.Dir, Err: err}
}

// embedded is the configuration of an etcd of one member that nobody dials.
func embedded(c Config) *embed.Config {
	e := embed.NewConfig()
	e.Name = "sampan"
	e.Dir = c.Dir
	// The member needs a name for itself as a URL; nothing listens there.
	self := url.URL{Scheme: "http", Host: "localhost:2380"}
	e.AdvertisePeerUrls = []url.URL{self}
	e.AdvertiseClientUrls = []url.URL{{Scheme: "http", Host: "localhost:2379"}}
	e.InitialCluster = e.Name + "=" + self.String()
	e.ListenPeerUrls, e.ListenClientUrls, e.ListenMetricsUrls = nil, nil, nil
	e.EnableGRPCGateway = false

	// The first election waits for five ticks at least, a long tick is a slow
	// start; a shorter one costs CPU all the time.
	e.TickMs, e.ElectionMs = 100, 500
	e.PreVote = false // a second round that a single member need not have

	// One member has no follower to bring up, so little raft log need be in
	// memory.
	e.SnapshotCount, e.SnapshotCatchUpEntries = 5000, 100
	e.MaxSnapFiles, e.MaxWalFiles = 2, 2
	e.BackendFreelistType = "map"
	e.QuotaBackendBytes = c.Quota
	e.MaxRequestBytes = 2 << 20
	e.MaxTxnOps = 1024

	// Our compactor knows when nothing has changed. The others are for several
	// members, or wake up for nothing.
	e.AutoCompactionRetention = "0"
	e.CorruptCheckTime = 0
	e.CompactHashCheckTime = time.Hour
	e.DowngradeCheckTime = 0
	e.WatchProgressNotifyInterval = time.Hour
	e.WarningUnaryRequestDuration = time.Second
	e.WarningApplyDuration = time.Second

	e.AuthToken = "" // no users: who may write is decided above the store

	e.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapTo(c.Log))
	return e
}

// alone says that nobody but this process writes to etcd, so that the cache
// cannot be behind what an earlier write of ours left.
func (e *etcd) alone() bool { return e.server != nil }

// revision is etcd's current one: at least that of every write acknowledged
// before the call.
func (e *etcd) revision(ctx context.Context) (int64, error) {
	if e.server != nil { // one member applies before it acknowledges
		return e.server.Server.KV().Rev(), nil
	}
	resp, err := e.client.Get(ctx, root, clientv3.WithCountOnly())
	if err != nil {
		return 0, err
	}
	return resp.Header.Revision, nil
}

func (e *etcd) close() {
	if err := e.client.Close(); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, io.EOF) {
		slog.Debug("etcd client closed", "err", err)
	}
	if e.server != nil {
		e.server.Close()
		<-e.server.Server.StopNotify()
	}
}

// Size is how many bytes the embedded etcd's files take; 0 if it is elsewhere.
func (s *Store) Size() (bytes int64) {
	if s.etcd.server == nil {
		return 0
	}
	_ = filepath.WalkDir(s.etcd.server.Config().Dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil { // a file may go while we walk
				bytes += info.Size()
			}
		}
		return nil
	})
	return bytes
}
