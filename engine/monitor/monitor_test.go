package monitor

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"

	"sampan/engine/monitor/build"
)

func unpack(t *testing.T, b []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestTheMonitorIsBuiltFromThisSource(t *testing.T) {
	// Read here what the build reads, or go test would not know that a cached
	// result is out of date.
	for _, dir := range []string{"cmd", "wire", "../../internal/linux", "../../internal/logfile", "../../internal/durable", "../../internal/fault"} {
		files, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, f := range files {
			_, _ = os.ReadFile(f)
		}
	}
	for _, arch := range build.Architectures() {
		have, err := os.ReadFile("monitor_" + arch + ".gz")
		if err != nil {
			t.Fatal(err)
		}
		want, err := build.Monitor("./cmd", arch)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(unpack(t, have), unpack(t, want)) {
			t.Errorf("monitor_%s.gz is not what its source gives: run go generate ./engine/monitor and commit the result", arch)
		}
	}
}

func TestInstallingTwiceGivesOneFile(t *testing.T) {
	dir := t.TempDir()
	a, err := Install(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Install(dir)
	if err != nil || a != b {
		t.Errorf("the second time: %s, %v; the first: %s", b, err, a)
	}
	if e, _ := os.ReadDir(dir); len(e) != 1 {
		t.Errorf("the directory has %v", e)
	}
}
