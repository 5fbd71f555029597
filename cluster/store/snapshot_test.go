package store_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sampan/cluster/store"
	"sampan/internal/fault"
)

func saved(t *testing.T, s *store.Store) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.Snapshot(ctx, &b); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "snapshot")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestARestoredStoreHasWhatTheSnapshotHadAndItsRevisionsOnlyGrow(t *testing.T) {
	t.Parallel()

	dir := filepath.Join(t.TempDir(), "store")
	s := open(t, dir)
	create(t, s, "a", "1")
	create(t, s, "b", "1")
	file := saved(t, s)
	if info, err := store.ReadSnapshot(file); err != nil || info.Revision != s.Revision() {
		t.Errorf("the snapshot is of %+v, %v; it was taken at %d", info, err, s.Revision())
	}
	if _, err := s.Update(ctx, cm("a"), set("2")); err != nil {
		t.Fatal(err)
	}
	create(t, s, "c", "1")
	before := s.Revision()
	if _, err := store.Restore(store.RestoreConfig{File: file, Dir: dir}); fault.ClassOf(err) != fault.Unavailable {
		t.Errorf("a store that is open was restored: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Restore(store.RestoreConfig{File: file, Dir: dir}); fault.ClassOf(err) != fault.Exists {
		t.Errorf("a store was replaced without force: %v", err)
	}
	aside, err := store.Restore(store.RestoreConfig{File: file, Dir: dir, Force: true})
	if err != nil {
		t.Fatal(err)
	}
	again := open(t, dir)
	same(t, again, map[string]string{"a": "1", "b": "1"})
	if now := again.Revision(); now <= before {
		t.Errorf("the revision is %d after the restore, and was %d", now, before)
	}
	var expired *store.Expired
	if _, err := again.Watch(configMaps, store.WatchOptions{Since: before}); !errors.As(err, &expired) {
		t.Errorf("a watch goes on over a restore: %v", err)
	}
	w := watch(t, again, configMaps, store.WatchOptions{})
	create(t, again, "c", "2")
	if got, want := read(t, w, 1), []string{"added c=2"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	same(t, open(t, aside), map[string]string{"a": "2", "b": "1", "c": "1"})
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	same(t, open(t, dir), map[string]string{"a": "1", "b": "1", "c": "2"})
}

func TestASnapshotIsTakenOfAStoreThatNobodyHasOpen(t *testing.T) {
	t.Parallel()

	dir := filepath.Join(t.TempDir(), "store")
	if err := store.SnapshotOf(ctx, store.Config{Dir: dir}, &bytes.Buffer{}); fault.ClassOf(err) != fault.NotFound {
		t.Errorf("of nothing: %v", err)
	}
	s := open(t, dir)
	create(t, s, "a", "1")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := store.SnapshotOf(ctx, store.Config{Dir: dir}, &b); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "snapshot")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "store")
	if _, err := store.Restore(store.RestoreConfig{File: file, Dir: other}); err != nil {
		t.Fatal(err)
	}
	same(t, open(t, other), map[string]string{"a": "1"})
}

func TestASnapshotThatIsNotWholeIsRefused(t *testing.T) {
	t.Parallel()

	s := open(t, filepath.Join(t.TempDir(), "store"))
	create(t, s, "a", "1")
	good, err := os.ReadFile(saved(t, s))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		it   string
		data []byte
	}{
		{"cut off", good[:len(good)-4096]},
		{"without its hash", good[:len(good)-32]},
		{"with a changed byte", slices.Concat(good[:5000], []byte{good[5000] + 1}, good[5001:])},
		{"empty", nil},
		{"something else", []byte(strings.Repeat("no database ", 2000))},
	} {
		file, dir := filepath.Join(t.TempDir(), "snapshot"), filepath.Join(t.TempDir(), "store")
		if err := os.WriteFile(file, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Restore(store.RestoreConfig{File: file, Dir: dir}); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: got %v, want an error that names the file", c.it, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "member")); err == nil {
			t.Errorf("%s: a store was made of it", c.it)
		}
	}
}
