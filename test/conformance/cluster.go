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

	"golang.org/x/sys/unix"
)

// cluster is one Sampan with its own directories, in this process's network
// namespace.
type cluster struct {
	c            *cache
	dir, reports string
	mirror       func() error // ends the registry
}

// program is a copy: that of the cache, or the one given, may change meanwhile.
func (k *cluster) program() string { return filepath.Join(k.dir, "sampan") }

func (k *cluster) kubeconfig() string { return filepath.Join(k.dir, "kubeconfig") }

func (k *cluster) sampan(ctx context.Context, args ...string) error {
	args = append([]string{"--state", filepath.Join(k.dir, "state"), "--run", filepath.Join(k.dir, "run")}, args...)
	cmd := exec.CommandContext(ctx, k.program(), args...)
	// Files, not pipes: what is detached would keep a pipe's end open.
	out, err := os.OpenFile(filepath.Join(k.dir, "commands.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		text, _ := os.ReadFile(out.Name())
		return fmt.Errorf("sampan %s: %w\n%s", strings.Join(args, " "), err, text)
	}
	return nil
}

// start brings lo up, a registry with the images, and the platform, with the
// images loaded, too: most specs pull only what is not there.
func (k *cluster) start(ctx context.Context, images string) error {
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	r, err := openRegistry(images)
	if err != nil {
		return err
	}
	address, stop, err := r.serve()
	if err != nil {
		return err
	}
	k.mirror = stop
	if err := k.sampan(ctx, "up", "--detach", "--kubeconfig", k.kubeconfig(), "--registry-mirror", "registry.k8s.io=http://"+address); err != nil {
		return err
	}
	return k.sampan(ctx, "load", "--quiet", "-i", images)
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

// remove leaves nothing behind. It runs also after an interrupt.
func (k *cluster) remove(keep bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if log, err := os.ReadFile(filepath.Join(k.dir, "run", "sampan.log")); err == nil {
		if err := os.WriteFile(filepath.Join(k.reports, "sampan.log"), log, 0o644); err != nil {
			return err
		}
	}
	err := k.sampan(ctx, "reset", "--yes")
	if k.mirror != nil {
		err = errors.Join(err, k.mirror())
	}
	if err == nil && !keep {
		err = os.RemoveAll(k.dir)
	}
	return err
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}
