package store

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/server/v3/etcdserver"
	"go.etcd.io/etcd/server/v3/etcdserver/api/membership"
	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"sampan/internal/durable"
	"sampan/internal/linux"
)

// logWorth is how many bytes of log are worth to be shortened.
const logWorth = 1 << 20

// identity is what a log has in it of the member that writes it.
type identity struct {
	node, cluster uint64
	members       []byte // as etcd before 3.7 reads them of a snapshot's file
}

// identity has to be asked for while etcd runs.
func (e *etcd) identity() identity {
	s := e.server.Server
	cluster, ok := s.Cluster().(*membership.RaftCluster)
	if !ok {
		return identity{}
	}
	return identity{node: uint64(s.MemberID()), cluster: uint64(cluster.ID()),
		members: etcdserver.GetMembershipInfoInV2Format(zapTo(e.log, nil), cluster)}
}

// shorten gives an etcd that was closed well a log that begins where its
// database is. All that is in the old one has reached the database by then,
// and yet the next start would read it from its beginning, up to two files of
// 64 MB, which takes longer than the objects. (Of an etcd whose start was given
// up it need not have: its log stays.) A crash leaves the old log or
// the new one in its place; what is left beside it goes at the next start.
func (e *etcd) shorten(of identity) {
	dir := e.server.Config().Dir
	if of.node == 0 || !e.whole.Load() || logBytes(logDir(dir)) < logWorth {
		return
	}
	began := time.Now()
	failed := newEnding(dir) // the old log is as good
	err := failed.try(func() error { return newLog(dir, of, failed) })
	if err != nil {
		e.log.Warn("the store's log was not shortened; the next start reads all of it", "dir", dir, "err", err)
	} else {
		e.log.Debug("the store's log was shortened", "took", time.Since(began).Round(time.Millisecond))
	}
	leftOvers(dir)
}

func newLog(dir string, of identity, failed *ending) error {
	index, term, err := reached(databasePath(dir))
	if err != nil {
		return err
	}
	zap := zapTo(slog.New(slog.DiscardHandler), failed)
	voters := &raftpb.ConfState{Voters: []uint64{of.node}}
	metadata, err := proto.Marshal(&etcdserverpb.Metadata{NodeID: &of.node, ClusterID: &of.cluster})
	if err != nil {
		return err
	}
	leftOvers(dir)
	fresh := newLogDir(dir)
	w, err := wal.Create(zap, fresh, metadata)
	if err != nil {
		return err
	}
	err = errors.Join(
		w.SaveSnapshot(&walpb.Snapshot{Index: &index, Term: &term, ConfState: voters}),
		w.Save(&raftpb.HardState{Term: &term, Vote: &of.node, Commit: &index}, nil),
		w.Sync(), w.Close())
	if err != nil {
		return err
	}
	old, _ := filepath.Glob(filepath.Join(filepath.Dir(databasePath(dir)), "*.snap"))
	// etcd 3.7 does not read it, those before and etcdutl do.
	err = snap.New(zap, filepath.Dir(databasePath(dir))).SaveSnap(&raftpb.Snapshot{Data: of.members,
		Metadata: &raftpb.SnapshotMetadata{Index: &index, Term: &term, ConfState: voters}})
	if err != nil {
		return err
	}
	if err := linux.Exchange(fresh, logDir(dir)); err != nil {
		return err
	}
	if err := durable.SyncDir(filepath.Dir(fresh)); err != nil {
		return err
	}
	for _, file := range old { // they are of indexes that the log has no more
		_ = os.Remove(file)
	}
	return nil
}

// reached is how far etcd's log has come into its database, which nobody has
// open.
func reached(database string) (index, term uint64, err error) {
	db, err := bbolt.Open(database, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return 0, 0, err
	}
	defer db.Close()
	err = db.View(func(tx *bbolt.Tx) error {
		meta := tx.Bucket([]byte("meta"))
		if meta == nil {
			return errors.New("the database says nothing of the log")
		}
		at, in := meta.Get([]byte("consistent_index")), meta.Get([]byte("term"))
		if len(at) != 8 || len(in) != 8 {
			return errors.New("the database does not say how far the log has come into it")
		}
		index, term = binary.BigEndian.Uint64(at), binary.BigEndian.Uint64(in)
		return nil
	})
	return index, term, err
}

func logDir(dir string) string    { return filepath.Join(dir, "member", "wal") }
func newLogDir(dir string) string { return filepath.Join(dir, "member", "wal.new") }

// leftOvers removes the log that is not in its place: one begun, or one that
// was replaced.
func leftOvers(dir string) {
	for _, path := range []string{newLogDir(dir), newLogDir(dir) + ".tmp"} {
		_ = os.RemoveAll(path)
	}
}

// logBytes is how much has been written to a log. Its files are larger: etcd
// takes their room beforehand.
func logBytes(dir string) (bytes int64) {
	const hole = 4 // SEEK_HOLE of lseek(2)
	files, _ := filepath.Glob(filepath.Join(dir, "*.wal"))
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		if end, err := f.Seek(0, hole); err == nil {
			bytes += end
		}
		_ = f.Close()
	}
	return bytes
}
