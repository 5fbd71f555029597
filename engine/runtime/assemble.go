package runtime

import (
	"encoding/binary"
	"strconv"
	"strings"
	"syscall"

	"sampan/engine/monitor/wire"
	"sampan/internal/linux"
)

// Program is what a child does between clone3 and execve, with a line of text
// for each call.
type Program struct {
	linux.Program
	Steps []Step // one for each Op
	fds   int    // descriptors that come with it
	// inGroup says that the start puts the child into its version 2 group.
	inGroup bool
}

// Step says what one system call of a program is for.
type Step struct {
	Call string // as strace would show it, shortened
	Why  string // what it makes, or what about; empty continues the one above
	// Quiet steps may fail without anybody being told: making what may exist
	// already. kind steps are looked at when they fail.
	Quiet bool
	kind  stepKind
}

type stepKind uint8

const (
	plainStep stepKind = iota
	execStep           // Why is the path that was tried
)

// String prints the program, a line a call.
func (p *Program) String() string {
	var b strings.Builder
	b.WriteString("# a process of its own\n\tclone3(CLONE_VM")
	for _, f := range []struct {
		flag int
		name string
	}{{linux.NewMount, "CLONE_NEWNS"}, {linux.NewPID, "CLONE_NEWPID"}, {linux.NewUTS, "CLONE_NEWUTS"}} {
		if int(p.Flags)&f.flag != 0 {
			b.WriteString("|" + f.name)
		}
	}
	if p.inGroup {
		b.WriteString("|CLONE_INTO_CGROUP")
	}
	b.WriteString(")\n")
	for i, s := range p.Steps {
		if s.Why != "" {
			b.WriteString("# " + s.Why + "\n")
		}
		b.WriteString(strconv.Itoa(i) + "\t" + s.Call)
		if !p.Ops[i].Must {
			b.WriteString("\t(may fail)")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// assembler writes a Program.
type assembler struct {
	p   Program
	why string // of the next step
}

func newAssembler() *assembler {
	a := &assembler{}
	a.p.Data = make([]byte, 8, 4096) // offset 0 means none
	return a
}

type arg = linux.Arg

func num[T ~int | ~uint32 | ~uint64 | ~uintptr | ~int64 | ~uint16](v T) arg {
	return arg{Kind: linux.Const, Value: uint64(v)}
}

func slot(off uint32) arg { return arg{Kind: linux.Slot, Value: uint64(off)} }

// fd is a descriptor that the program is run with.
func fd(index int) arg { return arg{Kind: linux.FD, Value: uint64(index)} }

var cwd = arg{Kind: linux.Const, Value: ^uint64(99)} // AT_FDCWD, -100

// pass reserves an index for a descriptor that the starter sends along.
func (a *assembler) pass() int {
	a.p.fds++
	return wire.FirstFD + a.p.fds - 1
}

func (a *assembler) align() {
	for len(a.p.Data)%8 != 0 {
		a.p.Data = append(a.p.Data, 0)
	}
}

// mem puts bytes into the program's data.
func (a *assembler) mem(b []byte) arg {
	a.align()
	off := len(a.p.Data)
	a.p.Data = append(a.p.Data, b...)
	if len(b) == 0 {
		a.p.Data = append(a.p.Data, 0)
	}
	return arg{Kind: linux.Data, Value: uint64(off)}
}

// str is a C string.
func (a *assembler) str(s string) arg {
	off := len(a.p.Data)
	a.p.Data = append(append(a.p.Data, s...), 0)
	return arg{Kind: linux.Data, Value: uint64(off)}
}

// words are 8-byte numbers.
func (a *assembler) words(v ...uint64) arg {
	a.align()
	off := len(a.p.Data)
	for _, w := range v {
		a.p.Data = binary.LittleEndian.AppendUint64(a.p.Data, w)
	}
	return arg{Kind: linux.Data, Value: uint64(off)}
}

// pointer says that the word at offset at of block refers to data.
func (a *assembler) pointer(block arg, at int, to arg) {
	off := block.Value + uint64(at)
	binary.LittleEndian.PutUint64(a.p.Data[off:], to.Value)
	a.p.Relocs = append(a.p.Relocs, uint32(off))
}

// strings is a vector that ends with a null pointer: argv, envp.
func (a *assembler) strings(list []string) arg {
	ptrs := make([]arg, len(list))
	for i, s := range list {
		ptrs[i] = a.str(s)
	}
	v := a.words(make([]uint64, len(list)+1)...)
	for i, p := range ptrs {
		a.pointer(v, 8*i, p)
	}
	return v
}

// because names what the next call, and those after it, are for.
func (a *assembler) because(why string) { a.why = why }

// op adds a call that must succeed and returns its index.
func (a *assembler) op(call string, nr uint64, args ...arg) int {
	op := linux.Op{NR: nr, Must: true}
	copy(op.Args[:], args)
	a.p.Ops = append(a.p.Ops, op)
	a.p.Steps = append(a.p.Steps, Step{Call: call, Why: a.why})
	a.why = ""
	return len(a.p.Ops) - 1
}

// try adds a call whose failure is told but changes nothing.
func (a *assembler) try(call string, nr uint64, args ...arg) int {
	i := a.op(call, nr, args...)
	a.p.Ops[i].Must = false
	return i
}

// quiet adds a call whose failure is not even told.
func (a *assembler) quiet(call string, nr uint64, args ...arg) int {
	i := a.try(call, nr, args...)
	a.p.Steps[i].Quiet = true
	return i
}

// open adds a call whose result later ones use.
func (a *assembler) result(i int) arg {
	w := a.words(0)
	a.p.Ops[i].Out = uint32(w.Value)
	return slot(uint32(w.Value))
}

func (a *assembler) allow(i int, e syscall.Errno) { a.p.Ops[i].Allow, a.p.Steps[i].Quiet = e, true }

// skip makes the call at i, if it succeeds, leave out all that follow it so far.
func (a *assembler) skip(i int) { a.p.Ops[i].Skip = uint16(len(a.p.Ops) - 1 - i) }

// jump leaves out what will follow, up to skip: a call that never fails.
func (a *assembler) jump() int {
	i := a.quiet("getpid()", linux.SysGetpid)
	return i
}

func (a *assembler) close(f arg) { a.quiet("close", linux.SysClose, f) }

// program finishes.
func (a *assembler) program() *Program { return &a.p }
