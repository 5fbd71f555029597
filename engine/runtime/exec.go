package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"sampan/engine/monitor/wire"
	"sampan/internal/fault"
	"sampan/internal/linux"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// compileExec is compile for a process in a running container: it enters the
// container's namespaces instead of making them. The program's descriptors are
// the tasks files, then a pidfd of the container.
func compileExec(s *specs.Spec, f facts, tty bool) (compiled, error) {
	var c compiled
	a := newAssembler()
	a.joinCgroups(f.tasks)
	a.oomScore(f.oom)
	a.because("a session of its own")
	a.op("setsid()", linux.SysSetsid)
	kinds := linux.NewMount | linux.NewUTS | linux.NewIPC | linux.NewNet
	if hasNamespace(s, specs.CgroupNamespace) {
		kinds |= linux.NewCgroup
	}
	a.because("enter the container's namespaces")
	a.op("setns(pidfd)", linux.SysSetns, fd(a.pass()), num(kinds))
	if tty {
		a.because("the terminal")
		for i := range 3 {
			a.op("dup3("+itoa(i)+")", linux.SysDup3, fd(wire.StdinFD+i), num(i), num(0))
		}
		a.controlling()
	}
	a.workDir(s.Process)
	w, err := a.process(s, f, tty)
	c.Program, c.warnings = a.program(), w
	return c, err
}

// execSpec is the container's specification with what cfg says otherwise.
func execSpec(c *ContainerConfig, cfg ExecConfig) *specs.Spec {
	s := *c.Spec
	p := *s.Process
	p.Args, p.Terminal, p.ConsoleSize = cfg.Args, cfg.TTY, nil
	if cfg.Env != nil {
		p.Env = cfg.Env
	}
	if cfg.Cwd != "" {
		p.Cwd = cfg.Cwd
	}
	if cfg.User != nil {
		p.User = *cfg.User
	}
	if cfg.Capabilities != nil {
		p.Capabilities = cfg.Capabilities
	}
	if cfg.NoNewPrivileges != nil {
		p.NoNewPrivileges = *cfg.NoNewPrivileges
	}
	if cfg.Privileged {
		all := Capabilities()
		p.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
		if s.Linux != nil {
			l := *s.Linux
			l.Seccomp = nil
			s.Linux = &l
		}
	}
	s.Process = &p
	return &s
}

// Exec runs a process inside a running container and returns when it has ended
// and its output is delivered. When ctx ends the process is killed.
func (p *Pod) Exec(ctx context.Context, id string, cfg ExecConfig, s Streams) (Exit, error) {
	pr, err := p.find(ctx, id)
	if err != nil {
		return Exit{}, err
	}
	fail := func(class fault.Class, fix string, err error) (Exit, error) {
		return Exit{}, &fault.Error{Class: class, Op: "execute in container", On: id, Err: err, Fix: fix}
	}
	c := p.config(id, pr)
	p.mu.Lock()
	pid := pr.state.Pid
	p.execs++
	name := fmt.Sprintf("exec-%d-%d-%d", os.Getpid(), time.Now().UnixNano(), p.execs)
	p.mu.Unlock()
	if c == nil || pid == 0 {
		return fail(fault.Conflict, "the container is not running", nil)
	}
	if len(cfg.Args) == 0 {
		return fail(fault.Invalid, "name a program to run", nil)
	}
	spec := execSpec(c, cfg)
	if err := unsupported(spec); err != nil {
		return fail(fault.Unknown, "", err)
	}
	f := facts{seccomp: p.r.filters.compile}
	if err := f.self(spec.Process); err != nil {
		return fail(fault.Unknown, "", err)
	}
	var ours closers // closed when the process has been started, or not
	defer ours.Close()
	req := wire.Request{Header: wire.Header{Type: wire.Start}, ID: name, Start: wire.StartRequest{Flags: wire.Forget | wire.PassStdio | wire.PIDNamespace}}
	pidns, err := os.Open(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		return fail(fault.Conflict, "the container is not running", err)
	}
	ours.add(pidns)
	fds := []int{-1, int(pidns.Fd())}
	var rest []int
	if c.Cgroup != "" {
		tasks, unified, err := p.r.cgs.Group(c.Cgroup).Join()
		if err != nil {
			return fail(fault.Unknown, "", err)
		}
		f.tasks = len(tasks)
		for _, t := range tasks {
			ours.add(t)
			rest = append(rest, int(t.Fd()))
		}
		if unified != nil {
			ours.add(unified)
			req.Start.Flags |= wire.Cgroup
			fds = append(fds, int(unified.Fd()))
		}
	}
	pidfd, err := linux.OpenPidFD(pid)
	if err != nil {
		return fail(fault.Conflict, "the container is not running", err)
	}
	ours.add(os.NewFile(uintptr(pidfd), "pidfd"))
	rest = append(rest, pidfd)
	io, err := newSession(s, cfg.TTY, pid, cfg.Size)
	if err != nil {
		return fail(fault.Unavailable, "", err)
	}
	defer io.close()
	fds = append(fds, io.child[0], io.child[1], io.child[2])
	fds = append(fds, rest...)
	prog, err := compileExec(spec, f, cfg.TTY)
	if err != nil {
		return fail(fault.Unknown, "", err)
	}
	mem, err := linux.MemFD("program", prog.Encode())
	if err != nil {
		return fail(fault.Unavailable, "", err)
	}
	fds[0] = mem
	ep := &proc{exec: true, done: make(chan struct{})}
	p.mu.Lock()
	p.procs[name] = ep
	p.mu.Unlock()
	reply, err := p.conn().Call(ctx, req, fds...)
	syscall.Close(mem)
	io.started()
	if err != nil || reply.Type == wire.Failed {
		p.mu.Lock()
		delete(p.procs, name)
		p.mu.Unlock()
		if err == nil {
			err = prog.failure(spec.Process, reply)
		}
		return fail(fault.Unknown, "", err)
	}
	io.run(ctx)
	exit, err := p.wait(ctx, ep)
	if err != nil {
		_, _ = p.conn().Call(context.WithoutCancel(ctx), wire.Request{Header: wire.Header{Type: wire.Signal}, ID: name, Signal: uint32(syscall.SIGKILL)})
		return exit, fail2(id, err)
	}
	return exit, io.finish()
}

func fail2(id string, err error) error {
	return &fault.Error{Class: fault.Unavailable, Op: "execute in container", On: id, Err: err}
}

// closers are files to close together.
type closers []io.Closer

func (c *closers) add(f io.Closer) { *c = append(*c, f) }

func (c *closers) Close() {
	for _, f := range *c {
		f.Close()
	}
	*c = nil
}

// session is the caller's side of an exec: pipes or a terminal of the
// container, whose other ends the process has itself. Nothing is copied twice.
type session struct {
	streams Streams
	child   [3]int
	ends    closers // the child's ends, closed once it has them

	in, out, errs *os.File // ours; with a terminal in and out are its master
	tty           bool
	copies        sync.WaitGroup
	mu            sync.Mutex // guards err
	err           error
}

func newSession(s Streams, tty bool, pid int, size Size) (*session, error) {
	n := &session{streams: s, tty: tty}
	if tty {
		return n, n.openTerminal(pid, size)
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	n.ends.add(null)
	n.child = [3]int{int(null.Fd()), int(null.Fd()), int(null.Fd())}
	for i, want := range []bool{s.Stdin != nil, s.Stdout != nil, s.Stderr != nil} {
		if !want {
			continue
		}
		r, w, err := os.Pipe()
		if err != nil {
			n.close()
			return nil, err
		}
		theirs, ours := w, r
		if i == 0 {
			theirs, ours = r, w
		}
		n.ends.add(theirs)
		n.child[i] = int(theirs.Fd()) // makes it blocking, as a process expects
		switch i {
		case 0:
			n.in = ours
		case 1:
			n.out = ours
		case 2:
			n.errs = ours
		}
	}
	return n, nil
}

// openTerminal makes a pseudo terminal in the container's own devpts, found
// without following links of the container's out of it.
func (n *session) openTerminal(pid int, size Size) error {
	root, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", pid), linux.OPath, 0)
	if err != nil {
		return err
	}
	defer root.Close()
	master, err := linux.OpenInRoot(int(root.Fd()), "/dev/pts/ptmx", syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	n.out = os.NewFile(uintptr(master), "terminal")
	n.in = n.out
	if err := linux.UnlockTerminal(master); err != nil {
		n.close()
		return err
	}
	slave, err := linux.TerminalPeer(master)
	if err != nil {
		n.close()
		return err
	}
	n.ends.add(os.NewFile(uintptr(slave), "terminal"))
	n.child = [3]int{slave, slave, slave}
	if size.Width > 0 && size.Height > 0 {
		return linux.SetTerminalSize(master, size.Width, size.Height)
	}
	return nil
}

// started lets go of the child's ends.
func (n *session) started() { n.ends.Close() }

// run copies until finish. Input is not waited for: a reader that never ends
// is the caller's, who closes it.
func (n *session) run(ctx context.Context) {
	if n.in != nil && n.streams.Stdin != nil {
		go func() {
			_, _ = io.Copy(n.in, n.streams.Stdin)
			if !n.tty {
				n.in.Close()
			}
		}()
	}
	for _, c := range []struct {
		from *os.File
		to   io.Writer
	}{{n.out, n.streams.Stdout}, {n.errs, n.streams.Stderr}} {
		if c.from == nil {
			continue
		}
		if c.to == nil {
			c.to = io.Discard
		}
		n.copies.Add(1)
		go func() {
			defer n.copies.Done()
			n.copy(c.from, c.to)
		}()
	}
	if n.streams.Resize != nil && n.tty {
		go resize(ctx, n.streams.Resize, n.out)
	}
}

func resize(ctx context.Context, sizes <-chan Size, terminal *os.File) {
	for {
		select {
		case z, ok := <-sizes:
			if !ok {
				return
			}
			rc, err := terminal.SyscallConn()
			if err != nil {
				return
			}
			if rc.Control(func(fd uintptr) { _ = linux.SetTerminalSize(int(fd), z.Width, z.Height) }) != nil {
				return // closed
			}
		case <-ctx.Done():
			return
		}
	}
}

// copy ends at the end of file, or, once a deadline is set because the process
// has ended, when nothing more is there: something left behind in the
// container may hold the other end for ever.
func (n *session) copy(from *os.File, to io.Writer) {
	b := make([]byte, 32<<10)
	for {
		k, err := from.Read(b)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if k = readNow(from, b); k <= 0 {
				return
			}
			err = nil
		}
		if k > 0 {
			if _, werr := to.Write(b[:k]); werr != nil {
				n.mu.Lock()
				n.err = errors.Join(n.err, werr)
				n.mu.Unlock()
				to = io.Discard
			}
		}
		if err != nil { // EOF, or EIO of a terminal whose other side is closed
			return
		}
	}
}

func readNow(f *os.File, b []byte) int {
	rc, err := f.SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	_ = rc.Control(func(fd uintptr) { n, _ = syscall.Read(int(fd), b) })
	return n
}

// finish delivers what the ended process wrote.
func (n *session) finish() error {
	for _, f := range []*os.File{n.out, n.errs} {
		if f != nil {
			_ = f.SetReadDeadline(time.Now())
		}
	}
	n.copies.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

func (n *session) close() {
	n.ends.Close()
	for _, f := range []*os.File{n.in, n.out, n.errs} {
		if f != nil {
			f.Close()
		}
	}
}
