package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sampan/cluster/store"
	"sampan/internal/fault"
)

// TestTheDatabaseShrinksByItselfWhileItIsUsed fills the store, empties it, and
// waits until the compaction has made its file small again; writes go on.
func TestTheDatabaseShrinksByItselfWhileItIsUsed(t *testing.T) {
	t.Parallel()

	dir := filepath.Join(t.TempDir(), "store")
	s := open(t, dir, func(c *store.Config) { c.CompactEvery, c.CheckShared = 200*time.Millisecond, false })
	size := func() int64 {
		info, err := os.Stat(database(dir))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	value := strings.Repeat("x", 1_000_000)
	create(t, s, "a", "")
	for i := range 70 {
		create(t, s, fmt.Sprint("big", i), value)
	}
	var slowest time.Duration
	end := time.Now().Add(8 * time.Minute)
	write := func() {
		began := time.Now()
		patiently(t, end, func() error {
			_, err := s.Update(ctx, cm("a"), set(began.String()))
			return err
		})
		slowest = max(slowest, time.Since(began))
		if time.Now().After(end) {
			t.Fatalf("the file has %d bytes", size())
		}
	}
	for size() < 70_000_000 { // what was written comes into the file later
		write()
	}
	most := size()
	for i := range 70 {
		patiently(t, end, func() error {
			_, err := s.Delete(ctx, cm(fmt.Sprint("big", i)), nil)
			if fault.ClassOf(err) == fault.NotFound { // the last try was done after all
				return nil
			}
			return err
		})
	}
	for size() > most*3/4 { // what is free may stay as long as it is less than what is worth it, also after half of it went
		write()
	}
	t.Logf("from %d to %d bytes; the slowest write took %s", most, size(), slowest)
	if got, ok := s.Get(cm("a")); !ok || got.GetName() != "a" {
		t.Error("the object is gone")
	}
}

// patiently repeats what etcd has no time for while it writes its file anew, on
// a disk that others use too.
func patiently(t *testing.T, end time.Time, do func() error) {
	t.Helper()
	for {
		err := do()
		if err == nil {
			return
		}
		if fault.ClassOf(err) != fault.Unavailable || time.Now().After(end) {
			t.Fatal(err)
		}
	}
}
