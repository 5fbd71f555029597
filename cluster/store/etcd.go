package store

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"

	"sampan/internal/durable"
	"sampan/internal/fault"
)

// etcd is where the store's bytes are: in this process, or elsewhere.
type etcd struct {
	client *clientv3.Client
	server *embed.Etcd   // nil: elsewhere
	lock   *durable.Lock // of the directory; nil: elsewhere
	ended  *ending       // of the server; nil: elsewhere
	whole  atomic.Bool   // all that the server's log had when it started is applied
	root   root          // of our keys
	log    *slog.Logger
}

// openEtcd starts etcd or connects to it. Reads that need no leader work from
// then on, all else when ready returns.
func openEtcd(c Config) (*etcd, error) {
	if len(c.Endpoints) > 0 {
		client, err := clientv3.New(clientv3.Config{
			Endpoints: c.Endpoints, TLS: c.TLS, Logger: zapTo(c.Log, nil),
			DialKeepAliveTime: 30 * time.Second, DialKeepAliveTimeout: 10 * time.Second,
		})
		if err != nil {
			return nil, unavailable("connect to etcd at", c.Endpoints[0], err)
		}
		return &etcd{client: client, root: rootOf(c.Prefix), log: c.Log}, nil
	}
	if err := errors.Join(os.MkdirAll(c.Dir, 0o700), os.Chmod(c.Dir, 0o700)); err != nil {
		return nil, broken(c.Dir, err)
	}
	// etcd itself would wait for the other process, without a word.
	lock, ok, err := durable.TryExclusive(filepath.Join(c.Dir, "lock"))
	if err != nil {
		return nil, broken(c.Dir, err)
	}
	if !ok {
		return nil, &fault.Error{Class: fault.Unavailable, Op: "open store", On: c.Dir,
			Err: errors.New("another process has it open"), Fix: "stop that process, or use another directory"}
	}
	e := &etcd{lock: lock, root: rootOf(c.Prefix), log: c.Log, ended: newEnding(c.Dir)}
	leftOvers(c.Dir)
	if err = sound(c.Dir); err == nil {
		err = e.ended.try(func() (err error) {
			e.server, err = embed.StartEtcd(embedded(c, e.ended))
			return err
		})
	}
	if err != nil {
		lock.Unlock()
		var f *fault.Error
		if !errors.As(err, &f) {
			err = broken(c.Dir, err)
		}
		return nil, err
	}
	e.client = v3client.New(e.server.Server)
	return e, nil
}

// ready waits until there is a leader and all that was committed is applied.
func (e *etcd) ready(ctx context.Context) error {
	if e.server == nil {
		return nil
	}
	e.elect(ctx)
	var err error
	select {
	case <-e.server.Server.ReadyNotify():
		e.whole.Store(true)
		return nil
	case <-e.ended.done:
		return e.ended.reason()
	case err = <-e.server.Err():
	case <-e.server.Server.StopNotify():
		err = errors.New("it stopped")
	case <-ctx.Done():
		err = ctx.Err()
	}
	return &fault.Error{Class: fault.Unavailable, Op: "start etcd in", On: e.server.Config().Dir, Err: err}
}

// embedded is the configuration of an etcd of one member that nobody dials.
func embedded(c Config, ended *ending) *embed.Config {
	e := embed.NewConfig()
	e.Name = "sampan"
	e.Dir = c.Dir
	// The member needs a name for itself as a URL; nothing listens there.
	self := url.URL{Scheme: "http", Host: "localhost:2380"}
	e.AdvertisePeerUrls = []url.URL{self}
	e.AdvertiseClientUrls = []url.URL{{Scheme: "http", Host: "localhost:2379"}}
	e.InitialCluster = e.Name + "=" + self.String()
	// The member's number follows from this: another one in each directory, so
	// that several in one process can be told apart (see caughtUp).
	e.InitialClusterToken = c.Dir
	e.ListenPeerUrls, e.ListenClientUrls, e.ListenMetricsUrls = nil, nil, nil
	e.EnableGRPCGateway = false

	// Nobody listens for this member's heartbeat, and elect does not wait for
	// the clock: a tick is only CPU. Leases of etcd last 7.5 ticks at least.
	e.TickMs, e.ElectionMs = 500, 2500
	e.PreVote = false // a second round that a single member need not have

	// One member has no follower to bring up, so little raft log need be in
	// memory.
	e.SnapshotCount, e.SnapshotCatchUpEntries = 5000, 100
	e.MaxSnapFiles, e.MaxWalFiles = 2, 2
	e.BackendFreelistType = "map"
	// What is acknowledged is in the log; its way into the database may wait,
	// and looking ten times a second whether there is any costs CPU at idle.
	e.BackendBatchInterval = time.Second
	e.QuotaBackendBytes = c.Quota
	e.MaxRequestBytes = 1536 << 10 // etcd's default, with which upstream's limit of 1.5 MB for an object comes about
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

	e.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapTo(c.Log, ended))
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
	resp, err := e.client.Get(ctx, string(e.root), clientv3.WithCountOnly())
	if err != nil {
		return 0, err
	}
	return resp.Header.Revision, nil
}

// getAt reads as of a revision that the watch has told of. The watch tells a
// moment before it can be read, from within the transaction (etcd's
// watchableStore): then it is asked for again.
func (e *etcd) getAt(ctx context.Context, key string, revision int64, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	opts = append(opts, clientv3.WithRev(revision))
	for try := 0; ; try++ {
		resp, err := e.client.Get(ctx, key, opts...)
		if !errors.Is(err, rpctypes.ErrFutureRev) || try == futureTries {
			return resp, err
		}
		timer := time.NewTimer(futurePause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, ctx.Err()
		}
	}
}

// How often and how long a read waits for a revision: a second in all, for
// what takes microseconds.
const (
	futureTries = 1000
	futurePause = time.Millisecond
)

// compacted says from which revision on there is history.
func (e *etcd) compacted(ctx context.Context) (int64, error) {
	if e.server != nil {
		return max(1, e.server.Server.KV().FirstRev()), nil
	}
	_, err := e.client.Get(ctx, string(e.root), clientv3.WithRev(1))
	if !errors.Is(err, rpctypes.ErrCompacted) {
		return 1, err
	}
	// Only the refusal of a watch tells how far.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for resp := range e.client.Watch(ctx, string(e.root), clientv3.WithRev(1)) {
		if resp.CompactRevision != 0 {
			return resp.CompactRevision, nil
		}
		if err := resp.Err(); err != nil {
			return 0, err
		}
	}
	return 0, context.Cause(ctx)
}

// release makes the process small again after everything was read.
func (e *etcd) release() {
	if e.server == nil {
		return
	}
	dir := e.server.Config().Dir
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	release(filepath.Join(dir, "member", "snap", "db"))
}

func (e *etcd) close() {
	if err := e.client.Close(); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, io.EOF) {
		e.log.Debug("etcd client closed", "err", err)
	}
	if e.server == nil {
		return
	}
	defer e.lock.Unlock()
	e.settle(func() {
		of := e.identity()
		_ = e.ended.try(func() error { // it may find itself broken only now
			e.server.Close()
			<-e.server.Server.StopNotify()
			return nil
		})
		if e.ended.reason() == nil {
			closedWell(e.server.Config().Dir)
			e.shorten(of)
		}
	})
}

// unlessEnded runs f and waits for it. When etcd ends, which leaves locks that
// f may wait for for ever, that is the error, and f is left alone.
func (e *etcd) unlessEnded(f func() error) error {
	if e.ended == nil {
		return f()
	}
	result := make(chan error, 1)
	go func() { result <- f() }()
	select {
	case err := <-result:
		return err
	case <-e.ended.done:
		return e.ended.reason()
	}
}

// settle runs f, which lets go of etcd, and waits for it: when etcd has ended
// not for ever, since what is broken may hold what f waits for.
func (e *etcd) settle(f func()) {
	if e.ended == nil {
		f()
		return
	}
	settled := make(chan struct{})
	go func() {
		defer close(settled)
		f()
	}()
	select {
	case <-settled:
		return
	case <-e.ended.done:
	}
	select {
	case <-settled:
	case <-time.After(closeWithin):
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
