package runtime

import (
	"context"
	"os"
	"syscall"
	"time"

	"sampan/engine/monitor/wire"
	"sampan/internal/fault"
	"sampan/internal/linux"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Prepared is a container about to start: its control group is there, and its
// program is compiled. It is started once, or closed.
type Prepared struct {
	cfg      *ContainerConfig
	req      wire.Request
	prog     compiled
	encoded  []byte
	fds      []int // from the program's on; the program and the process namespace come before
	unified  int   // descriptor of the version 2 group, or -1
	opened   closers
	warnings []string
	undo     func() // removes the control group again if it was made here
}

// Close gives back what was prepared. It may be called after Start, and twice.
func (c *Prepared) Close() {
	c.opened.Close()
	if c.undo != nil {
		c.undo()
		c.undo = nil
	}
}

// Start runs a container's process: from clone3 to execve in one go.
func (p *Pod) Start(ctx context.Context, in ContainerConfig) (State, error) {
	c, err := p.r.Prepare(ctx, p.cfg, in)
	if err != nil {
		return State{}, err
	}
	return p.StartPrepared(ctx, c)
}

func startFailed(id string, class fault.Class, fix string, err error) error {
	return &fault.Error{Class: class, Op: "start container", On: id, Err: err, Fix: fix}
}

// Prepare does all of a start that needs no monitor, so that it can be done
// while the pod itself is being started.
func (r *Runtime) Prepare(ctx context.Context, pod PodConfig, in ContainerConfig) (_ *Prepared, err error) {
	cfg := &in
	if !validID(cfg.ID) {
		return nil, startFailed(cfg.ID, fault.Invalid, "use letters, digits, '-', '_' and '.', at most 128", nil)
	}
	if cfg.Spec == nil {
		return nil, startFailed(cfg.ID, fault.Invalid, "give a specification", nil)
	}
	normalize(cfg)
	c := &Prepared{cfg: cfg, unified: -1}
	defer func() {
		if err != nil {
			c.Close()
			err = startFailed(cfg.ID, fault.Unknown, "", err)
		}
	}()
	f, err := r.gather(pod, cfg)
	if err != nil {
		return nil, err
	}
	c.req = wire.Request{Header: wire.Header{Type: wire.Start}, ID: cfg.ID, Start: wire.StartRequest{
		LogFormat: cfg.LogFormat, LogPath: cfg.LogPath, LogMaxSize: cfg.LogMaxSize, LogMaxFiles: uint32(cfg.LogMaxFiles), OnExit: cfg.OnExit}}
	if cfg.LogMaxSize > 0 {
		c.req.Start.LogMaxFiles = uint32(max(cfg.LogMaxFiles, 1)) + 1 // the monitor counts the current one
	}
	for flag, on := range map[uint16]bool{wire.Stdin: cfg.Stdin, wire.StdinOnce: cfg.StdinOnce, wire.TTY: cfg.Spec.Process != nil && cfg.Spec.Process.Terminal,
		wire.PIDNamespace: joinsPID(pod, cfg), wire.LateLog: cfg.LateLog} {
		if on {
			c.req.Start.Flags |= flag
		}
	}
	f.newPID = !joinsPID(pod, cfg) && (!pod.HostPID || cfg.NewPID)
	if cfg.Cgroup != "" {
		if err := c.enter(ctx, r, &f); err != nil {
			return nil, err
		}
	}
	if err := openJoins(cfg.Spec, &f, &c.opened, &c.fds); err != nil {
		return nil, err
	}
	if c.prog, err = compile(cfg.Spec, f); err != nil {
		return nil, err
	}
	c.warnings = append(c.warnings, c.prog.warnings...)
	c.encoded = c.prog.Encode()
	return c, nil
}

// enter makes the control group and opens what joining it takes.
func (c *Prepared) enter(ctx context.Context, r *Runtime, f *facts) error {
	cfg := c.cfg
	group := r.cgs.Group(cfg.Cgroup)
	fresh := !group.Exists()
	if err := group.Create(); err != nil {
		return err
	}
	if fresh {
		c.undo = func() {
			if err := group.Destroy(context.WithoutCancel(ctx)); err != nil {
				r.log.Warn("remove control group", "key", cfg.Cgroup, "err", err)
			}
		}
	}
	if cfg.Spec.Linux != nil {
		res, lacking := resources(cfg.Spec.Linux.Resources)
		w, err := group.Apply(res)
		c.warnings = append(append(c.warnings, lacking...), w...)
		if err != nil {
			return err
		}
	}
	tasks, unified, err := group.Join()
	if err != nil {
		return err
	}
	f.tasks = len(tasks)
	for _, t := range tasks {
		c.opened.add(t)
		c.fds = append(c.fds, int(t.Fd()))
	}
	if unified != nil {
		c.opened.add(unified)
		c.unified = int(unified.Fd())
		c.req.Start.Flags |= wire.Cgroup
	}
	return nil
}

// StartPrepared is the rest of Start. It closes c.
func (p *Pod) StartPrepared(ctx context.Context, c *Prepared) (State, error) {
	defer c.Close()
	cfg, req := c.cfg, c.req
	fail := func(class fault.Class, fix string, err error) (State, error) {
		return State{}, startFailed(cfg.ID, class, fix, err)
	}
	mem, err := linux.MemFD("program", c.encoded)
	if err != nil {
		return fail(fault.Unavailable, "", err)
	}
	defer syscall.Close(mem)
	fds := []int{mem}
	if req.Start.Flags&wire.PIDNamespace != 0 {
		pidns, err := p.pidNamespace(ctx, cfg)
		if err != nil {
			return fail(fault.Unknown, "", err)
		}
		defer pidns.Close()
		fds = append(fds, int(pidns.Fd()))
	}
	if c.unified >= 0 {
		fds = append(fds, c.unified)
	}
	fds = append(fds, c.fds...)

	pr := &proc{cfg: cfg, done: make(chan struct{})}
	p.mu.Lock()
	_, taken := p.procs[cfg.ID]
	if !taken {
		p.procs[cfg.ID] = pr
	}
	p.mu.Unlock()
	if taken {
		return fail(fault.Exists, "remove it first", nil)
	}
	forget := func() {
		p.mu.Lock()
		delete(p.procs, cfg.ID)
		p.mu.Unlock()
		_ = os.Remove(p.configPath(cfg.ID))
	}
	// On disk before it runs: a daemon that finds it running finds its group.
	if err := writeJSON(p.configPath(cfg.ID), cfg); err != nil {
		forget()
		return fail(fault.Unknown, "", err)
	}
	reply, err := p.conn().Call(ctx, req, fds...)
	if err != nil {
		// Whether it runs is not known: its record stays for the take-over.
		p.mu.Lock()
		delete(p.procs, cfg.ID)
		p.mu.Unlock()
		c.undo = nil
		return fail(fault.Unavailable, "", err)
	}
	if reply.Type == wire.Failed {
		forget()
		return fail(fault.Unknown, "", c.prog.failure(cfg.Spec.Process, reply))
	}
	c.undo = nil
	warnings := append(c.warnings, c.prog.notes(reply.Notes)...)
	p.mu.Lock()
	defer p.mu.Unlock()
	pr.state.ID, pr.state.Cgroup, pr.state.Warnings = cfg.ID, cfg.Cgroup, warnings
	pr.state.StartTime, pr.state.StartedAt = reply.StartTime, time.Unix(0, reply.StartedAt)
	select {
	case <-pr.done: // ended already
	default:
		pr.state.Status, pr.state.Pid = Running, int(reply.Pid)
	}
	st := pr.state
	st.Pid = int(reply.Pid)
	return st, nil
}

// joinsPID says whether the container is put into a process namespace that
// there is already.
func joinsPID(pod PodConfig, cfg *ContainerConfig) bool {
	switch {
	case cfg.TargetPID != "":
		return true
	case cfg.NewPID:
		return false
	case pod.SharePID:
		return true
	}
	return pidPath(cfg) != ""
}

// pidPath is the process namespace that the specification gives by path.
func pidPath(cfg *ContainerConfig) string {
	if cfg.Spec.Linux != nil {
		for _, n := range cfg.Spec.Linux.Namespaces {
			if n.Type == specs.PIDNamespace && n.Path != "" {
				return n.Path
			}
		}
	}
	return ""
}
