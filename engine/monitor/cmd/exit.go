package main

import (
	"syscall"
	"time"

	"sampan/engine/monitor/wire"
	"sampan/internal/linux"
)

// reap waits for everything that has ended: processes started here, orphans,
// programs of OnExit.
func (m *monitor) reap() {
	var b [8]byte
	syscall.Read(m.child, b[:])
	for {
		w, err := linux.WaitAny()
		if err != nil || w.Pid == 0 {
			break
		}
		for _, p := range m.procs {
			if p.pid == w.Pid && !p.ended {
				m.exited(p, w)
				break
			}
		}
	}
	m.maybeEnd()
}

// exited records an end: what was written before it is in the log, then the
// code is on disk, then daemons hear of it.
func (m *monitor) exited(p *process, w linux.Waited) {
	p.ended, p.code, p.signal, p.endedAt = true, w.Code, w.Signal, time.Now()
	if p.signal != 0 {
		p.code = 128 + int(p.signal)
	}
	for _, fd := range p.out {
		if fd >= 0 {
			s := m.sources[int32(fd)]
			for s != nil && m.sources[int32(fd)] == s && m.read(s) {
			}
		}
	}
	m.finish(p) // a line without an end is in the log then
	if p.flags&wire.Forget == 0 {
		m.writeExit(p)
	}
	event := p.record(wire.Exited)
	for fd := range m.conns {
		m.send(fd, &event)
	}
	if p.flags&wire.Forget != 0 {
		m.remove(p)
	}
	if len(p.onExit) > 0 {
		m.runOnExit(p)
	}
}

// finish closes what an ended process does not need: copies once they are
// delivered, its input, and the log when nobody can write to it any more.
func (m *monitor) finish(p *process) {
	if !p.ended {
		return
	}
	for _, a := range append([]*attachment(nil), p.atts...) {
		if p.out[a.stream] >= 0 && p.flags&wire.TTY == 0 {
			continue // a process left behind still holds the pipe
		}
		if len(a.pending) > 0 {
			a.done = true
		} else {
			m.detach(p, a)
		}
	}
	if p.stdin >= 0 {
		syscall.Close(p.stdin)
		p.stdin = -1
	}
	if p.log != nil && p.out[0] < 0 && p.out[1] < 0 {
		p.log.Close(time.Now())
		p.log = nil
	}
}

// writeExit puts "code signal nanoseconds" into the file exit/ID of the pod's
// directory. The rename makes it whole or absent; there is no fsync, because
// after a power failure there is no process to ask about either.
func (m *monitor) writeExit(p *process) {
	name, tmp := "exit/"+p.id, "exit/."+p.id
	fd, err := syscall.Openat(dirFD, tmp, syscall.O_WRONLY|syscall.O_CREAT|syscall.O_TRUNC|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		syscall.Write(2, []byte("monitor: write "+name+": "+err.Error()+"\n"))
		return
	}
	line := itoa(p.code) + " " + itoa(int(p.signal)) + " " + itoa(int(p.endedAt.UnixNano())) + "\n"
	_, err = syscall.Write(fd, []byte(line))
	syscall.Close(fd)
	if err == nil {
		err = syscall.Renameat(dirFD, tmp, dirFD, name)
	}
	if err != nil {
		syscall.Write(2, []byte("monitor: write "+name+": "+err.Error()+"\n"))
	}
}

// remove forgets an ended process.
func (m *monitor) remove(p *process) {
	for i, fd := range p.out {
		if fd >= 0 {
			m.forget(fd)
			p.out[i] = -1
		}
	}
	m.finish(p)
	for _, a := range append([]*attachment(nil), p.atts...) {
		if !a.done {
			m.detach(p, a)
		}
	}
	if p.flags&wire.Forget == 0 {
		syscall.Unlinkat(dirFD, "exit/"+p.id)
	}
	delete(m.procs, p.id)
}

// runOnExit starts the program that was asked for; nobody waits for it but reap.
func (m *monitor) runOnExit(p *process) {
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer syscall.Close(null)
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	_, err = syscall.ForkExec(p.onExit[0], p.onExit, &syscall.ProcAttr{Dir: "/", Env: env,
		Files: []uintptr{uintptr(null), uintptr(null), 2}, Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		syscall.Write(2, []byte("monitor: run "+p.onExit[0]+": "+err.Error()+"\n"))
	}
}

// maybeEnd ends the monitor once it was asked to and nothing runs.
func (m *monitor) maybeEnd() {
	if m.closing < 0 {
		return
	}
	for _, p := range m.procs {
		if !p.ended {
			return
		}
	}
	if m.closing > 0 {
		m.send(m.closing, &wire.Reply{Header: wire.Header{Type: wire.OK, Seq: m.seq}, FailedOp: -1})
	}
	syscall.Exit(0)
}
