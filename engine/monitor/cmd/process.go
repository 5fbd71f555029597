package main

import (
	"syscall"
	"time"
	"unsafe"

	"sampan/engine/monitor/wire"
	"sampan/internal/linux"
	"sampan/internal/logfile"
)

// process is a container's own process or one executed in it.
type process struct {
	id        string
	flags     uint16
	pid       int
	startTime uint64
	startedAt time.Time
	onExit    []string

	out   [2]int // what it writes: pipes, or the terminal's master as the first; -1 at its end
	stdin int    // where its input is written, -1 if there is none
	log   *logfile.Writer
	atts  []*attachment

	// early is what a terminal showed before anybody looked, to its first
	// earlySize bytes: a shell's first prompt comes before whoever started it
	// has attached. It is nil once somebody has.
	early   []byte
	ended   bool
	code    int
	signal  syscall.Signal
	endedAt time.Time
}

func (p *process) record(t wire.Type) wire.Reply {
	r := wire.Reply{Header: wire.Header{Type: t}, FailedOp: -1, ID: p.id, Pid: uint32(p.pid), StartTime: p.startTime, StartedAt: p.startedAt.UnixNano(),
		Exec: p.flags&wire.Forget != 0, Ended: p.ended}
	if p.ended {
		r.Code, r.Signal, r.EndedAt = uint32(p.code), uint32(p.signal), p.endedAt.UnixNano()
	}
	return r
}

// start carries out a program. All descriptors in fds are closed at its end.
func (m *monitor) start(req *wire.Request, fds []int, reply *wire.Reply) {
	var ours []int // ends of pipes that the child takes
	defer func() { closeAll(fds); closeAll(ours) }()
	refuse := func(call string, err error) {
		reply.Type, reply.Call, reply.Errno = wire.Failed, call, uint32(syscall.EIO)
		for e := err; e != nil; {
			if no, ok := e.(syscall.Errno); ok {
				reply.Errno = uint32(no)
				break
			}
			u, ok := e.(interface{ Unwrap() error })
			if !ok {
				break
			}
			e = u.Unwrap()
		}
	}
	s := &req.Start
	if !plain(req.ID) {
		refuse("check name", syscall.EINVAL)
		return
	}
	if m.procs[req.ID] != nil {
		refuse("register process", syscall.EEXIST)
		return
	}
	if m.closing >= 0 {
		refuse("start process", syscall.ESHUTDOWN)
		return
	}
	next := 0
	take := func(want bool) int {
		if !want || next >= len(fds) {
			return -1
		}
		next++
		return fds[next-1]
	}
	prog, pidns, group := take(true), take(s.Flags&wire.PIDNamespace != 0), take(s.Flags&wire.Cgroup != 0)
	if prog < 0 || s.Flags&wire.PIDNamespace != 0 && pidns < 0 || s.Flags&wire.Cgroup != 0 && group < 0 {
		refuse("count descriptors", syscall.EBADF)
		return
	}
	p := &process{id: req.ID, flags: s.Flags, onExit: s.OnExit, out: [2]int{-1, -1}, stdin: -1}
	if s.Flags&wire.TTY != 0 && s.Flags&wire.PassStdio == 0 {
		p.early = []byte{}
	}
	started := false
	defer func() {
		if !started {
			closeAll(p.out[:])
			closeAll([]int{p.stdin})
			if p.log != nil {
				p.log.Close(time.Now())
			}
		}
	}()
	std := [4]int{-1, -1, -1, -1}
	term := -1
	if s.Flags&wire.PassStdio != 0 {
		for i := range 3 {
			if std[i] = take(true); std[i] < 0 {
				refuse("count descriptors", syscall.EBADF)
				return
			}
		}
	} else if err := p.pipes(&std, &ours); err != nil {
		refuse("make pipes", err)
		return
	}
	if s.Flags&wire.TTY != 0 && s.Flags&wire.PassStdio == 0 {
		pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
		if err != nil {
			refuse("socketpair", err)
			return
		}
		term, std[3] = pair[0], pair[1]
		ours = append(ours, pair[0], pair[1])
	}
	if s.LogPath != "" {
		log, err := logfile.Open(logfile.Config{Path: s.LogPath, Format: logfile.Format(s.LogFormat), MaxSize: s.LogMaxSize, MaxFiles: int(s.LogMaxFiles), Late: s.Flags&wire.LateLog != 0})
		if err != nil {
			refuse("open log "+s.LogPath, err)
			return
		}
		p.log = log
	}
	p.startedAt = time.Now()
	child, failed, notes, err := m.spawn(prog, pidns, group, append(std[:], fds[next:]...))
	reply.Notes = notes
	if err != nil {
		refuse("start process", err)
		return
	}
	if failed >= 0 {
		linux.WaitPid(child)
		reply.Type, reply.Call, reply.FailedOp = wire.Failed, "run program", int32(failed)
		return
	}
	if term >= 0 {
		var oob [64]byte
		var one [1]byte
		_, n, _, _, err := syscall.Recvmsg(term, one[:], oob[:], syscall.MSG_CMSG_CLOEXEC)
		if got := received(oob[:max(n, 0)]); err == nil && len(got) == 1 {
			p.out[0] = got[0]
			syscall.SetNonblock(got[0], true)
		}
	}
	started = true
	p.pid, p.startTime = child, startTime(child)
	for i, fd := range p.out {
		if fd >= 0 {
			if err := m.watch(&source{fd: fd, kind: output, proc: p, stream: i}, syscall.EPOLLIN); err != nil {
				syscall.Close(fd)
				p.out[i] = -1
			}
		}
	}
	m.procs[p.id] = p
	r := p.record(wire.Started)
	r.Seq, r.Notes = req.Seq, notes
	*reply = r
}

// pipes makes the standard descriptors of a process whose output is kept here.
func (p *process) pipes(std *[4]int, ours *[]int) error {
	null, err := syscall.Open("/dev/null", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	*ours = append(*ours, null)
	std[0], std[1], std[2] = null, null, null
	if p.flags&wire.TTY != 0 {
		return nil
	}
	var pair [2]int
	if p.flags&wire.Stdin != 0 {
		if err := syscall.Pipe2(pair[:], syscall.O_CLOEXEC); err != nil {
			return err
		}
		std[0], p.stdin = pair[0], pair[1]
		*ours = append(*ours, pair[0])
	}
	for i := range p.out {
		if err := syscall.Pipe2(pair[:], syscall.O_CLOEXEC); err != nil {
			return err
		}
		p.out[i], std[1+i] = pair[0], pair[1]
		*ours = append(*ours, pair[1])
		if err := syscall.SetNonblock(pair[0], true); err != nil {
			return err
		}
	}
	return nil
}

// spawn maps the program, which is in the file prog, and runs it.
func (m *monitor) spawn(prog, pidns, group int, fds []int) (pid, failed int, notes []wire.Note, err error) {
	var st syscall.Stat_t
	if err := syscall.Fstat(prog, &st); err != nil {
		return 0, -1, nil, err
	}
	mem, err := syscall.Mmap(prog, 0, int(st.Size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE)
	if err != nil {
		return 0, -1, nil, err
	}
	defer syscall.Munmap(mem)
	loaded, err := linux.Load(mem, uintptr(unsafe.Pointer(unsafe.SliceData(mem))), fds)
	if err != nil {
		return 0, -1, nil, err
	}
	if pidns >= 0 {
		own, err := syscall.Open("/proc/self/ns/pid", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err != nil {
			return 0, -1, nil, err
		}
		defer syscall.Close(own)
		if err := linux.Setns(pidns, linux.NewPID); err != nil {
			return 0, -1, nil, err
		}
		// Only what this thread starts is affected, and it starts nothing
		// else before it is back.
		defer linux.Setns(own, linux.NewPID)
	}
	child, failed, err := linux.Spawn(loaded, linux.SpawnConfig{Cgroup: group, Stack: m.stack})
	if err != nil {
		return 0, -1, nil, err
	}
	syscall.Close(child.PidFD)
	for _, n := range loaded.Notes() {
		notes = append(notes, wire.Note{Op: uint32(n.Op), Errno: uint32(n.Errno)})
	}
	return child.Pid, failed, notes, nil
}

// plain names can be files' names.
func plain(id string) bool {
	if id == "" || id[0] == '.' || len(id) > 200 {
		return false
	}
	for i := range len(id) {
		if id[i] == '/' || id[i] < ' ' {
			return false
		}
	}
	return true
}

// startTime is field 22 of /proc/PID/stat; fields are counted from the last
// ')', because a command's name may contain anything.
func startTime(pid int) uint64 {
	fd, err := syscall.Open("/proc/"+itoa(pid)+"/stat", syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer syscall.Close(fd)
	var b [1024]byte
	n, err := syscall.Read(fd, b[:])
	if err != nil {
		return 0
	}
	at := n
	for at > 0 && b[at-1] != ')' {
		at--
	}
	field, v := 2, uint64(0)
	for _, c := range b[at:n] {
		if c == ' ' {
			if field == 22 {
				return v
			}
			field++
		} else if field == 22 {
			v = v*10 + uint64(c-'0')
		}
	}
	return 0
}

func itoa(n int) string {
	var b [20]byte
	i := len(b)
	for {
		i--
		b[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return string(b[i:])
		}
	}
}
