package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// binaries are what is compared, and upstream's store.
type binaries struct{ sampan, apiserver, etcd string }

const kubernetesVersion = "v1.37.1"

// build makes what is not there yet. Upstream's programs are those of
// test/bench, from that module's versions and in its cache.
func build(sampan string) (b binaries, err error) {
	here, err := os.Getwd()
	if err != nil {
		return b, err
	}
	if _, err := os.Stat(filepath.Join(here, "known.yaml")); err != nil {
		return b, fmt.Errorf("run this in test/differ: %w", err)
	}
	root := filepath.Join(here, "..", "..")
	bench := filepath.Join(root, "test", "bench")
	cache := filepath.Join(root, ".cache", "bench", "bin")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return b, err
	}
	const v = "k8s.io/component-base/version."
	flags := "-s -w -X " + v + "gitVersion=" + kubernetesVersion + " -X " + v + "gitMajor=1 -X " + v + "gitMinor=37"
	b = binaries{sampan: sampan, apiserver: filepath.Join(cache, "kube-apiserver"), etcd: filepath.Join(cache, "etcd")}
	for path, pkg := range map[string]string{b.apiserver: "k8s.io/kubernetes/cmd/kube-apiserver", b.etcd: "go.etcd.io/etcd/server/v3"} {
		if newer(path, filepath.Join(bench, "go.sum")) {
			continue
		}
		fmt.Fprintln(os.Stderr, "building", pkg)
		err = errors.Join(err, goBuild(bench, "-trimpath", "-ldflags", flags, "-o", path, pkg))
	}
	if sampan == "" {
		b.sampan = filepath.Join(root, ".cache", "differ", "sampan")
		err = errors.Join(err, goBuild(root, "-o", b.sampan, "./cmd/sampan"))
	}
	return b, err
}

// newer says whether a is there and not older than b.
func newer(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err != nil || !x.ModTime().Before(y.ModTime())
}

func goBuild(dir string, args ...string) error {
	cmd := exec.Command("go", append([]string{"build"}, args...)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
