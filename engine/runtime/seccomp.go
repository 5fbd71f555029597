package runtime

import (
	"encoding/binary"
	goruntime "runtime"
	"slices"

	"sampan/internal/fault"
	"sampan/internal/linux"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Actions of a filter, linux/seccomp.h.
const (
	killProcess = 0x80000000
	killThread  = 0x00000000
	trap        = 0x00030000
	errnoAction = 0x00050000
	trace       = 0x7ff00000
	logAction   = 0x7ffc0000
	allow       = 0x7fff0000

	eperm  = 1
	enosys = 38
)

// Instructions of classic BPF and where struct seccomp_data has its fields.
const (
	bpfLoad = 0x20
	bpfAnd  = 0x54
	bpfJmp  = 0x05
	bpfJeq  = 0x15
	bpfJgt  = 0x25
	bpfJge  = 0x35
	bpfRet  = 0x06

	offNR, offArch, offArgs = 0, 4, 16
	maxFilter               = 4096 // instructions, BPF_MAXINSNS
)

type insn struct {
	code   uint16
	jt, jf uint8
	k      uint32
}

// nativeArch is the architecture of this program.
func nativeArch() uint32 {
	if goruntime.GOARCH == "arm64" {
		return linux.ArchAARCH64
	}
	return linux.ArchX86_64
}

var seccompArchs = map[specs.Arch]uint32{
	specs.ArchX86_64: linux.ArchX86_64, specs.ArchX86: linux.ArchI386,
	specs.ArchAARCH64: linux.ArchAARCH64, specs.ArchARM: linux.ArchARM,
}

// compileSeccomp makes a filter out of a profile. For each architecture the
// numbers are sorted into ranges of equal treatment and found by a binary
// search: a linear list of 350 calls costs a microsecond for every system call
// the container makes. It returns the instructions as bytes and the flags of
// seccomp(2).
func compileSeccomp(s *specs.LinuxSeccomp) ([]byte, uint64, error) {
	invalid := func(on, fix string) error {
		return &fault.Error{Class: fault.Invalid, Op: "compile seccomp profile", On: on, Fix: fix}
	}
	if s.ListenerPath != "" {
		return nil, 0, invalid("listenerPath", "handing system calls to a listener is not there yet")
	}
	var flags uint64
	for _, f := range s.Flags {
		switch f {
		case "SECCOMP_FILTER_FLAG_TSYNC": // one thread only: nothing to do
		case specs.LinuxSeccompFlagLog:
			flags |= 2
		case specs.LinuxSeccompFlagSpecAllow:
			flags |= 4
		default:
			return nil, 0, invalid(string(f), "this flag is not there yet")
		}
	}
	def, ok := action(s.DefaultAction, s.DefaultErrnoRet)
	if !ok {
		return nil, 0, invalid(string(s.DefaultAction), "no such action, or one that is not there yet")
	}
	archs := []uint32{nativeArch()}
	for _, a := range s.Architectures {
		// One this kernel never runs needs no rules: the filter kills it.
		if n, ok := seccompArchs[a]; ok && !slices.Contains(archs, n) {
			archs = append(archs, n)
		}
	}
	var out []insn
	for _, arch := range archs {
		body, err := compileArch(s, arch, def)
		if err != nil {
			return nil, 0, err
		}
		out = append(out, insn{bpfLoad, 0, 0, offArch}, insn{bpfJeq, 1, 0, arch}, insn{bpfJmp, 0, 0, uint32(len(body))})
		out = append(out, body...)
	}
	out = append(out, insn{bpfRet, 0, 0, killProcess})
	if len(out) > maxFilter {
		return nil, 0, invalid(itoa(len(out))+" instructions", "the kernel takes 4096: name fewer system calls with arguments")
	}
	b := make([]byte, 0, 8*len(out))
	for _, i := range out {
		b = binary.LittleEndian.AppendUint16(b, i.code)
		b = append(b, i.jt, i.jf)
		b = binary.LittleEndian.AppendUint32(b, i.k)
	}
	return b, flags, nil
}

func action(a specs.LinuxSeccompAction, errno *uint) (uint32, bool) {
	data := func(def uint32) uint32 {
		if errno != nil {
			return uint32(*errno) & 0xffff
		}
		return def
	}
	switch a {
	case specs.ActKill, specs.ActKillThread:
		return killThread, true
	case specs.ActKillProcess:
		return killProcess, true
	case specs.ActTrap:
		return trap, true
	case specs.ActErrno:
		return errnoAction | data(eperm), true
	case specs.ActTrace:
		return trace | data(eperm), true
	case specs.ActLog:
		return logAction, true
	case specs.ActAllow:
		return allow, true
	}
	return 0, false
}

// rule is what to do with one system call: action if there are no conditions,
// else the first alternative whose conditions hold, else the default.
type rule struct {
	action uint32
	when   []alternative
}

type alternative struct {
	action uint32
	args   []specs.LinuxSeccompArg
}

func (r *rule) plain() bool { return len(r.when) == 0 }

// span is a range of numbers from its start to the next span's.
type span struct {
	start uint32
	rule  *rule
}

func compileArch(s *specs.LinuxSeccomp, arch, def uint32) ([]insn, error) {
	numbers := linux.Syscalls(arch)
	rules := map[uint32]*rule{}
	for _, sc := range s.Syscalls {
		act, ok := action(sc.Action, sc.ErrnoRet)
		if !ok {
			return nil, &fault.Error{Class: fault.Invalid, Op: "compile seccomp profile", On: string(sc.Action), Fix: "no such action, or one that is not there yet"}
		}
		for _, name := range sc.Names {
			nr, ok := numbers[name]
			if !ok {
				continue // of another architecture, or newer than this program
			}
			r := rules[nr]
			if r != nil && r.plain() {
				continue // decided already, whatever the arguments
			}
			if len(sc.Args) == 0 {
				rules[nr] = &rule{action: act}
				continue
			}
			if r == nil {
				r = &rule{action: def}
				rules[nr] = r
			}
			r.when = append(r.when, alternatives(act, sc.Args)...)
		}
	}
	sorted := make([]uint32, 0, len(rules))
	for nr := range rules {
		sorted = append(sorted, nr)
	}
	slices.Sort(sorted)
	fallback := &rule{action: def}
	spans := []span{{0, fallback}}
	add := func(start uint32, r *rule) {
		last := &spans[len(spans)-1]
		switch {
		case last.rule == r || last.rule.plain() && r.plain() && last.rule.action == r.action:
		case last.start == start:
			last.rule = r
			// It may now continue the one before.
			if n := len(spans); n > 1 && spans[n-2].rule.plain() && r.plain() && spans[n-2].rule.action == r.action {
				spans = spans[:n-1]
			}
		default:
			spans = append(spans, span{start, r})
		}
	}
	for _, nr := range sorted {
		add(nr, rules[nr])
		add(nr+1, fallback)
	}
	if n := len(sorted); n > 0 && def&0xffff0000 == errnoAction && def != errnoAction|enosys {
		// Calls newer than the profile: programs take "no such call" for what
		// it is, and "not permitted" for a failure (as runc has it).
		add(sorted[n-1]+1, &rule{action: errnoAction | enosys})
	}
	tree, err := search(spans)
	if err != nil {
		return nil, err
	}
	return append([]insn{{bpfLoad, 0, 0, offNR}}, tree...), nil
}

// alternatives splits conditions. All of a rule hold together, except that
// several on one argument are alternatives (as libseccomp's users have it).
func alternatives(act uint32, args []specs.LinuxSeccompArg) []alternative {
	count := map[uint]int{}
	for _, a := range args {
		count[a.Index]++
		if count[a.Index] > 1 {
			out := make([]alternative, len(args))
			for i := range args {
				out[i] = alternative{act, args[i : i+1]}
			}
			return out
		}
	}
	return []alternative{{act, args}}
}

// search lays out a binary search. Every branch ends in a return.
func search(spans []span) ([]insn, error) {
	if len(spans) == 1 {
		return leaf(spans[0].rule)
	}
	mid := len(spans) / 2
	left, err := search(spans[:mid])
	if err != nil {
		return nil, err
	}
	right, err := search(spans[mid:])
	if err != nil {
		return nil, err
	}
	var out []insn
	if len(left) <= 255 {
		out = append(out, insn{bpfJge, uint8(len(left)), 0, spans[mid].start})
	} else {
		// Conditional jumps reach 255 only.
		out = append(out, insn{bpfJge, 0, 1, spans[mid].start}, insn{bpfJmp, 0, 0, uint32(len(left))})
	}
	return append(append(out, left...), right...), nil
}

func leaf(r *rule) ([]insn, error) {
	var out []insn
	for _, alt := range r.when {
		checks, err := conditions(alt.args)
		if err != nil {
			return nil, err
		}
		out = append(out, checks...)
		out = append(out, insn{bpfRet, 0, 0, alt.action})
	}
	return append(out, insn{bpfRet, 0, 0, r.action}), nil
}

// conditions falls through when all hold and jumps over one instruction past
// its end when one does not.
func conditions(args []specs.LinuxSeccompArg) ([]insn, error) {
	// What follows is a single return: a check that fails jumps past it. Jumps
	// are first marked, then resolved, as the length is known at the end only.
	const pass, fail = 254, 255
	var out []insn
	resolve := func(from int) {
		end := len(out)
		for i := from; i < end; i++ {
			if out[i].jt == pass && out[i].code != bpfLoad && out[i].code != bpfAnd {
				out[i].jt = uint8(end - i - 1)
			}
			if out[i].jf == pass && out[i].code != bpfLoad && out[i].code != bpfAnd {
				out[i].jf = uint8(end - i - 1)
			}
		}
	}
	for _, a := range args {
		if a.Index > 5 {
			return nil, &fault.Error{Class: fault.Invalid, Op: "compile seccomp profile", On: "argument " + itoa(int(a.Index)), Fix: "arguments are numbered 0 to 5"}
		}
		from := len(out)
		lo, hi := uint32(offArgs+8*a.Index), uint32(offArgs+8*a.Index+4)
		vl, vh := uint32(a.Value), uint32(a.Value>>32)
		load := func(off uint32) { out = append(out, insn{bpfLoad, 0, 0, off}) }
		jump := func(code uint16, k uint32, jt, jf uint8) { out = append(out, insn{code, jt, jf, k}) }
		switch a.Op {
		case specs.OpEqualTo:
			load(hi)
			jump(bpfJeq, vh, 0, fail)
			load(lo)
			jump(bpfJeq, vl, pass, fail)
		case specs.OpNotEqual:
			load(hi)
			jump(bpfJeq, vh, 0, pass)
			load(lo)
			jump(bpfJeq, vl, fail, pass)
		case specs.OpGreaterThan:
			load(hi)
			jump(bpfJgt, vh, pass, 0)
			jump(bpfJeq, vh, 0, fail)
			load(lo)
			jump(bpfJgt, vl, pass, fail)
		case specs.OpGreaterEqual:
			load(hi)
			jump(bpfJgt, vh, pass, 0)
			jump(bpfJeq, vh, 0, fail)
			load(lo)
			jump(bpfJge, vl, pass, fail)
		case specs.OpLessThan:
			load(hi)
			jump(bpfJgt, vh, fail, 0)
			jump(bpfJeq, vh, 0, pass)
			load(lo)
			jump(bpfJge, vl, fail, pass)
		case specs.OpLessEqual:
			load(hi)
			jump(bpfJgt, vh, fail, 0)
			jump(bpfJeq, vh, 0, pass)
			load(lo)
			jump(bpfJgt, vl, fail, pass)
		case specs.OpMaskedEqual:
			load(hi)
			out = append(out, insn{bpfAnd, 0, 0, vh})
			jump(bpfJeq, uint32(a.ValueTwo>>32), 0, fail)
			load(lo)
			out = append(out, insn{bpfAnd, 0, 0, vl})
			jump(bpfJeq, uint32(a.ValueTwo), pass, fail)
		default:
			return nil, &fault.Error{Class: fault.Invalid, Op: "compile seccomp profile", On: string(a.Op), Fix: "no such comparison"}
		}
		resolve(from)
	}
	for i := range out {
		if out[i].jt == fail {
			out[i].jt = uint8(len(out) - i)
		}
		if out[i].jf == fail {
			out[i].jf = uint8(len(out) - i)
		}
	}
	return out, nil
}
