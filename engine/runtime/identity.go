package runtime

import (
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"sampan/engine/monitor/wire"
	"sampan/internal/linux"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func itoa(n int) string { return strconv.Itoa(n) }

// process gives the child its descriptors, limits, identity and rights, and
// executes the program: the part that a container's own process and one
// executed in it later have in common. tty says that a terminal is on 0, 1, 2
// already.
func (a *assembler) process(s *specs.Spec, f facts, tty bool) (warnings []string, err error) {
	p := s.Process
	if !tty {
		a.because("standard descriptors")
		for i := range 3 {
			a.op("dup3("+itoa(i)+")", linux.SysDup3, fd(wire.StdinFD+i), num(i), num(0))
		}
	}
	if p.User.UID != 0 {
		// So that /dev/stdout can be opened by the user (as runc has it).
		for i := range 3 {
			a.quiet("fchown("+itoa(i)+")", linux.SysFchown, num(i), num(p.User.UID), num(^uint64(0)))
		}
	}
	dir := path.Clean("/" + p.Cwd)
	a.because("working directory")
	a.op("chdir("+dir+")", linux.SysChdir, a.str(dir))

	warnings = append(warnings, a.rlimits(p.Rlimits, f.limits)...)
	umask := uint32(0o022)
	if p.User.Umask != nil {
		umask = *p.User.Umask
	}
	a.op("umask("+strconv.FormatUint(uint64(umask), 8)+")", linux.SysUmask, num(umask))

	var filter []byte
	var flags uint64
	if s.Linux != nil && s.Linux.Seccomp != nil {
		build := compileSeccomp
		if f.seccomp != nil {
			build = f.seccomp
		}
		if filter, flags, err = build(s.Linux.Seccomp); err != nil {
			return warnings, err
		}
	}
	seccomp := func() {
		if filter == nil {
			return
		}
		a.because("filter system calls: " + itoa(len(filter)/8) + " instructions")
		prog := a.words(uint64(len(filter)/8), 0)
		a.pointer(prog, 8, a.mem(filter))
		a.op("seccomp(SECCOMP_SET_MODE_FILTER)", linux.SysSeccomp, num(linux.SeccompFilter), num(flags), prog)
	}
	if !p.NoNewPrivileges {
		seccomp() // takes CAP_SYS_ADMIN, which the next lines may give up
	}
	caps, lacking, err := wantedCaps(p.Capabilities, f.own)
	if err != nil {
		return warnings, err
	}
	if len(lacking) > 0 {
		warnings = append(warnings, "capabilities not given, because this process lacks them: "+strings.Join(lacking, ", "))
	}
	a.because("capabilities and user")
	for c := range 64 {
		if f.own.bounding&^caps.bounding&(1<<c) != 0 {
			a.op("prctl(PR_CAPBSET_DROP, "+capName(c)+")", linux.SysPrctl, num(linux.DropBounding), num(c))
		}
	}
	if p.User.UID != 0 {
		a.op("prctl(PR_SET_KEEPCAPS, 1)", linux.SysPrctl, num(linux.SetKeepCaps), num(1))
	}
	groups := make([]byte, 0, 4*len(p.User.AdditionalGids))
	for _, g := range p.User.AdditionalGids {
		groups = append(groups, byte(g), byte(g>>8), byte(g>>16), byte(g>>24))
	}
	a.op("setgroups("+itoa(len(p.User.AdditionalGids))+")", linux.SysSetgroups, num(len(p.User.AdditionalGids)), a.mem(groups))
	g, u := num(p.User.GID), num(p.User.UID)
	a.op("setresgid("+itoa(int(p.User.GID))+")", linux.SysSetresgid, g, g, g)
	a.op("setresuid("+itoa(int(p.User.UID))+")", linux.SysSetresuid, u, u, u)
	if p.User.UID != 0 {
		a.op("prctl(PR_SET_KEEPCAPS, 0)", linux.SysPrctl, num(linux.SetKeepCaps), num(0))
	}
	header := a.words(linux.CapabilityHeader)
	low := func(v uint64) uint64 { return v & 0xffffffff }
	data := a.words(low(caps.effective)|low(caps.permitted)<<32, low(caps.inheritable)|(caps.effective>>32)<<32,
		caps.permitted>>32|(caps.inheritable>>32)<<32)
	a.op("capset()", linux.SysCapset, header, data)
	a.quiet("prctl(PR_CAP_AMBIENT, CLEAR_ALL)", linux.SysPrctl, num(linux.Ambient), num(linux.AmbientClearAll))
	for c := range 64 {
		if caps.ambient&(1<<c) != 0 {
			a.try("prctl(PR_CAP_AMBIENT, RAISE, "+capName(c)+")", linux.SysPrctl, num(linux.Ambient), num(linux.AmbientRaise), num(c))
		}
	}
	if !f.noDeath {
		// A change of user has cleared it, so it comes after.
		a.op("prctl(PR_SET_PDEATHSIG, SIGKILL)", linux.SysPrctl, num(linux.SetDeathSignal), num(9))
	}
	if p.NoNewPrivileges {
		a.because("no new privileges by executing")
		a.op("prctl(PR_SET_NO_NEW_PRIVS)", linux.SysPrctl, num(linux.SetNoNewPrivs), num(1))
		seccomp()
	}
	a.because("everything above standard error closes on exec")
	a.op("close_range(3, CLOSE_RANGE_CLOEXEC)", linux.SysCloseRange, num(3), num(^uint32(0)), num(linux.CloseOnExec))
	a.because("signals that whoever started this program had it ignore")
	for _, n := range f.ignored {
		a.op("rt_sigaction("+strconv.Itoa(n)+", SIG_DFL)", syscall.SYS_RT_SIGACTION, num(n), a.words(0, 0, 0, 0), num(0), num(8))
	}
	a.op("rt_sigprocmask(SIG_SETMASK, [])", linux.SysRtSigprocmask, num(2), a.words(0), num(0), num(8))
	a.exec(p)
	return warnings, nil
}

// workDir makes the working directory where it is missing, as Docker does.
func (a *assembler) workDir(p *specs.Process) {
	if dir := path.Clean("/" + p.Cwd); dir != "/" {
		a.because("working directory")
		a.mountPoint(dir, true)
	}
}

// defaultPath is where programs are looked for if the environment has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// exec tries the places where the program may be, in the order of PATH.
func (a *assembler) exec(p *specs.Process) {
	name := p.Args[0]
	tries := []string{name}
	if !strings.Contains(name, "/") {
		search := defaultPath
		for _, e := range p.Env {
			if v, ok := strings.CutPrefix(e, "PATH="); ok {
				search = v
			}
		}
		tries = tries[:0]
		for _, d := range strings.Split(search, ":") {
			if d != "" && name != "" {
				tries = append(tries, path.Join("/", d, name))
			}
		}
		if len(tries) == 0 {
			tries = []string{"/" + name}
		}
	}
	argv, envp := a.strings(p.Args), a.strings(p.Env)
	for i, t := range tries {
		at := a.op("execve("+t+")", linux.SysExecve, a.str(t), argv, envp)
		a.p.Ops[at].Must = i == len(tries)-1
		a.p.Steps[at].Quiet = true
		a.p.Steps[at].kind = execStep
	}
}

var rlimits = []string{"RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_RSS", "RLIMIT_NPROC", "RLIMIT_NOFILE",
	"RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS", "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME"}

// rlimits are capped at what this process may give (a hard limit cannot be
// raised without CAP_SYS_RESOURCE, nor that of files above nr_open with it): a
// container must not fail for it.
func (a *assembler) rlimits(list []specs.POSIXRlimit, own map[string]uint64) (warnings []string) {
	for _, r := range list {
		n := slices.Index(rlimits, r.Type) // checked by unsupported
		soft, hard := r.Soft, r.Hard
		if limit, ok := own[r.Type]; ok && hard > limit {
			warnings = append(warnings, r.Type+" is capped at "+strconv.FormatUint(limit, 10)+", the most that this process may give")
			hard = limit
			soft = min(soft, limit)
		}
		a.because(r.Type)
		a.op("prlimit64("+r.Type+")", linux.SysPrlimit64, num(0), num(n), a.words(soft, hard))
	}
	return warnings
}
