package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// cache keeps what is built between runs, in .cache/bench of the repository.
type cache struct{ source, dir string }

func newCache() (cache, error) {
	source, err := os.Getwd()
	if err != nil {
		return cache{}, err
	}
	if _, err := os.Stat(filepath.Join(source, "nest.go")); err != nil {
		return cache{}, fmt.Errorf("run this in test/bench: %w", err)
	}
	return cache{source: source, dir: filepath.Join(source, "..", "..", ".cache", "bench")}, nil
}

func (c cache) bin(name string) string { return filepath.Join(c.dir, "bin", name) }
func (c cache) debian() string         { return filepath.Join(c.dir, "root") }

const kubernetesVersion = "v1.37.1"

// built are the programs that are built from modules. Those of upstream take
// most of half an hour on two cores when nothing is in Go's cache.
func built() map[string]string {
	const upstream = "k8s.io/kubernetes/cmd/"
	all := map[string]string{"etcd": "go.etcd.io/etcd/server/v3"}
	for _, name := range []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"} {
		all[name] = upstream + name
	}
	return all
}

// packages are the peers from Debian, with the libraries that they need and a
// slim Debian has not. They are unpacked into a directory, not installed: the
// machine stays as it is.
func packages() []string {
	return []string{"runc", "crun", "containerd", "docker.io", "podman", "conmon", "containernetworking-plugins",
		"golang-github-containers-common", "golang-github-containers-image", "iptables", "tini",
		"libgpgme11", "libip6tc2", "libnetfilter-conntrack3", "libnfnetlink0", "libsubid4", "libyajl2"}
}

// links are what the script of the package iptables would make.
func links() []string {
	return []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"}
}

// fill builds and downloads what is not there yet. A peer that cannot be had
// is no error here: its rows say that it is missing.
func (c cache) fill() error {
	if err := os.MkdirAll(filepath.Join(c.dir, "bin"), 0o755); err != nil {
		return err
	}
	// Small and ours: built each time, Go knows what has changed.
	root := filepath.Join(c.source, "..", "..")
	if err := errors.Join(
		c.run(c.source, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", c.bin("guest"), "./guest"),
		c.run(root, "go", "test", "-c", "-vet=off", "-o", c.bin("runtime.test"), "./engine/runtime"),
	); err != nil {
		return err
	}
	want, err := c.inputs()
	if err != nil {
		return err
	}
	stamp := filepath.Join(c.dir, "stamp")
	if is, err := os.ReadFile(stamp); err == nil && string(is) == want {
		return nil
	}
	fmt.Fprintln(os.Stderr, "building and downloading the peers: up to half an hour on two cores, once")
	missing := c.download()
	const v = "k8s.io/component-base/version."
	flags := "-s -w -X " + v + "gitVersion=" + kubernetesVersion + " -X " + v + "gitMajor=1 -X " + v + "gitMinor=37"
	for name, pkg := range built() {
		missing = errors.Join(missing, c.run(c.source, "go", "build", "-trimpath", "-ldflags", flags, "-o", c.bin(name), pkg))
	}
	if missing != nil {
		fmt.Fprintf(os.Stderr, "bench: not all peers are there: %v\n", missing)
		return nil // no stamp: the next run tries again
	}
	return os.WriteFile(stamp, []byte(want), 0o644)
}

// inputs says what the peers are made from.
func (c cache) inputs() (string, error) {
	sum := sha256.New()
	fmt.Fprintln(sum, built(), packages(), links())
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(c.source, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(sum, "%s %d\n%s", name, len(data), data)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// download fetches Debian's packages and unpacks them.
func (c cache) download() error {
	debs := filepath.Join(c.dir, "debs")
	if err := os.MkdirAll(debs, 0o755); err != nil {
		return err
	}
	files, _ := filepath.Glob(filepath.Join(debs, "*.deb"))
	if len(files) < len(packages()) {
		args := append([]string{"apt-get", "-q", "-o", "APT::Sandbox::User=root", "download"}, packages()...)
		if err := c.run(debs, args...); err != nil {
			if err := errors.Join(c.run(debs, "apt-get", "-q", "update"), c.run(debs, args...)); err != nil {
				return err
			}
		}
		files, _ = filepath.Glob(filepath.Join(debs, "*.deb"))
	}
	if err := os.RemoveAll(c.debian()); err != nil {
		return err
	}
	for _, f := range files {
		if err := c.run(debs, "dpkg-deb", "-x", f, c.debian()); err != nil {
			return err
		}
	}
	for _, name := range links() {
		if err := os.Symlink("xtables-nft-multi", filepath.Join(c.debian(), "usr/sbin", name)); err != nil {
			return err
		}
	}
	return nil
}

func (c cache) run(dir string, args ...string) error {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
