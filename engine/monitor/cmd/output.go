package main

import (
	"syscall"
	"time"

	"sampan/engine/monitor/wire"
	"sampan/internal/logfile"
)

// attachment is somebody's copy of what a process writes.
type attachment struct {
	fd      int
	stream  int
	pending []byte // what fd did not take yet; while there is some, the process is not read
	watched bool
	done    bool // close when pending is empty
}

// earlySize is what is kept of a terminal until somebody attaches.
const earlySize = 4 << 10

// attach takes the descriptors of a caller and returns the one input goes to.
func (m *monitor) attach(p *process, want uint8, fds []int, refuse func(string, syscall.Errno)) int {
	count := 0
	for _, bit := range []uint8{wire.HaveStdout, wire.HaveStderr} {
		if want&bit != 0 {
			count++
		}
	}
	if count != len(fds) || p.ended {
		closeAll(fds)
		if p.ended {
			refuse("attach", syscall.ESRCH)
		} else {
			refuse("count descriptors", syscall.EBADF)
		}
		return -1
	}
	next := 0
	for i, bit := range []uint8{wire.HaveStdout, wire.HaveStderr} {
		if want&bit != 0 {
			syscall.SetNonblock(fds[next], true)
			a := &attachment{fd: fds[next], stream: i}
			p.atts = append(p.atts, a)
			if early := p.early; i == 0 && early != nil {
				p.early = nil
				m.copy(p, a, early)
			}
			next++
		}
	}
	if want&wire.WantStdin == 0 {
		return -1
	}
	if p.flags&wire.TTY != 0 {
		return p.out[0]
	}
	if p.stdin < 0 {
		return -1
	}
	return p.stdin
}

// read takes one piece of what a process wrote to the log and all copies.
func (m *monitor) read(s *source) bool {
	n, err := syscall.Read(s.fd, m.data)
	if err == syscall.EAGAIN || err == syscall.EINTR {
		return false
	}
	p := s.proc
	if err != nil || n == 0 { // EIO: the terminal's other end is closed
		m.forget(s.fd)
		p.out[s.stream] = -1
		m.finish(p)
		return false
	}
	if p.log != nil {
		// A full disk must not stop the process; what is lost is lost.
		_ = p.log.Write(logfile.Stream(s.stream), m.data[:n], time.Now())
	}
	if p.early != nil && len(p.early) < earlySize {
		p.early = append(p.early, m.data[:min(n, earlySize-len(p.early))]...)
	}
	held := false
	for _, a := range append([]*attachment(nil), p.atts...) {
		if a.stream == s.stream {
			m.copy(p, a, m.data[:n])
			held = held || len(a.pending) > 0
		}
	}
	if held && !p.ended {
		m.rewatch(s, 0)
	}
	return true
}

// copy writes what it can and keeps the rest.
func (m *monitor) copy(p *process, a *attachment, b []byte) {
	if len(a.pending) == 0 {
		n, err := writeSome(a.fd, b)
		if err != nil {
			m.detach(p, a)
			return
		}
		b = b[n:]
	}
	if len(b) == 0 {
		return
	}
	a.pending = append(a.pending, b...)
	if !a.watched {
		a.watched = true
		if err := m.watch(&source{fd: a.fd, kind: attached, proc: p, att: a}, syscall.EPOLLOUT); err != nil {
			m.detach(p, a)
		}
	}
}

// drain goes on with a copy whose reader has made room.
func (m *monitor) drain(s *source) {
	a, p := s.att, s.proc
	n, err := writeSome(a.fd, a.pending)
	if err != nil {
		m.detach(p, a)
		return
	}
	if a.pending = a.pending[n:]; len(a.pending) > 0 {
		return
	}
	a.pending, a.watched = nil, false
	syscall.EpollCtl(m.epoll, syscall.EPOLL_CTL_DEL, a.fd, nil)
	delete(m.sources, int32(a.fd))
	if a.done {
		m.detach(p, a)
		return
	}
	m.resume(p, a.stream)
}

// resume reads a process again that was held up by a slow copy.
func (m *monitor) resume(p *process, stream int) {
	for _, a := range p.atts {
		if a.stream == stream && len(a.pending) > 0 {
			return
		}
	}
	if fd := p.out[stream]; fd >= 0 {
		if s := m.sources[int32(fd)]; s != nil {
			m.rewatch(s, syscall.EPOLLIN)
		}
	}
}

func (m *monitor) detach(p *process, a *attachment) {
	m.forget(a.fd)
	for i, b := range p.atts {
		if b == a {
			p.atts = append(p.atts[:i], p.atts[i+1:]...)
			break
		}
	}
	m.resume(p, a.stream)
}

// writeSome writes until all is written or the descriptor takes no more.
func writeSome(fd int, b []byte) (int, error) {
	done := 0
	for done < len(b) {
		n, err := syscall.Write(fd, b[done:])
		switch err {
		case nil:
			done += n
		case syscall.EINTR:
		case syscall.EAGAIN:
			return done, nil
		default:
			return done, err
		}
	}
	return done, nil
}
