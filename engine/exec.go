package engine

import (
	"context"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"sampan/engine/runtime"
)

// Exec is a process to run inside a running container.
type Exec struct {
	Args       []string
	Env        []string // added to the container's
	WorkingDir string   // default: the container's
	User       string   // default: the container's
	TTY        bool
	Size       runtime.Size
	Privileged bool
}

// Exec runs a process in the container and returns how it ended once its
// output is delivered.
func (e *Engine) Exec(ctx context.Context, ref string, x Exec, streams runtime.Streams) (runtime.Exit, error) {
	c, err := e.Inspect(ctx, ref)
	if err != nil {
		return runtime.Exit{}, err
	}
	if c.Status.State != Running {
		return runtime.Exit{}, notRunning("exec in container", c.ID)
	}
	if len(x.Args) == 0 {
		return runtime.Exit{}, invalid("exec in", short(c.ID), "no command given")
	}
	pod, err := e.Runtime.OpenPod(ctx, c.Sandbox)
	if err != nil {
		return runtime.Exit{}, err
	}
	cfg := runtime.ExecConfig{Args: x.Args, Cwd: x.WorkingDir, TTY: x.TTY, Size: x.Size, Privileged: x.Privileged}
	if x.User != "" {
		acct, err := e.account(e.run("rootfs", c.ID), x.User, c.Config.MergeGroups)
		if err != nil {
			return runtime.Exit{}, err
		}
		cfg.User = &specs.User{UID: acct.UID, GID: acct.GID, AdditionalGids: groupsOf(&c.Config, acct)}
	}
	if len(x.Env) > 0 || x.TTY && !c.Config.TTY {
		if cfg.Env, err = e.envOf(ctx, &c); err != nil {
			return runtime.Exit{}, err
		}
		if x.TTY && !slices.ContainsFunc(cfg.Env, func(s string) bool { return strings.HasPrefix(s, "TERM=") }) {
			cfg.Env = append(cfg.Env, "TERM=xterm")
		}
		for _, kv := range x.Env {
			name, _, _ := strings.Cut(kv, "=")
			cfg.Env = slices.DeleteFunc(cfg.Env, func(s string) bool { return strings.HasPrefix(s, name+"=") })
			cfg.Env = append(cfg.Env, kv)
		}
	}
	return pod.Exec(ctx, c.ID, cfg, streams)
}

// envOf is the environment the container was started with.
func (e *Engine) envOf(ctx context.Context, c *Container) ([]string, error) {
	img, err := e.Images.Get(ctx, c.Image)
	if err != nil {
		return nil, err
	}
	s, err := e.sandbox(c.Sandbox)
	if err != nil {
		return nil, err
	}
	user := c.Config.User
	if user == "" {
		user = img.Config.Config.User
	}
	acct, err := e.account(e.run("rootfs", c.ID), user, c.Config.MergeGroups)
	if err != nil {
		return nil, err
	}
	return environment(&c.Config, specInput{image: img.Config.Config.ImageConfig, account: acct, hostname: s.Config.Hostname}), nil
}

// Attach connects to the container's own process until it ends or ctx does.
func (e *Engine) Attach(ctx context.Context, ref string, streams runtime.Streams) error {
	c, err := e.Inspect(ctx, ref)
	if err != nil {
		return err
	}
	if c.Status.State != Running {
		return notRunning("attach to container", c.ID)
	}
	pod, err := e.Runtime.OpenPod(ctx, c.Sandbox)
	if err != nil {
		return err
	}
	return pod.Attach(ctx, c.ID, streams)
}

// Resize sets the size of the container's terminal.
func (e *Engine) Resize(ctx context.Context, ref string, size runtime.Size) error {
	c, err := e.Inspect(ctx, ref)
	if err != nil {
		return err
	}
	pod, err := e.Runtime.OpenPod(ctx, c.Sandbox)
	if err != nil {
		return err
	}
	return pod.Resize(ctx, c.ID, size.Width, size.Height)
}

// Explain is the list of system calls that started the container.
func (e *Engine) Explain(ctx context.Context, ref string) (string, error) {
	c, err := e.Inspect(ctx, ref)
	if err != nil {
		return "", err
	}
	pod, err := e.Runtime.OpenPod(ctx, c.Sandbox)
	if err != nil {
		return "", in("explain container", short(c.ID), err)
	}
	return pod.Explain(ctx, c.ID)
}

// ReopenLog makes the monitor open the log's path anew.
func (e *Engine) ReopenLog(ctx context.Context, id string) error {
	c, err := e.Inspect(ctx, id)
	if err != nil {
		return err
	}
	if c.Status.State != Running {
		return notRunning("reopen the log of container", c.ID)
	}
	pod, err := e.Runtime.OpenPod(ctx, c.Sandbox)
	if err != nil {
		return err
	}
	return pod.ReopenLog(ctx, c.ID)
}

// Update changes the limits of a container; one that is not running gets them
// when it starts. Zero fields stay as they are.
func (e *Engine) Update(ctx context.Context, id string, r Resources) error {
	unlock, c, err := e.lockContainer(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	if c, err = e.observeLocked(ctx, c); err != nil {
		return err
	}
	if c.Status.State == Running {
		pod, err := e.Runtime.OpenPod(ctx, c.Sandbox)
		if err != nil {
			return err
		}
		if err := pod.Update(ctx, id, r.oci()); err != nil {
			return in("update container", short(id), err)
		}
	}
	c.Config.Resources = c.Config.Resources.with(r)
	return save(e.place("containers", id, "config.json"), &containerRecord{Container: c})
}

// with is r changed by the fields of u that are set.
func (r Resources) with(u Resources) Resources {
	if u.CPUShares != 0 {
		r.CPUShares = u.CPUShares
	}
	if u.CPUQuota != 0 {
		r.CPUQuota = u.CPUQuota
	}
	if u.CPUPeriod != 0 {
		r.CPUPeriod = u.CPUPeriod
	}
	if u.CPUs != "" {
		r.CPUs = u.CPUs
	}
	if u.Mems != "" {
		r.Mems = u.Mems
	}
	if u.MemoryBytes != 0 {
		r.MemoryBytes = u.MemoryBytes
	}
	if u.SwapBytes != 0 {
		r.SwapBytes = u.SwapBytes
	}
	if u.Pids != 0 {
		r.Pids = u.Pids
	}
	if len(u.HugePages) > 0 {
		r.HugePages = u.HugePages
	}
	if len(u.Unified) > 0 {
		r.Unified = u.Unified
	}
	return r
}
