package runtime

import (
	"path"
	"slices"
	"strings"
	"syscall"

	"sampan/engine/monitor/wire"
	"sampan/internal/fault"
	"sampan/internal/linux"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// facts is what a program depends on beside the specification: what the
// machine looks like and what the caller holds. Whoever gathers it does I/O, so
// that compile need not.
type facts struct {
	ignored []int // signals to be set back to their default
	rootfs  string
	dirs    []bool // for each of Spec.Mounts: its source is a directory
	tasks   int    // version 1 tasks files that are passed
	view    cgroupView
	own     capSets
	limits  map[string]uint64 // this process's hard limits, by RLIMIT name
	newPID  bool              // the child is process 1 of a new namespace
	newUTS  bool              // the hostname differs from the pod's
	inGroup bool              // clone3 puts the child into its version 2 group
	joins   []join            // namespaces the specification gives by path
	oom     *int
	noDeath bool // the process may outlive its monitor
	// seccomp is compileSeccomp or something that remembers its results.
	seccomp func(*specs.LinuxSeccomp) ([]byte, uint64, error)
}

// join is a namespace to enter by a descriptor.
type join struct {
	kind int
	name string
}

// compiled is a program and what the starter has to send with it, in the order
// of the program's descriptors: tasks files, then namespaces.
type compiled struct {
	*Program
	warnings []string
}

// compile lays out everything between clone3 and execve. The order is the one
// that is right: control groups first, so that all that follows is accounted;
// sources while the machine's root is there; the container's root; what is
// mounted in it; then rights given up from the strongest to the weakest; exec.
func compile(s *specs.Spec, f facts) (compiled, error) {
	var c compiled
	if err := unsupported(s); err != nil {
		return c, err
	}
	opts := make([]mountOptions, len(s.Mounts))
	for i, m := range s.Mounts {
		var err error
		if opts[i], err = parseOptions(m.Options); err != nil {
			return c, err
		}
		if m.Type == "bind" {
			opts[i].bind = true
		}
		if !path.IsAbs(m.Destination) || path.Clean(m.Destination) == "/" {
			return c, &fault.Error{Class: fault.Invalid, Op: "mount", On: m.Destination, Fix: "give an absolute path below / as the destination"}
		}
		s.Mounts[i].Destination = path.Clean(m.Destination)
	}
	a := newAssembler()
	a.p.Flags = linux.NewMount
	if f.newPID {
		a.p.Flags |= linux.NewPID
	}
	if f.newUTS {
		a.p.Flags |= linux.NewUTS
	}

	a.p.inGroup = f.inGroup
	a.joinCgroups(f.tasks)
	a.oomScore(f.oom)
	a.because("a session of its own")
	a.op("setsid()", linux.SysSetsid)
	for _, j := range f.joins {
		a.because("enter the given " + j.name + " namespace")
		a.op("setns("+j.name+")", linux.SysSetns, fd(a.pass()), num(j.kind))
	}
	if hasNamespace(s, specs.CgroupNamespace) {
		a.because("see the own control group as the root")
		a.op("unshare(CLONE_NEWCGROUP)", linux.SysUnshare, num(linux.NewCgroup))
	}
	if f.newUTS {
		a.hostname(s)
	}
	a.op("umask(0)", linux.SysUmask, num(0))

	sources := a.openSources(s.Mounts, opts)
	view := map[string]arg{}
	if slices.ContainsFunc(s.Mounts, isCgroup) {
		view = a.openView(f.view)
	}
	var masked, readonly []string
	if s.Linux != nil {
		masked, readonly = s.Linux.MaskedPaths, s.Linux.ReadonlyPaths
	}
	nulls := make([]arg, len(masked))
	for i, p := range masked {
		nulls[i] = a.openNull(p)
	}
	a.root(f.rootfs)

	for i, m := range s.Mounts {
		switch {
		case opts[i].bind:
			a.bindMount(m, opts[i], sources[i], f.dirs[i])
		case isCgroup(m):
			a.cgroupMount(m, opts[i], f.view, view)
		default:
			a.newMount(m, opts[i])
		}
	}
	own := !slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool {
		return m.Destination == "/dev" && slices.ContainsFunc(m.Options, func(o string) bool { return o == "bind" || o == "rbind" })
	})
	if own {
		a.devices(s)
	}
	if s.Linux != nil {
		a.sysctls(s.Linux.Sysctl)
	}
	tty := s.Process.Terminal
	if tty {
		a.terminal(s.Process)
	}
	a.rootPropagation(s)
	for _, p := range readonly {
		a.readOnly(p)
	}
	for i, p := range masked {
		a.mask(p, nulls[i])
	}
	a.workDir(s.Process)
	if s.Root != nil && s.Root.Readonly {
		a.because("make the root read-only")
		a.op("mount_setattr(/, ro)", linux.SysMountSetattr, cwd, a.str("/"), num(0), a.attr(linux.AttrReadOnly, 0, 0), num(32))
	}
	warn, err := a.process(s, f, tty)
	c.Program, c.warnings = a.program(), warn
	return c, err
}

// unsupported names what a specification asks for that is not there yet.
// Nothing is left out silently.
func unsupported(s *specs.Spec) error {
	no := func(what string) error {
		return &fault.Error{Class: fault.Invalid, Op: "read container configuration", On: what, Fix: "this is not there yet"}
	}
	if s.Process == nil || len(s.Process.Args) == 0 {
		return &fault.Error{Class: fault.Invalid, Op: "read container configuration", On: "process.args", Fix: "name a program to run"}
	}
	if s.Process.Cwd != "" && !path.IsAbs(s.Process.Cwd) {
		return &fault.Error{Class: fault.Invalid, Op: "read container configuration", On: "process.cwd " + s.Process.Cwd, Fix: "give an absolute path"}
	}
	if s.Hooks != nil && len(s.Hooks.Prestart)+len(s.Hooks.CreateRuntime)+len(s.Hooks.CreateContainer)+len(s.Hooks.StartContainer)+len(s.Hooks.Poststart)+len(s.Hooks.Poststop) > 0 {
		return no("hooks")
	}
	p := s.Process
	if p.ApparmorProfile != "" && p.ApparmorProfile != "unconfined" {
		return no("process.apparmorProfile")
	}
	if p.SelinuxLabel != "" {
		return no("process.selinuxLabel")
	}
	if p.Scheduler != nil || p.IOPriority != nil || p.ExecCPUAffinity != nil {
		return no("process.scheduler, ioPriority, execCPUAffinity")
	}
	for _, r := range p.Rlimits {
		if !slices.Contains(rlimits, r.Type) {
			return &fault.Error{Class: fault.Invalid, Op: "read container configuration", On: "rlimit " + r.Type, Fix: "no limit has this name"}
		}
	}
	l := s.Linux
	if l == nil {
		return nil
	}
	switch {
	case hasNamespace(s, specs.UserNamespace) || len(l.UIDMappings) > 0 || len(l.GIDMappings) > 0:
		return no("linux.namespaces: user")
	case hasNamespace(s, specs.TimeNamespace) || len(l.TimeOffsets) > 0:
		return no("linux.namespaces: time")
	case l.MountLabel != "":
		return no("linux.mountLabel")
	case l.IntelRdt != nil:
		return no("linux.intelRdt")
	case l.Personality != nil && l.Personality.Domain != specs.PerLinux:
		return no("linux.personality")
	case len(l.NetDevices) > 0:
		return no("linux.netDevices")
	case l.MemoryPolicy != nil:
		return no("linux.memoryPolicy")
	}
	return nil
}

func hasNamespace(s *specs.Spec, t specs.LinuxNamespaceType) bool {
	return s.Linux != nil && slices.ContainsFunc(s.Linux.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == t })
}

func isCgroup(m specs.Mount) bool { return m.Type == "cgroup" || m.Type == "cgroup2" }

// joinCgroups writes 0, the writer itself, to each tasks file.
func (a *assembler) joinCgroups(n int) {
	if n > 0 {
		a.because("join the control groups")
	}
	zero := a.str("0")
	for range n {
		a.op("write(tasks, 0)", linux.SysWrite, fd(a.pass()), zero, num(1))
	}
}

// oomScore comes while the machine's /proc is there.
func (a *assembler) oomScore(adj *int) {
	if adj == nil {
		return
	}
	a.because("choose among victims when memory runs out")
	v := itoa(*adj)
	f := a.result(a.op("openat(/proc/self/oom_score_adj)", linux.SysOpenat, cwd, a.str("/proc/self/oom_score_adj"), num(syscall.O_WRONLY|syscall.O_CLOEXEC)))
	a.try("write(oom_score_adj, "+v+")", linux.SysWrite, f, a.str(v), num(len(v)))
	a.close(f)
}

func (a *assembler) hostname(s *specs.Spec) {
	a.because("name the machine")
	a.op("sethostname("+s.Hostname+")", linux.SysSethostname, a.str(s.Hostname), num(len(s.Hostname)))
	if s.Domainname != "" {
		a.op("setdomainname("+s.Domainname+")", linux.SysSetdomainname, a.str(s.Domainname), num(len(s.Domainname)))
	}
}

// root makes rootfs the root directory and lets go of the machine's.
func (a *assembler) root(rootfs string) {
	a.because("the container's root: " + rootfs)
	tree := a.result(a.op("open_tree("+rootfs+", OPEN_TREE_CLONE|AT_RECURSIVE)", linux.SysOpenTree, cwd, a.str(rootfs), num(linux.OpenTreeClone|linux.AtRecursive|syscall.O_CLOEXEC)))
	// pivot_root refuses shared parents, and nothing mounted from here on may
	// show on the machine.
	a.op("mount_setattr(/, AT_RECURSIVE, MS_SLAVE)", linux.SysMountSetattr, cwd, a.str("/"), num(linux.AtRecursive), a.attr(0, 0, linux.Slave), num(32))
	a.op("mount_setattr(root, AT_RECURSIVE, MS_PRIVATE)", linux.SysMountSetattr, tree, a.str(""), num(linux.AtEmptyPath|linux.AtRecursive), a.attr(0, 0, linux.Private), num(32))
	a.place(tree, rootfs)
	a.op("fchdir(root)", linux.SysFchdir, tree)
	a.op(`pivot_root(".", ".")`, linux.SysPivotRoot, a.str("."), a.str("."))
	a.op(`umount2(".", MNT_DETACH)`, linux.SysUmount2, a.str("."), num(linux.Detach))
	a.op("chdir(/)", linux.SysChdir, a.str("/"))
	a.close(tree)
}

func (a *assembler) rootPropagation(s *specs.Spec) {
	if s.Linux == nil || s.Linux.RootfsPropagation == "" {
		return
	}
	word := s.Linux.RootfsPropagation
	p, flags := propagations[word], 0
	if rest, ok := strings.CutPrefix(word, "r"); ok && p == 0 {
		p, flags = propagations[rest], linux.AtRecursive
	}
	if p == 0 || p == linux.Private || p == linux.Slave {
		return // private already: nothing reaches it from outside
	}
	a.because("propagation of the root: " + word)
	a.op("mount_setattr(/, "+word+")", linux.SysMountSetattr, cwd, a.str("/"), num(flags), a.attr(0, 0, p), num(32))
}

// sysctls are written before /proc/sys becomes read-only.
func (a *assembler) sysctls(values map[string]string) {
	for _, k := range sortedKeys(values) {
		p := sysctlPath(k)
		a.because("sysctl " + k)
		f := a.result(a.op("openat("+p+")", linux.SysOpenat, cwd, a.str(p), num(syscall.O_WRONLY|syscall.O_CLOEXEC)))
		v := values[k]
		a.op("write("+v+")", linux.SysWrite, f, a.str(v), num(len(v)))
		a.close(f)
	}
}

// sysctlPath turns net.ipv4.conf.eth0/1.forwarding into a file: dots and
// slashes change places (sysctl.d(5)).
func sysctlPath(key string) string {
	swapped := strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, key)
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '/' {
		swapped = key
	}
	return path.Join("/proc/sys", path.Clean("/"+swapped))
}

// devices makes what every container finds in /dev (runtime specification,
// Linux: default devices, symbolic links), then what is asked for.
func (a *assembler) devices(s *specs.Spec) {
	a.because("device nodes and links in /dev")
	a.quiet("mkdirat(/dev)", linux.SysMkdirat, cwd, a.str("/dev"), num(0o755))
	type node struct {
		name         string
		major, minor uint64
	}
	for _, d := range []node{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}} {
		p := "/dev/" + d.name
		i := a.op("mknodat("+p+")", linux.SysMknodat, cwd, a.str(p), num(syscall.S_IFCHR|0o666), num(makedev(d.major, d.minor)))
		a.allow(i, syscall.EEXIST)
	}
	for _, l := range [][2]string{{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"}, {"pts/ptmx", "ptmx"}, {"/proc/kcore", "core"}} {
		if l[1] == "core" && s.Linux != nil && slices.Contains(s.Linux.MaskedPaths, "/proc/kcore") {
			continue
		}
		i := a.op("symlinkat("+l[0]+", /dev/"+l[1]+")", linux.SysSymlinkat, a.str(l[0]), cwd, a.str("/dev/"+l[1]))
		a.allow(i, syscall.EEXIST)
	}
	if s.Linux == nil {
		return
	}
	for _, d := range s.Linux.Devices {
		var mode uint32 = syscall.S_IFCHR
		switch d.Type {
		case "b":
			mode = syscall.S_IFBLK
		case "p":
			mode = syscall.S_IFIFO
		}
		perm := uint32(0o666)
		if d.FileMode != nil {
			perm = uint32(d.FileMode.Perm())
		}
		a.because("device " + d.Path)
		dir := path.Dir(path.Clean(d.Path))
		if dir != "/dev" && dir != "/" {
			a.mountPoint(dir, true)
		}
		// Not every node may be made by everyone (a disk's, here): the
		// container then goes without it, and its starter is told.
		i := a.try("mknodat("+d.Path+")", linux.SysMknodat, cwd, a.str(d.Path), num(mode|perm), num(makedev(uint64(d.Major), uint64(d.Minor))))
		a.allow(i, syscall.EEXIST)
		a.p.Steps[i].Quiet = false
		if d.UID != nil || d.GID != nil {
			var uid, gid uint32
			if d.UID != nil {
				uid = *d.UID
			}
			if d.GID != nil {
				gid = *d.GID
			}
			a.quiet("fchownat("+d.Path+")", linux.SysFchownat, cwd, a.str(d.Path), num(uid), num(gid), num(linux.AtNoFollow))
		}
	}
}

// makedev is makedev(3) as mknod(2) takes it.
func makedev(major, minor uint64) uint64 {
	return minor&0xff | (major&0xfff)<<8 | (minor&^0xff)<<12
}

// terminal makes a pseudo terminal in the container's own devpts and sends its
// master to the monitor over the socket it passes for that.
func (a *assembler) terminal(p *specs.Process) {
	a.because("the terminal; its master goes to the monitor")
	m := a.op("openat(/dev/pts/ptmx)", linux.SysOpenat, cwd, a.str("/dev/pts/ptmx"), num(syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC))
	// struct msghdr with one byte and one SCM_RIGHTS message, whose descriptor
	// is where the result of the call above goes.
	cmsg := a.words(16+4, syscall.SOL_SOCKET|syscall.SCM_RIGHTS<<32, 0)
	a.p.Ops[m].Out = uint32(cmsg.Value) + 16
	master := slot(uint32(cmsg.Value) + 16)
	iov := a.words(0, 1)
	a.pointer(iov, 0, a.str("t"))
	hdr := a.words(0, 0, 0, 1, 0, 24, 0)
	a.pointer(hdr, 16, iov)
	a.pointer(hdr, 32, cmsg)
	a.op("ioctl(TIOCSPTLCK, 0)", linux.SysIoctl, master, num(linux.LockTerminal), a.words(0))
	s := a.result(a.op("ioctl(TIOCGPTPEER)", linux.SysIoctl, master, num(linux.PeerOfTerminal), num(syscall.O_RDWR|syscall.O_NOCTTY|syscall.O_CLOEXEC)))
	if p.ConsoleSize != nil {
		a.op("ioctl(TIOCSWINSZ)", linux.SysIoctl, s, num(linux.SetTerminalSizeReq), a.words(uint64(p.ConsoleSize.Height&0xffff)|uint64(p.ConsoleSize.Width&0xffff)<<16))
	}
	a.op("sendmsg(master)", linux.SysSendmsg, fd(wire.TerminalFD), hdr, num(0))
	a.quiet("mknodat(/dev/console)", linux.SysMknodat, cwd, a.str("/dev/console"), num(syscall.S_IFREG|0o620), num(0))
	t := a.result(a.op("open_tree(terminal, OPEN_TREE_CLONE)", linux.SysOpenTree, s, a.str(""), num(linux.OpenTreeClone|linux.AtEmptyPath|syscall.O_CLOEXEC)))
	a.place(t, "/dev/console")
	a.close(t)
	for i := range 3 {
		a.op("dup3(terminal, "+itoa(i)+")", linux.SysDup3, s, num(i), num(0))
	}
	a.close(s)
	a.close(master)
	a.controlling()
}

func (a *assembler) controlling() {
	a.op("ioctl(0, TIOCSCTTY)", linux.SysIoctl, num(0), num(linux.ControllingTTY), num(0))
}
