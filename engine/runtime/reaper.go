package runtime

import (
	"context"
	"fmt"
	"os"
	"syscall"

	"sampan/engine/monitor/wire"
	"sampan/internal/linux"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// reaperID is the monitor's name for process 1 of a pod that shares its
// process namespace. No container has it: names do not start with a dash.
const reaperID = "-reaper"

// compileReaper makes process 1 of a process namespace: the monitor's own
// program in another mode, in an empty root, without any right. Its program's
// only descriptor is the executable.
func compileReaper(f facts) (compiled, error) {
	a := newAssembler()
	a.p.Flags = linux.NewMount | linux.NewPID
	exe := fd(a.pass())
	a.op("setsid()", linux.SysSetsid)
	a.because("an empty root")
	a.op("mount_setattr(/, AT_RECURSIVE, MS_SLAVE)", linux.SysMountSetattr, cwd, a.str("/"), num(linux.AtRecursive), a.attr(0, 0, linux.Slave), num(32))
	t := a.newFS("tmpfs", "tmpfs", []string{"size=4k", "mode=555"}, linux.AttrReadOnly|linux.AttrNoSuid|linux.AttrNoDev|linux.AttrNoExec)
	a.place(t, "/proc") // a directory that every machine has
	a.op("fchdir(root)", linux.SysFchdir, t)
	a.op(`pivot_root(".", ".")`, linux.SysPivotRoot, a.str("."), a.str("."))
	a.op(`umount2(".", MNT_DETACH)`, linux.SysUmount2, a.str("."), num(linux.Detach))
	s := &specs.Spec{Process: &specs.Process{Args: []string{"sampan-reaper"}, NoNewPrivileges: true},
		Linux: &specs.Linux{Seccomp: DefaultSeccomp(nil)}}
	var c compiled
	w, err := a.process(s, f, false)
	if err != nil {
		return c, err
	}
	// Execute by descriptor: the empty root has no file to name.
	last := len(a.p.Ops) - 1
	for a.p.Steps[last].kind == execStep {
		a.p.Ops, a.p.Steps = a.p.Ops[:last], a.p.Steps[:last]
		last--
	}
	argv, envp := a.strings([]string{"sampan-reaper", "reaper"}), a.strings([]string{"GOMAXPROCS=1", "GOGC=10"})
	i := a.op("execveat(monitor)", linux.SysExecveat, exe, a.str(""), argv, envp, num(linux.AtEmptyPath))
	a.p.Steps[i].kind = execStep
	c.Program, c.warnings = a.program(), w
	return c, nil
}

func (p *Pod) startReaper(ctx context.Context, bin string) error {
	exe, err := os.Open(bin)
	if err != nil {
		return err
	}
	defer exe.Close()
	var f facts
	if err := f.self(nil); err != nil {
		return err
	}
	prog, err := compileReaper(f)
	if err != nil {
		return err
	}
	mem, err := linux.MemFD("program", prog.Encode())
	if err != nil {
		return err
	}
	defer syscall.Close(mem)
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	n := int(null.Fd())
	pr := &proc{done: make(chan struct{})}
	p.mu.Lock()
	p.procs[reaperID] = pr
	p.mu.Unlock()
	reply, err := p.conn().Call(ctx, wire.Request{Header: wire.Header{Type: wire.Start}, ID: reaperID, Start: wire.StartRequest{Flags: wire.PassStdio}}, mem, n, n, n, int(exe.Fd()))
	if err != nil {
		return err
	}
	if reply.Type == wire.Failed {
		return fmt.Errorf("start reaper: %w", prog.failure(&specs.Process{Args: []string{"sampan-reaper"}}, reply))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pr.state = State{ID: reaperID, Status: Running, Pid: int(reply.Pid), StartTime: reply.StartTime}
	return nil
}
