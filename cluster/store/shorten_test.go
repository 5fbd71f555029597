package store_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	etcdwal "go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.uber.org/zap"

	"sampan/cluster/store"
)

// logged fills a store so that its log is worth to be shortened.
func logged(t *testing.T, s *store.Store, name string) map[string]string {
	t.Helper()
	model := map[string]string{}
	for i := range 6 {
		name := fmt.Sprint(name, i)
		model[name] = strings.Repeat(fmt.Sprint(i), 300_000)
		create(t, s, name, model[name])
	}
	return model
}

// entries is how many entries there are in the log of a store that is closed,
// after the last of its snapshots.
func entries(t *testing.T, dir string) int {
	t.Helper()
	path := filepath.Join(dir, "member", "wal")
	snapshots, err := etcdwal.ValidSnapshotEntries(zap.NewNop(), path)
	if err != nil {
		t.Fatal(err)
	}
	from := &walpb.Snapshot{}
	if len(snapshots) > 0 {
		from = snapshots[len(snapshots)-1]
	}
	w, err := etcdwal.OpenForRead(zap.NewNop(), path, from)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	_, _, all, err := w.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func copied(t *testing.T, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", "--sparse=always", from, to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestAStoreThatIsClosedLeavesNoLogToReadAgain(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	want := map[string]string{}
	for round := range 3 { // the second one's log begins in its middle
		s := open(t, dir)
		for name, value := range logged(t, s, fmt.Sprint("round", round, "-")) {
			want[name] = value
		}
		same(t, s, want)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if n := entries(t, dir); n != 0 {
			t.Errorf("round %d: the log has %d entries that are in the database", round, n)
		}
		if snapshots, _ := filepath.Glob(filepath.Join(dir, "member", "snap", "*.snap")); len(snapshots) != 1 {
			t.Errorf("round %d: %q, want one snapshot of the log", round, snapshots)
		}
	}
	s := open(t, dir)
	same(t, s, want)
	if s.Revision() != 19 {
		t.Errorf("the revision is %d, want that of 18 writes", s.Revision())
	}
}

func TestAStoreStartsWhereverShorteningItsLogWasCutOff(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	s := open(t, dir)
	want := logged(t, s, "a")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	member := filepath.Join(dir, "member")
	for _, c := range []struct {
		it string
		as string
	}{
		{"while the new log was made", "wal.new.tmp"},
		{"beside the old log", "wal.new"},
	} {
		copied(t, filepath.Join(member, "wal"), filepath.Join(member, c.as))
		s := open(t, dir)
		same(t, s, want)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if left, _ := filepath.Glob(filepath.Join(member, "wal.new*")); len(left) > 0 {
			t.Errorf("cut off %s: %q is left", c.it, left)
		}
	}
}

func TestALogIsReadAgainAfterAKillThatFollowsAShortening(t *testing.T) {
	t.Parallel()

	dir := filepath.Join(t.TempDir(), "store")
	s := open(t, dir)
	want := logged(t, s, "a")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	create(t, s, "b", "1")
	want["b"] = "1"
	left := dir + ".left" // a copy of the files at this moment is what a kill leaves
	copied(t, dir, left)
	same(t, open(t, left), want)
}

func TestAStartThatIsGivenUpLosesNothingOfTheLog(t *testing.T) {
	t.Parallel()

	dir := filepath.Join(t.TempDir(), "store")
	s := open(t, dir)
	want := logged(t, s, "a")
	left := dir + ".left"
	copied(t, dir, left)
	soon, stop := context.WithCancel(ctx)
	stop()
	for range 3 {
		s, err := store.Open(soon, store.Config{Dir: left, Kinds: table(), Codec: jsonCodec{}})
		if err == nil {
			_ = s.Close()
			t.Fatal("it started although nobody waits for it")
		}
	}
	same(t, open(t, left), want)
}
