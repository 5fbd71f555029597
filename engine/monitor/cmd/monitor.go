package main

import (
	"os"
	"os/signal"
	"syscall"

	"sampan/engine/monitor/wire"
	"sampan/internal/linux"
)

func args() []string { return os.Args }

func childSignals() chan os.Signal { return make(chan os.Signal, 1) }

// monitor is all state. Everything runs on the loop's thread; there is no lock.
type monitor struct {
	epoll   int
	child   int // eventfd that says a child has ended
	sources map[int32]*source
	procs   map[string]*process
	conns   map[int]bool

	closing int // connection that asked for the end, or -1
	seq     uint32

	stack []byte // of children until they execute
	in    []byte // packets
	oob   []byte
	data  []byte // what processes write
	out   []byte
}

// source is what an epoll descriptor belongs to.
type source struct {
	fd     int
	kind   sourceKind
	proc   *process
	stream int
	att    *attachment
}

type sourceKind uint8

const (
	listener sourceKind = iota
	children
	connection
	output
	attached
)

func newMonitor() (*monitor, error) {
	ep, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	m := &monitor{epoll: ep, sources: map[int32]*source{}, procs: map[string]*process{}, conns: map[int]bool{}, closing: -1,
		stack: make([]byte, 8<<10), in: make([]byte, wire.MaxMessage), oob: make([]byte, syscall.CmsgSpace(4*wire.MaxFDs)), data: make([]byte, 2<<10)}
	syscall.CloseOnExec(listenFD)
	syscall.CloseOnExec(dirFD)
	if err := linux.Subreap(); err != nil {
		return nil, err
	}
	if m.child, err = linux.EventFD(); err != nil {
		return nil, err
	}
	if err := syscall.SetNonblock(listenFD, true); err != nil {
		return nil, err
	}
	if err := m.watch(&source{fd: listenFD, kind: listener}, syscall.EPOLLIN); err != nil {
		return nil, err
	}
	if err := m.watch(&source{fd: m.child, kind: children}, syscall.EPOLLIN); err != nil {
		return nil, err
	}
	ch := childSignals()
	signal.Notify(ch, syscall.SIGCHLD)
	go func() {
		one := []byte{1, 0, 0, 0, 0, 0, 0, 0}
		for range ch {
			syscall.Write(m.child, one)
		}
	}()
	return m, nil
}

func (m *monitor) watch(s *source, events uint32) error {
	if err := syscall.EpollCtl(m.epoll, syscall.EPOLL_CTL_ADD, s.fd, &syscall.EpollEvent{Events: events, Fd: int32(s.fd)}); err != nil {
		return err
	}
	m.sources[int32(s.fd)] = s
	return nil
}

func (m *monitor) rewatch(s *source, events uint32) {
	syscall.EpollCtl(m.epoll, syscall.EPOLL_CTL_MOD, s.fd, &syscall.EpollEvent{Events: events, Fd: int32(s.fd)})
}

// forget closes a descriptor that was watched. It is taken out of epoll by
// name first: a child may still have the same open file.
func (m *monitor) forget(fd int) {
	if _, ok := m.sources[int32(fd)]; ok {
		syscall.EpollCtl(m.epoll, syscall.EPOLL_CTL_DEL, fd, nil)
		delete(m.sources, int32(fd))
	}
	syscall.Close(fd)
}

// run takes one event at a time: handling one may close what the next is about.
func (m *monitor) run() {
	var ev [1]syscall.EpollEvent
	for {
		n, err := syscall.EpollWait(m.epoll, ev[:], -1)
		if err == syscall.EINTR || n == 0 {
			continue
		}
		if err != nil {
			fatal(err)
		}
		s := m.sources[ev[0].Fd]
		if s == nil {
			continue
		}
		switch s.kind {
		case listener:
			m.accept()
		case children:
			m.reap()
		case connection:
			m.serve(s.fd)
		case output:
			m.read(s)
		case attached:
			m.drain(s)
		}
	}
}

func (m *monitor) accept() {
	fd, _, err := syscall.Accept4(listenFD, syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK)
	if err != nil {
		return
	}
	cred, err := syscall.GetsockoptUcred(fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	if err != nil || int(cred.Uid) != syscall.Geteuid() || m.watch(&source{fd: fd, kind: connection}, syscall.EPOLLIN) != nil {
		syscall.Close(fd)
		return
	}
	m.conns[fd] = true
}

func (m *monitor) hangUp(fd int) {
	delete(m.conns, fd)
	if m.closing == fd {
		m.closing = 0 // go on with the end, answer nobody
	}
	m.forget(fd)
}

// serve reads one packet and answers it.
func (m *monitor) serve(fd int) {
	n, oobn, flags, _, err := syscall.Recvmsg(fd, m.in, m.oob, syscall.MSG_CMSG_CLOEXEC)
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return
	}
	fds := received(m.oob[:max(oobn, 0)])
	if err != nil || n == 0 || flags&(syscall.MSG_TRUNC|syscall.MSG_CTRUNC) != 0 {
		closeAll(fds)
		m.hangUp(fd)
		return
	}
	req, err := wire.DecodeRequest(m.in[:n])
	if err != nil {
		closeAll(fds)
		m.hangUp(fd)
		return
	}
	m.answer(fd, &req, fds)
}

// received collects descriptors out of control messages.
func received(oob []byte) []int {
	if len(oob) == 0 {
		return nil
	}
	msgs, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	var out []int
	for i := range msgs {
		if fds, err := syscall.ParseUnixRights(&msgs[i]); err == nil {
			out = append(out, fds...)
		}
	}
	return out
}

func closeAll(fds []int) {
	for _, fd := range fds {
		if fd >= 0 {
			syscall.Close(fd)
		}
	}
}

// send hangs up on whoever does not read: a daemon comes back and asks for the
// list, so nothing is kept for it here.
func (m *monitor) send(fd int, r *wire.Reply, fds ...int) {
	m.out = r.Append(m.out[:0])
	var rights []byte
	if len(fds) > 0 {
		rights = syscall.UnixRights(fds...)
	}
	if err := syscall.Sendmsg(fd, m.out, rights, nil, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL); err != nil {
		m.hangUp(fd)
	}
}

func (m *monitor) answer(fd int, req *wire.Request, fds []int) {
	reply := wire.Reply{Header: wire.Header{Type: wire.OK, Seq: req.Seq}, FailedOp: -1}
	refuse := func(call string, errno syscall.Errno) {
		reply.Type, reply.Call, reply.Errno = wire.Failed, call, uint32(errno)
	}
	p := m.procs[req.ID]
	switch req.Type {
	case wire.Hello:
		reply.Type, reply.Version, reply.Pid = wire.Welcome, wire.Version, uint32(syscall.Getpid())
	case wire.Start:
		m.start(req, fds, &reply)
		fds = nil
	case wire.List:
		reply.Type, reply.Count = wire.Listing, uint32(len(m.procs))
		m.send(fd, &reply)
		for _, p := range m.procs {
			if !m.conns[fd] {
				return
			}
			rec := p.record(wire.Record)
			rec.Seq = req.Seq
			m.send(fd, &rec)
		}
		return
	case wire.Shutdown:
		m.closing, m.seq = fd, req.Seq
		for _, p := range m.procs {
			if !p.ended {
				syscall.Kill(p.pid, syscall.SIGKILL)
			}
		}
		m.maybeEnd()
		return
	case wire.Signal, wire.Attach, wire.Resize, wire.Reopen, wire.Remove:
		if p == nil {
			refuse("find process", syscall.ESRCH)
			break
		}
		if give := m.ask(p, req, fds, refuse); give >= 0 {
			m.send(fd, &reply, give)
			if p.flags&wire.StdinOnce != 0 && p.flags&wire.TTY == 0 {
				syscall.Close(p.stdin)
				p.stdin = -1
			}
			return
		}
		if req.Type == wire.Attach {
			fds = nil
		}
	default:
		refuse("understand request", syscall.ENOSYS)
	}
	closeAll(fds)
	m.send(fd, &reply)
}

// ask does what is asked of one process. It returns a descriptor to give back,
// or -1. Descriptors of Attach are its own from here on.
func (m *monitor) ask(p *process, req *wire.Request, fds []int, refuse func(string, syscall.Errno)) int {
	fail := func(call string, err error) {
		if no, ok := err.(syscall.Errno); ok {
			refuse(call, no)
		} else if err != nil {
			refuse(call, syscall.EIO)
		}
	}
	switch req.Type {
	case wire.Signal:
		if p.ended {
			refuse("kill", syscall.ESRCH)
			return -1
		}
		// Not reaped yet, so the number is still this process's.
		fail("kill", syscall.Kill(p.pid, syscall.Signal(req.Signal)))
	case wire.Attach:
		return m.attach(p, req.Streams, fds, refuse)
	case wire.Resize:
		if p.flags&wire.TTY == 0 || p.out[0] < 0 {
			refuse("resize", syscall.ENOTTY)
			return -1
		}
		if err := linux.SetTerminalSize(p.out[0], req.Width, req.Height); err != nil {
			refuse("resize", syscall.EIO)
		}
	case wire.Reopen:
		if p.log != nil {
			if err := p.log.Reopen(); err != nil {
				refuse("reopen log", syscall.EIO)
			}
		}
	case wire.Remove:
		if !p.ended {
			refuse("remove", syscall.EBUSY)
			return -1
		}
		m.remove(p)
	}
	return -1
}
