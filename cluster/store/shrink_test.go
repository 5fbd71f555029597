package store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sampan/cluster/store"
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
		if _, err := s.Update(ctx, cm("a"), set(began.String())); err != nil {
			t.Fatal(err)
		}
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
		if _, err := s.Delete(ctx, cm(fmt.Sprint("big", i)), nil); err != nil {
			t.Fatal(err)
		}
	}
	for size() > most*3/4 { // what is free may stay as long as it is less than what is worth it, also after half of it went
		write()
	}
	t.Logf("from %d to %d bytes; the slowest write took %s", most, size(), slowest)
	if got, ok := s.Get(cm("a")); !ok || got.GetName() != "a" {
		t.Error("the object is gone")
	}
}
