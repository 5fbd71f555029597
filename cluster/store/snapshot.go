package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	etcdutl "go.etcd.io/etcd/etcdutl/v3/snapshot"

	"sampan/internal/durable"
	"sampan/internal/fault"
)

// Snapshot writes the whole store as it is now, while it runs, as etcd's own
// snapshots are: the database's file, then the SHA-256 of it. etcdutl reads
// it. What comes after an error is not to be used.
func (s *Store) Snapshot(ctx context.Context, w io.Writer) error { return s.etcd.snapshot(ctx, w) }

// SnapshotOf is Snapshot of the store in a directory that no process has open.
// Of c, Dir and Log are used.
func SnapshotOf(ctx context.Context, c Config, w io.Writer) error {
	if _, err := os.Stat(databasePath(c.Dir)); err != nil {
		return &fault.Error{Class: fault.NotFound, Op: "take snapshot of", On: c.Dir, Err: errors.New("there is no store")}
	}
	c = c.withDefaults()
	e, err := openEtcd(c)
	if err != nil {
		return err
	}
	defer e.close()
	if err := e.ready(ctx); err != nil {
		return err
	}
	return e.snapshot(ctx, w)
}

func (e *etcd) snapshot(ctx context.Context, w io.Writer) error {
	r, err := e.client.Snapshot(ctx)
	if err == nil {
		_, err = io.Copy(w, r)
		err = errors.Join(err, r.Close())
	}
	if err != nil {
		return unavailable("take snapshot of", "etcd", err)
	}
	return nil
}

// SnapshotInfo says what is in a snapshot's file.
type SnapshotInfo struct {
	Revision int64
	Keys     int // of all revisions that are in it
	Bytes    int64
}

// ReadSnapshot looks into a snapshot, and checks it as far as its hash and the
// database's structure can tell.
func ReadSnapshot(file string) (info SnapshotInfo, err error) {
	defer func() {
		if r := recover(); r != nil { // a damaged database
			err = fmt.Errorf("%v", r)
		}
		if err != nil {
			err = &fault.Error{Class: fault.Invalid, Op: "read snapshot", On: file, Err: err}
		}
	}()
	e := newEnding(file)
	err = e.try(func() error {
		s, err := etcdutl.NewV3(zapTo(slog.New(slog.DiscardHandler), e)).Status(file)
		info = SnapshotInfo{Revision: s.Revision, Keys: s.TotalKey, Bytes: s.TotalSize}
		return err
	})
	var f *fault.Error
	if errors.As(err, &f) {
		err = f.Err // what helps a store does not help a snapshot
	}
	return info, err
}

// RestoreConfig says which snapshot to go back to, and where.
type RestoreConfig struct {
	File string // a snapshot of ours or of etcd's
	Dir  string // of the store; see Config.Dir

	// Force moves a store that is there aside. Without it that is an error.
	Force bool

	// SkipHashCheck takes a file without a hash behind it: a database that was
	// copied out of a data directory.
	SkipHashCheck bool

	// Bump is how far the revision goes on from the snapshot's: more than there
	// were writes since, so that no client sees one twice with another content.
	// Default 1,000,000,000, as etcd's documentation has it for Kubernetes.
	Bump int64
}

// Restore makes a store of a snapshot. All history before it counts as
// compacted, so that watches are begun anew. It returns where the store that
// was there is now, if there was one.
func Restore(c RestoreConfig) (aside string, err error) {
	fail := func(class fault.Class, err error, fix string) error {
		return &fault.Error{Class: class, Op: "restore snapshot", On: c.File, Err: err, Fix: fix}
	}
	if c.Bump == 0 {
		c.Bump = 1_000_000_000
	}
	if c.Bump < 0 {
		return "", fail(fault.Invalid, fmt.Errorf("a revision cannot go back by %d", -c.Bump), "")
	}
	if c.SkipHashCheck {
		_, err = os.Stat(c.File)
	} else {
		_, err = ReadSnapshot(c.File)
	}
	if err != nil {
		return "", err
	}
	has, unlock, err := seize(c.Dir)
	if err != nil {
		return "", err
	}
	defer unlock()
	if has && !c.Force {
		return "", fail(fault.Exists, fmt.Errorf("there is a store in %s", c.Dir), "keep it under another name and restore with --force")
	}
	fresh := c.Dir + ".restoring"
	if err := os.RemoveAll(fresh); err != nil {
		return "", fail(0, err, "")
	}
	defer os.RemoveAll(fresh) // after an error; else it is not there any more
	if err := unpack(c, fresh); err != nil {
		return "", fail(fault.Invalid, err, "")
	}
	if has {
		aside = c.Dir + ".old-" + time.Now().UTC().Format("20060102T150405")
		if err := os.Rename(c.Dir, aside); err != nil {
			return "", fail(0, err, "")
		}
	} else if err := os.RemoveAll(c.Dir); err != nil { // it has at most its lock
		return "", fail(0, err, "")
	}
	if err := os.Rename(fresh, c.Dir); err != nil {
		return aside, fail(0, err, "")
	}
	if err := durable.SyncDir(filepath.Dir(c.Dir)); err != nil {
		return aside, fail(0, err, "")
	}
	return aside, nil
}

// seize makes sure that nobody uses the store in dir, and says whether there is
// one.
func seize(dir string) (has bool, unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return false, nil, &fault.Error{Op: "make directory", On: filepath.Dir(dir), Err: err}
	}
	lock, ok, err := durable.TryExclusive(filepath.Join(dir, "lock"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, func() {}, nil
	case err != nil:
		return false, nil, err
	case !ok:
		return false, nil, &fault.Error{Class: fault.Unavailable, Op: "restore into", On: dir,
			Err: errors.New("another process has it open"), Fix: "stop it with: sampan down"}
	}
	_, err = os.Stat(filepath.Join(dir, "member"))
	return err == nil, func() { lock.Unlock() }, nil
}

// unpack makes a data directory of a snapshot, of the one member that the
// embedded etcd is.
func unpack(c RestoreConfig, dir string) error {
	as := embedded(Config{Dir: dir, Log: slog.New(slog.DiscardHandler)}.withDefaults(), newEnding(dir))
	e := newEnding(c.File)
	err := e.try(func() error {
		return etcdutl.NewV3(zapTo(slog.New(slog.DiscardHandler), e)).Restore(etcdutl.RestoreConfig{
			SnapshotPath: c.File, Name: as.Name, OutputDataDir: dir,
			PeerURLs: []string{as.AdvertisePeerUrls[0].String()}, InitialCluster: as.InitialCluster, InitialClusterToken: as.InitialClusterToken,
			SkipHashCheck: c.SkipHashCheck, RevisionBump: uint64(c.Bump), MarkCompacted: true,
		})
	})
	var f *fault.Error
	if errors.As(err, &f) {
		err = f.Err
	}
	return err
}
