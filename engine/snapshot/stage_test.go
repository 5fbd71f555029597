package snapshot_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"testing"

	"sampan/engine/snapshot"
	"sampan/engine/snapshot/snapshottest"
)

func FuzzStage(f *testing.F) {
	f.Add(snapshottest.Tar(f, snapshottest.Entry{Name: "a/"}, snapshottest.Entry{Name: "a/.wh.b"}, snapshottest.Entry{Name: "a/b/c", Content: "x"}))
	f.Add(snapshottest.Tar(f, snapshottest.Entry{Name: "l", Type: '2', Link: "/etc"}, snapshottest.Entry{Name: "l/x", Content: "x"}, snapshottest.Entry{Name: "l", Content: "y"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := snapshot.NewOverlay(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		st, err := d.Stage(t.Context(), bytes.NewReader(data))
		if err != nil {
			return
		}
		l, err := st.Commit(t.Context(), "")
		if err != nil {
			return
		}
		// What was taken in comes back as it was.
		r, err := d.Tar(t.Context(), l.Chain)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes back of %d: %v", len(got), len(data), err)
		}
	})
}

func BenchmarkStageManySmallFiles(b *testing.B) {
	var es []snapshottest.Entry
	for i := range 2000 {
		es = append(es, snapshottest.Entry{Name: fmt.Sprintf("d%03d/f%d", i/40, i), Content: "content of a small file"})
	}
	data := snapshottest.Tar(b, es...)
	d, err := snapshot.NewOverlay(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		st, err := d.Stage(b.Context(), bytes.NewReader(data))
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		st.Discard()
		b.StartTimer()
	}
}

func BenchmarkPrepareMountRemove(b *testing.B) {
	d, err := snapshot.NewOverlay(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	chain := snapshottest.Chain(b, d, snapshottest.Tar(b, snapshottest.Entry{Name: "a"}), snapshottest.Tar(b, snapshottest.Entry{Name: "b"}), snapshottest.Tar(b, snapshottest.Entry{Name: "c"}))
	root, err := os.MkdirTemp(b.TempDir(), "root")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := d.Prepare(b.Context(), "s", chain); err != nil {
			b.Fatal(err)
		}
		if err := d.Mount(b.Context(), "s", root, snapshot.MountOptions{Volatile: true}); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		d.Unmount(b.Context(), root)
		d.Remove(b.Context(), "s")
		b.StartTimer()
	}
}
