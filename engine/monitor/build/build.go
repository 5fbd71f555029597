// Package build makes the monitor's binaries in a way that gives the same bytes
// everywhere: the generator writes them, a test makes them again and compares.
// Nothing of it is linked into the program.
package build

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Architectures are those that the program is made for.
func Architectures() []string { return []string{"amd64", "arm64"} }

// Monitor builds the command in dir for one architecture and compresses it.
// What the result depends on is pinned: the toolchain by go.mod, paths by
// -trimpath, everything else here.
func Monitor(dir, arch string) ([]byte, error) {
	tmp, err := os.MkdirTemp("", "monitor-build-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	bin := filepath.Join(tmp, "monitor")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", bin, ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=", "GOEXPERIMENT=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build monitor for %s: %w\n%s", arch, err, out)
	}
	content, err := os.ReadFile(bin)
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(content); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return packed.Bytes(), nil
}
