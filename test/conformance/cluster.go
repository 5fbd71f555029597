package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// cluster is a Sampan with its own directories, in this process's network
// namespace, and perhaps a second node on a machine beside it.
type cluster struct {
	c            *cache
	dir, reports string
	nodes        []*node
}

// node is one program of the cluster.
type node struct {
	cluster *cluster
	name    string
	host    *host        // nil: in this process's network namespace
	mirror  func() error // ends the registry
}

// program is a copy: that of the cache, or the one given, may change meanwhile.
func (k *cluster) program() string { return filepath.Join(k.dir, "sampan") }

func (k *cluster) kubeconfig() string { return filepath.Join(k.dir, "kubeconfig") }

func (n *node) path(name string) string { return filepath.Join(n.cluster.dir, n.name+"-"+name) }

func (n *node) sampan(ctx context.Context, args ...string) error {
	args = append([]string{"--state", n.path("state"), "--run", n.path("run")}, args...)
	cmd := exec.CommandContext(ctx, n.cluster.program(), args...)
	// Files, not pipes: what is detached would keep a pipe's end open.
	out, err := os.OpenFile(n.path("commands.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := n.host.run(cmd.Run); err != nil {
		text, _ := os.ReadFile(out.Name())
		return fmt.Errorf("sampan %s: %w\n%s", strings.Join(args, " "), err, text)
	}
	return nil
}

// up starts the program and a registry with the images, and loads the images,
// too: most specs pull only what is not there.
func (n *node) up(ctx context.Context, images string, flags ...string) error {
	r, err := openRegistry(images)
	if err != nil {
		return err
	}
	var address string
	err = n.host.run(func() (err error) {
		address, n.mirror, err = r.serve()
		return err
	})
	if err != nil {
		return err
	}
	if err := n.sampan(ctx, append([]string{"up", "--detach", "--registry-mirror", "registry.k8s.io=http://" + address}, flags...)...); err != nil {
		return err
	}
	return n.sampan(ctx, "load", "--quiet", "-i", images)
}

// start brings up as many nodes as asked for, one or two. The first is started
// with flags too.
func (k *cluster) start(ctx context.Context, images string, nodes int, flags ...string) error {
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	var beside *host
	if nodes == 2 {
		h, err := newHost()
		if err != nil {
			return err
		}
		beside = h
		if err := beside.connect(); err != nil {
			return err
		}
	}
	first := &node{cluster: k, name: "first"}
	k.nodes = append(k.nodes, first)
	if err := first.up(ctx, images, append(flags, "--kubeconfig", k.kubeconfig(), "--node-name", first.name)...); err != nil {
		return err
	}
	if beside == nil {
		return nil
	}
	second := &node{cluster: k, name: "second", host: beside}
	k.nodes = append(k.nodes, second)
	join := second.path("join")
	if err := first.sampan(ctx, "node-kubeconfig", second.name, "--out", join); err != nil {
		return err
	}
	return second.up(ctx, images, "--join", join)
}

// remove leaves nothing behind. It runs also after an interrupt.
func (k *cluster) remove(keep bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	var errs []error
	for i := len(k.nodes) - 1; i >= 0; i-- {
		n := k.nodes[i]
		if log, err := os.ReadFile(filepath.Join(n.path("run"), "sampan.log")); err == nil {
			errs = append(errs, os.WriteFile(filepath.Join(k.reports, n.name+".log"), log, 0o644))
		}
		errs = append(errs, n.sampan(ctx, "reset", "--yes"))
		if n.mirror != nil {
			errs = append(errs, n.mirror())
		}
		if n.host != nil {
			errs = append(errs, n.host.close())
		}
	}
	err := errors.Join(errs...)
	if err == nil && !keep {
		err = os.RemoveAll(k.dir)
	}
	return err
}

func copyFile(to, from string, mode os.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
