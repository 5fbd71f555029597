package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"sampan/engine/monitor/wire"
	"sampan/internal/cgroup"
	"sampan/internal/fault"
	"sampan/internal/linux"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// CommandError is a program that could not be executed. The text is runc's,
// which tools look for.
type CommandError struct {
	Text     string
	ExitCode int // 127 if there is no such program, 126 if it cannot be run
}

func (e *CommandError) Error() string { return e.Text }

// normalize copies what is changed below and lets the explicit fields win.
func normalize(cfg *ContainerConfig) {
	s := *cfg.Spec
	s.Mounts = append([]specs.Mount(nil), s.Mounts...)
	if s.Process != nil {
		pr := *s.Process
		pr.Terminal = pr.Terminal || cfg.TTY
		s.Process = &pr
		cfg.TTY = pr.Terminal
	}
	if cfg.RootFS == "" && s.Root != nil {
		cfg.RootFS = s.Root.Path
	}
	if cfg.Cgroup == "" && s.Linux != nil {
		cfg.Cgroup = s.Linux.CgroupsPath
	}
	cfg.Spec = &s
}

// pidNamespace opens the process namespace that the container joins (joinsPID).
func (p *Pod) pidNamespace(ctx context.Context, cfg *ContainerConfig) (*os.File, error) {
	pid := 0
	switch {
	case cfg.TargetPID != "":
		st, err := p.State(ctx, cfg.TargetPID)
		if err != nil {
			return nil, err
		}
		pid = st.Pid
	case p.cfg.SharePID:
		p.mu.Lock()
		if r := p.procs[reaperID]; r != nil {
			pid = r.state.Pid
		}
		p.mu.Unlock()
	default:
		path := pidPath(cfg)
		f, err := os.Open(path)
		if err != nil {
			return nil, &fault.Error{Class: fault.NotFound, Op: "open process namespace", On: path, Err: err}
		}
		return f, nil
	}
	if pid == 0 {
		return nil, &fault.Error{Class: fault.Conflict, Op: "join process namespace", On: cfg.ID, Fix: "the process that holds it has ended: start the pod anew"}
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		return nil, &fault.Error{Class: fault.Conflict, Op: "join process namespace", On: cfg.ID, Err: err}
	}
	return f, nil
}

// openJoins opens the namespaces the specification gives by path.
func openJoins(s *specs.Spec, f *facts, opened *closers, fds *[]int) error {
	if s.Linux == nil {
		return nil
	}
	kinds := map[specs.LinuxNamespaceType]int{specs.NetworkNamespace: linux.NewNet, specs.IPCNamespace: linux.NewIPC, specs.UTSNamespace: linux.NewUTS}
	for _, n := range s.Linux.Namespaces {
		if n.Path == "" || n.Type == specs.PIDNamespace {
			continue
		}
		kind, ok := kinds[n.Type]
		if !ok {
			return &fault.Error{Class: fault.Invalid, Op: "join namespace", On: string(n.Type) + " " + n.Path, Fix: "joining one of this type is not there yet"}
		}
		file, err := os.Open(n.Path)
		if err != nil {
			return &fault.Error{Class: fault.NotFound, Op: "join namespace", On: n.Path, Err: err}
		}
		opened.add(file)
		*fds = append(*fds, int(file.Fd()))
		f.joins = append(f.joins, join{kind: kind, name: string(n.Type)})
	}
	return nil
}

// failure explains a Failed reply by the program.
func (p *Program) failure(proc *specs.Process, r wire.Reply) error {
	if r.FailedOp < 0 || int(r.FailedOp) >= len(p.Steps) {
		return &fault.Error{Class: fault.Unavailable, Op: r.Call, On: "monitor", Err: syscall.Errno(r.Errno)}
	}
	errnos := map[int]syscall.Errno{}
	for _, n := range r.Notes {
		errnos[int(n.Op)] = syscall.Errno(n.Errno)
	}
	step := p.Steps[r.FailedOp]
	if step.kind == execStep {
		return commandError(proc.Args[0], p.Steps, errnos)
	}
	why := step.Why
	for i := int(r.FailedOp); why == "" && i > 0; i-- {
		why = p.Steps[i-1].Why
	}
	return &fault.Error{Class: fault.Invalid, Op: step.Call, On: "(" + why + ")", Err: errnos[int(r.FailedOp)]}
}

// commandError finds the words for a program that could not be executed. Of
// several places tried the first that had something there counts.
func commandError(name string, steps []Step, errnos map[int]syscall.Errno) error {
	var found syscall.Errno
	for i, s := range steps {
		if e := errnos[i]; s.kind == execStep && e != 0 && e != syscall.ENOENT && e != syscall.ENOTDIR && found == 0 {
			found = e
		}
	}
	const prefix = "unable to start container process: "
	var e *CommandError
	switch {
	case found == 0 && !strings.Contains(name, "/"):
		e = &CommandError{fmt.Sprintf("%sexec: %q: executable file not found in $PATH", prefix, name), 127}
	case found == 0:
		e = &CommandError{fmt.Sprintf("%sexec: %q: stat %s: no such file or directory", prefix, name, name), 127}
	case found == syscall.EACCES:
		e = &CommandError{fmt.Sprintf("%sexec: %q: permission denied", prefix, name), 126}
	default:
		e = &CommandError{fmt.Sprintf("%sexec %s: %s", prefix, name, found), 126}
	}
	return &fault.Error{Class: fault.Invalid, Op: "execute", On: name, Err: e}
}

// ExitCodeOf is the shell's code for a start that failed because of the
// program itself: 127 not found, 126 not executable.
func ExitCodeOf(err error) (code int, ok bool) {
	var e *CommandError
	if errors.As(err, &e) {
		return e.ExitCode, true
	}
	return 0, false
}

// notes tells of steps that failed without ending the start.
func (p *Program) notes(list []wire.Note) []string {
	var out []string
	for _, n := range list {
		if int(n.Op) < len(p.Steps) && !p.Steps[n.Op].Quiet {
			out = append(out, p.Steps[n.Op].Call+": "+syscall.Errno(n.Errno).Error())
		}
	}
	return out
}

func (p *Pod) configPath(id string) string { return filepath.Join(p.dir, "ctr", id+".json") }

// config is what a container was started with; nil if that is not known.
func (p *Pod) config(id string, pr *proc) *ContainerConfig {
	p.mu.Lock()
	cfg := pr.cfg
	p.mu.Unlock()
	if cfg != nil || id == reaperID {
		return cfg
	}
	cfg = &ContainerConfig{}
	if err := readJSON(p.configPath(id), cfg); err != nil {
		return nil
	}
	p.mu.Lock()
	pr.cfg, pr.state.Cgroup = cfg, cfg.Cgroup
	p.mu.Unlock()
	return cfg
}

// State of one container; fault.NotFound if the pod does not know it.
func (p *Pod) State(ctx context.Context, id string) (State, error) {
	pr, err := p.find(ctx, id)
	if err != nil {
		return State{}, err
	}
	p.config(id, pr)
	p.mu.Lock()
	defer p.mu.Unlock()
	return pr.state, nil
}

// List has the states of all containers, running and exited.
func (p *Pod) List(ctx context.Context) ([]State, error) {
	if !p.isGone() {
		if err := p.refresh(ctx); err != nil {
			return nil, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []State
	for _, id := range sortedKeys(p.procs) {
		if pr := p.procs[id]; !pr.exec && id != reaperID && pr.state.Status != "" {
			out = append(out, pr.state)
		}
	}
	return out, nil
}

// Wait returns when the container has ended.
func (p *Pod) Wait(ctx context.Context, id string) (Exit, error) {
	pr, err := p.find(ctx, id)
	if err != nil {
		return Exit{}, err
	}
	return p.wait(ctx, pr)
}

func (p *Pod) wait(ctx context.Context, pr *proc) (Exit, error) {
	for {
		c := p.conn()
		select {
		case <-pr.done:
		case <-ctx.Done():
			return Exit{}, ctx.Err()
		case <-c.Done():
		}
		select {
		case <-pr.done:
			p.mu.Lock()
			defer p.mu.Unlock()
			return pr.state.Exit, nil
		default:
		}
		// The end of the connection ends every process that has not ended,
		// unless there is a new one, or this runtime has let go.
		if p.conn() == c {
			return Exit{}, &fault.Error{Class: fault.Unavailable, Op: "wait for container", On: p.cfg.ID, Fix: "the runtime was closed; the container runs on"}
		}
	}
}

// tell sends a request about a container and turns a refusal into an error.
func (p *Pod) tell(ctx context.Context, op string, req wire.Request) error {
	if _, err := p.find(ctx, req.ID); err != nil {
		return err
	}
	r, err := p.conn().Call(ctx, req)
	if err != nil {
		return err
	}
	return refused(op, req.ID, r)
}

func refused(op, id string, r wire.Reply) error {
	if r.Type != wire.Failed {
		return nil
	}
	class := fault.Unavailable
	switch syscall.Errno(r.Errno) {
	case syscall.ESRCH:
		class = fault.NotFound
	case syscall.EBUSY:
		class = fault.Conflict
	case syscall.EINVAL, syscall.ENOTTY:
		class = fault.Invalid
	}
	return &fault.Error{Class: class, Op: op, On: id, Err: fmt.Errorf("%s: %w", r.Call, syscall.Errno(r.Errno))}
}

// Signal goes to the container's first process, or with all to every process in its cgroup.
func (p *Pod) Signal(ctx context.Context, id string, sig syscall.Signal, all bool) error {
	if all {
		g, err := p.group(ctx, id, "signal")
		if err != nil {
			return err
		}
		return g.Signal(sig)
	}
	return p.tell(ctx, "signal container", wire.Request{Header: wire.Header{Type: wire.Signal}, ID: id, Signal: uint32(sig)})
}

// Resize sets the size of the container's terminal.
func (p *Pod) Resize(ctx context.Context, id string, w, h uint16) error {
	return p.tell(ctx, "resize terminal of container", wire.Request{Header: wire.Header{Type: wire.Resize}, ID: id, Width: w, Height: h})
}

// ReopenLog makes the monitor open the log path anew, after somebody moved the file.
func (p *Pod) ReopenLog(ctx context.Context, id string) error {
	return p.tell(ctx, "reopen log of container", wire.Request{Header: wire.Header{Type: wire.Reopen}, ID: id})
}

func (p *Pod) group(ctx context.Context, id, op string) (*cgroup.Group, error) {
	pr, err := p.find(ctx, id)
	if err != nil {
		return nil, err
	}
	cfg := p.config(id, pr)
	if cfg == nil || cfg.Cgroup == "" {
		return nil, &fault.Error{Class: fault.Invalid, Op: op, On: id, Fix: "the container was started without a control group"}
	}
	return p.r.cgs.Group(cfg.Cgroup), nil
}

// Update changes limits of a running container.
func (p *Pod) Update(ctx context.Context, id string, res *specs.LinuxResources) error {
	g, err := p.group(ctx, id, "update limits")
	if err != nil {
		return err
	}
	r, lacking := resources(res)
	w, err := g.Apply(r)
	for _, s := range append(lacking, w...) {
		p.r.log.Warn(s, "key", id)
	}
	return err
}

// Stats is what the container uses.
func (p *Pod) Stats(ctx context.Context, id string) (cgroup.Stats, error) {
	g, err := p.group(ctx, id, "read statistics")
	if err != nil {
		return cgroup.Stats{}, err
	}
	return g.Stats()
}

// Freeze stops all processes of the container, Thaw lets them go on.
func (p *Pod) Freeze(ctx context.Context, id string) error {
	g, err := p.group(ctx, id, "freeze")
	if err != nil {
		return err
	}
	return g.Freeze()
}

// Thaw undoes Freeze.
func (p *Pod) Thaw(ctx context.Context, id string) error {
	g, err := p.group(ctx, id, "thaw")
	if err != nil {
		return err
	}
	return g.Thaw()
}

// Explain is the list of system calls that started the container, as text.
func (p *Pod) Explain(ctx context.Context, id string) (string, error) {
	pr, err := p.find(ctx, id)
	if err != nil {
		return "", err
	}
	cfg := p.config(id, pr)
	if cfg == nil {
		return "", &fault.Error{Class: fault.NotFound, Op: "explain", On: id, Fix: "its configuration is gone"}
	}
	f, err := p.r.gather(p.cfg, cfg)
	if err != nil {
		return "", err
	}
	f.newPID = cfg.NewPID || cfg.TargetPID == "" && !p.cfg.SharePID && !p.cfg.HostPID
	if cfg.Cgroup != "" {
		f.tasks = len(p.r.cgs.V1)
	}
	prog, err := compile(cfg.Spec, f)
	if err != nil {
		return "", err
	}
	return prog.String(), nil
}

// Remove forgets an exited container: its cgroup and records are gone afterwards. Nil if it is gone already.
func (p *Pod) Remove(ctx context.Context, id string) error {
	pr, err := p.find(ctx, id)
	if err != nil {
		if fault.ClassOf(err) == fault.NotFound {
			return nil
		}
		return err
	}
	p.mu.Lock()
	running := pr.state.Status == Running && !p.gone
	p.mu.Unlock()
	if running {
		return &fault.Error{Class: fault.Conflict, Op: "remove container", On: id, Fix: "it is running: stop it first"}
	}
	if cfg := p.config(id, pr); cfg != nil && cfg.Cgroup != "" {
		g := p.r.cgs.Group(cfg.Cgroup)
		if err := g.Kill(); err != nil {
			return err
		}
		if err := g.Destroy(ctx); err != nil {
			return err
		}
	}
	if !p.isGone() {
		r, err := p.conn().Call(ctx, wire.Request{Header: wire.Header{Type: wire.Remove}, ID: id})
		if err != nil {
			return err
		}
		if err := refused("remove container", id, r); err != nil && fault.ClassOf(err) != fault.NotFound {
			return err
		}
	}
	p.mu.Lock()
	delete(p.procs, id)
	p.mu.Unlock()
	if err := os.Remove(p.configPath(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return &fault.Error{Class: fault.Unavailable, Op: "remove container", On: id, Err: err}
	}
	return nil
}
