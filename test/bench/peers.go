package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// engines are all container engines of one run, ready to take commands.
type engines struct {
	*bench
	ours         *platform
	noDocker     error // why docker is not there, or nil
	noPodman     error
	containerd   *containerd
	dockerd      *daemon
	bundles      int
	cgroupParent string
	crunPlace    *place // where crun works, and podman, which uses it
}

// openEngines starts the daemons, and gives everyone the guest's image.
func (b *bench) openEngines(ctx context.Context) (*engines, error) {
	e := &engines{bench: b, ours: b.platform(), cgroupParent: "/" + groups}
	image, err := b.guestArchive()
	if err != nil {
		return nil, err
	}
	if e.crunPlace, err = newPlace(withoutHybrid); err != nil {
		return nil, err
	}
	if err := e.ours.up(ctx); err != nil {
		return nil, err
	}
	if _, err := e.ours.call(ctx, "load", "-q", "-i", image); err != nil {
		return nil, errors.Join(err, e.close())
	}
	if e.noDocker = e.startDocker(ctx); e.noDocker == nil {
		_, e.noDocker = e.docker(ctx, "load", "-q", "-i", image)
	}
	_, e.noPodman = e.podman(ctx, "load", "-q", "-i", image)
	return e, nil
}

const guestImage = "bench/guest:1"

func (e *engines) path(name string) string { return filepath.Join(e.dir, name) }

func (e *engines) close() error {
	e.dockerd.stop()
	e.containerd.close()
	return e.ours.reset()
}

// containerd is one that runs on directories of its own.
type containerd struct {
	*daemon
	socket string
}

// startContainerd starts one with more lines of configuration.
func (b *bench) startContainerd(ctx context.Context, more string) (*containerd, error) {
	dir, err := os.MkdirTemp(b.dir, "containerd-")
	if err != nil {
		return nil, err
	}
	state := filepath.Join("/run", filepath.Base(dir)) // sockets have short paths
	config, socket := filepath.Join(dir, "config.toml"), filepath.Join(state, "containerd.sock")
	text := fmt.Sprintf("version = 2\nroot = %q\nstate = %q\n[grpc]\naddress = %q\n%s", filepath.Join(dir, "root"), state, socket, more)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, err
	}
	d, err := b.start("containerd", "/usr/bin/containerd", nil, "--config", config)
	if err != nil {
		return nil, err
	}
	return &containerd{d, socket}, d.ready(ctx, 20*time.Second, func(context.Context) error {
		c, err := net.Dial("unix", socket)
		if err == nil {
			err = c.Close()
		}
		return err
	})
}

// close ends it and the shims of what is left: nobody will want them again.
func (c *containerd) close() {
	if c == nil {
		return
	}
	c.stop()
	for _, pid := range processes("containerd-shim-runc-v2") {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// startDocker starts containerd and dockerd as Debian's units do.
func (e *engines) startDocker(ctx context.Context) (err error) {
	if e.containerd, err = e.startContainerd(ctx, ""); err != nil {
		return err
	}
	return e.startDockerd(ctx)
}

func (e *engines) startDockerd(ctx context.Context) (err error) {
	data, err := os.MkdirTemp(e.dir, "docker-")
	if err != nil {
		return err
	}
	e.dockerd, err = e.start("dockerd", "/usr/sbin/dockerd", nil, "--containerd", e.containerd.socket, "--data-root", data,
		"--exec-root", "/run/docker", "--cgroup-parent", e.cgroupParent+"-docker", "--exec-opt", "native.cgroupdriver=cgroupfs")
	if err != nil {
		return err
	}
	return e.dockerd.ready(ctx, 30*time.Second, func(ctx context.Context) error {
		_, err := e.docker(ctx, "version")
		return err
	})
}

func (e *engines) docker(ctx context.Context, args ...string) (string, error) {
	c := exec.CommandContext(ctx, "/usr/bin/docker", args...)
	c.Env = append(os.Environ(), "DOCKER_CONFIG="+e.path("docker-config"), "DOCKER_BUILDKIT=0")
	return call(c)
}

func (e *engines) podman(ctx context.Context, args ...string) (string, error) {
	all := append([]string{"--root", e.path("podman"), "--runroot", "/run/podman", "--cgroup-manager", "cgroupfs",
		"--events-backend", "file", "--log-level", "error"}, args...)
	c := exec.CommandContext(ctx, "/usr/bin/podman", all...)
	c.Env = append(os.Environ(), "HOME="+e.dir)
	return e.crunPlace.call(c)
}

// bundle makes a directory that runc and crun run: the guest alone, in
// namespaces like those of "run --network none", with a control group.
func (e *engines) bundle(args ...string) (string, error) {
	e.bundles++
	dir := e.path(fmt.Sprintf("bundle-%d", e.bundles))
	if err := os.MkdirAll(filepath.Join(dir, "rootfs"), 0o755); err != nil {
		return "", err
	}
	guest, err := os.ReadFile(e.bins.bin("guest"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "rootfs/guest"), guest, 0o755)
	}
	if err == nil {
		_, err = call(exec.Command("/usr/sbin/runc", "spec", "--bundle", dir))
	}
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "config.json")
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var spec map[string]any
	if err := json.Unmarshal(data, &spec); err != nil {
		return "", err
	}
	process, linux := spec["process"].(map[string]any), spec["linux"].(map[string]any)
	process["args"], process["terminal"] = append([]string{"/guest"}, args...), false
	linux["cgroupsPath"] = fmt.Sprintf("%s/bundle-%d", e.cgroupParent, e.bundles)
	if data, err = json.Marshal(spec); err != nil {
		return "", err
	}
	return dir, os.WriteFile(path, data, 0o600)
}

// lowLevel runs a command of a low-level runtime.
func (e *engines) lowLevel(ctx context.Context, runtime string, args ...string) error {
	args = append([]string{"--root", "/run/" + runtime}, args...)
	var err error
	if runtime == "crun" {
		_, err = e.crunPlace.call(exec.CommandContext(ctx, "/usr/bin/crun", args...))
	} else {
		_, err = call(exec.CommandContext(ctx, "/usr/sbin/runc", args...))
	}
	return err
}
