package linux

import (
	"encoding/binary"
	"os"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"bytes"

	"sampan/internal/linux/gen/table"
)

func load(t *testing.T, p *Program, fds ...int) *Loaded {
	t.Helper()
	code := p.Encode()
	mem, err := syscall.Mmap(-1, 0, len(code), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(mem) })
	copy(mem, code)
	l, err := Load(mem, uintptr(unsafe.Pointer(unsafe.SliceData(mem))), fds)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func c(v uint64) Arg { return Arg{Kind: Const, Value: v} }

func TestAChildRunsItsListAndNothingElse(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	at := ^uint64(99)
	data := append(make([]byte, 16), "hello\x00/proc/self/comm\x00"...)
	p := &Program{Data: data, Ops: []Op{
		{NR: SysWrite, Args: [6]Arg{{FD, 0}, {Data, 16}, c(5)}, Must: true},
		// The result of one call is an argument of the next.
		{NR: SysOpenat, Args: [6]Arg{c(at), {Data, 22}, c(syscall.O_RDONLY)}, Out: 8, Must: true},
		{NR: SysRead, Args: [6]Arg{{Slot, 8}, {Data, 16}, c(5)}, Must: true},
		{NR: SysWrite, Args: [6]Arg{{FD, 0}, {Data, 16}, c(4)}, Must: true},
		// A failure that may be, one that is allowed, a success that skips.
		{NR: SysClose, Args: [6]Arg{c(9999)}},
		{NR: SysClose, Args: [6]Arg{c(9999)}, Must: true, Allow: syscall.EBADF},
		{NR: SysGetpid, Skip: 1},
		{NR: SysWrite, Args: [6]Arg{{FD, 0}, {Data, 22}, c(5)}, Must: true},
		{NR: SysChdir, Args: [6]Arg{{Data, 22}}, Must: true},
		{NR: SysWrite, Args: [6]Arg{{FD, 0}, {Data, 22}, c(5)}, Must: true},
	}}
	l := load(t, p, int(w.Fd()))
	child, failed, err := Spawn(l, SpawnConfig{Stack: make([]byte, 8192)})
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	syscall.Close(child.PidFD)
	if err := WaitPid(child.Pid); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 64)
	n, _ := r.Read(b)
	comm, _ := os.ReadFile("/proc/self/comm")
	if got := string(b[:n]); got != "hello" && got != "hello"+string(comm[:4]) {
		t.Errorf("the child wrote %q", got)
	}
	notes := l.Notes()
	if failed != 8 || len(notes) != 3 || notes[0] != (Note{4, syscall.EBADF}) || notes[2] != (Note{8, syscall.ENOTDIR}) {
		t.Errorf("failed at %d, notes %v; want 8 and EBADF twice, ENOTDIR", failed, notes)
	}
}

func TestAListThatRunsOffItsEndFails(t *testing.T) {
	l := load(t, &Program{Data: make([]byte, 8), Ops: []Op{{NR: SysGetpid, Skip: 5}, {NR: SysGetpid}}})
	child, failed, err := Spawn(l, SpawnConfig{Stack: make([]byte, 8192)})
	if err != nil {
		t.Fatal(err)
	}
	syscall.Close(child.PidFD)
	if err := WaitPid(child.Pid); err != nil || failed < 0 {
		t.Errorf("failed = %d, %v", failed, err)
	}
}

func TestAChildInNewNamespaces(t *testing.T) {
	for range 50 { // while the collector runs: the child shares this memory
		go runtime.GC()
		l := load(t, &Program{Flags: NewPID | NewMount | NewUTS | NewIPC, Data: []byte("\x00\x00\x00\x00\x00\x00\x00\x00/nothing\x00"), Ops: []Op{
			{NR: SysExecve, Args: [6]Arg{{Data, 8}}, Must: true}}})
		child, failed, err := Spawn(l, SpawnConfig{Stack: make([]byte, 8192)})
		if err != nil || failed != 0 || l.Notes()[0].Errno != syscall.ENOENT {
			t.Fatalf("failed at %d, %v, %v", failed, l.Notes(), err)
		}
		syscall.Close(child.PidFD)
		if err := WaitPid(child.Pid); err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add((&Program{Data: []byte("\x00\x00\x00\x00\x00\x00\x00\x00x"), Ops: []Op{{NR: 1, Args: [6]Arg{{FD, 0}, {Data, 8}, {Slot, 8}}, Out: 8}}, Relocs: []uint32{8}, FDRelocs: []uint32{8}}).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		const base = 1 << 40
		l, err := Load(b, base, []int{5, 6})
		if err != nil {
			return
		}
		for i := range l.n {
			op := l.ops[i*opSize:][:opSize]
			if out := binary.LittleEndian.Uint64(op[56:]); out != 0 && (out < base || out+8 > base+uint64(len(b))) {
				t.Errorf("op %d writes its result to %#x, outside of the program", i, out)
			}
			for a := range maxArguments {
				if binary.LittleEndian.Uint32(op[64:])&(1<<(indirectBit+a)) != 0 {
					if v := binary.LittleEndian.Uint64(op[8+8*a:]); v < base || v+8 > base+uint64(len(b)) {
						t.Errorf("op %d reads argument %d from %#x, outside of the program", i, a, v)
					}
				}
			}
		}
	})
}

func TestTheSystemCallTablesAreUpToDate(t *testing.T) {
	for _, arch := range table.Architectures() {
		want, err := table.Source(arch)
		if err != nil {
			t.Fatal(err)
		}
		if have, err := os.ReadFile("syscalls_" + arch + "_gen.go"); err != nil || !bytes.Equal(have, want) {
			t.Errorf("the table of %s is not what go generate makes (%v)", arch, err)
		}
	}
	if n := Syscalls(ArchX86_64)["openat2"]; n != 437 {
		t.Errorf("openat2 is %d", n)
	}
}
