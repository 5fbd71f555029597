package linux

import (
	"encoding/binary"
	"syscall"
)

// Kind says how an argument of an Op becomes a number.
type Kind uint8

const (
	Const Kind = iota // the number itself
	Data              // an offset into the program's data: its address
	FD                // an index into the descriptors the program is run with
	Slot              // an offset into data where an earlier Op has stored its result
)

// Arg is one argument of an Op.
type Arg struct {
	Kind  Kind
	Value uint64
}

// Op is one system call of a Program.
type Op struct {
	NR   uint64
	Args [6]Arg
	// Out, if not 0, is the offset in data (8 bytes) where the result goes.
	Out uint32
	// Must ends the child when the call fails with any error but Allow;
	// otherwise the error is noted and the next call is made.
	Must  bool
	Allow syscall.Errno
	// Skip is how many calls are left out after this one succeeds (≤ 4095): the
	// way to say "or else".
	Skip uint16
}

// Program is a list of system calls for a child that does nothing else, as
// position-independent data. It can be sent to another process as bytes.
type Program struct {
	Flags uint64 // of clone3: namespaces; what spawning itself needs is added
	Ops   []Op
	Data  []byte
	// Relocs are offsets in Data of 8-byte words that hold an offset into Data
	// and become an address: argv, iovec and such.
	Relocs []uint32
	// FDRelocs are offsets in Data of 4-byte words that hold an index into the
	// descriptors and become a descriptor's number (cmsg of SCM_RIGHTS, say).
	FDRelocs []uint32
}

const (
	magic      = 0x31706d53 // "Smp1"
	headerSize = 32
	opSize     = 80
	maxProgram = 16 << 20

	flagMust     = 1
	indirectBit  = 2
	kindBit      = 8
	skipBit      = 20
	maxSkip      = 1<<12 - 1
	maxArguments = 6
)

// Encode lays the program out for Load.
func (p *Program) Encode() []byte {
	le := binary.LittleEndian
	data := (len(p.Data) + 7) &^ 7
	b := make([]byte, 0, headerSize+len(p.Ops)*opSize+data+4*(len(p.Relocs)+len(p.FDRelocs)))
	b = le.AppendUint32(b, magic)
	b = le.AppendUint32(b, uint32(len(p.Ops)))
	b = le.AppendUint32(b, uint32(data))
	b = le.AppendUint32(b, uint32(len(p.Relocs)))
	b = le.AppendUint32(b, uint32(len(p.FDRelocs)))
	b = le.AppendUint32(b, 0)
	b = le.AppendUint64(b, p.Flags)
	for _, op := range p.Ops {
		var flags uint32
		if op.Must {
			flags = flagMust
		}
		b = le.AppendUint64(b, op.NR)
		for i, a := range op.Args {
			b = le.AppendUint64(b, a.Value)
			flags |= uint32(a.Kind) << (kindBit + 2*i)
			if a.Kind == Slot {
				flags |= 1 << (indirectBit + i)
			}
		}
		flags |= uint32(min(op.Skip, maxSkip)) << skipBit
		b = le.AppendUint64(b, uint64(op.Out))
		b = le.AppendUint32(b, flags)
		b = le.AppendUint32(b, 0) // the error, once the call has failed
		b = le.AppendUint64(b, uint64(op.Allow))
	}
	b = append(b, p.Data...)
	b = append(b, make([]byte, data-len(p.Data))...)
	for _, r := range p.Relocs {
		b = le.AppendUint32(b, r)
	}
	for _, r := range p.FDRelocs {
		b = le.AppendUint32(b, r)
	}
	return b
}

// Loaded is a program in memory at its final address. It is run once.
type Loaded struct {
	flags uint64
	ops   []byte
	n     int

	args  cloneArgs
	pidfd int32
	where uintptr // address of the call that ended the child, or 0
}

// Load checks an encoded program and puts addresses and descriptors into it,
// in place: b must stay where it is, unmoved and writable, until the program
// has run, so it comes from mmap. A malformed program is EINVAL: nothing that
// a check here lets through makes the kernel write outside b, as long as the
// calls' own lengths are right; who may send programs is trusted with that.
func Load(b []byte, base uintptr, fds []int) (*Loaded, error) {
	le := binary.LittleEndian
	if len(b) < headerSize || len(b) > maxProgram || le.Uint32(b) != magic {
		return nil, syscall.EINVAL
	}
	n, data := int(le.Uint32(b[4:])), int(le.Uint32(b[8:]))
	nrel, nfd := int(le.Uint32(b[12:])), int(le.Uint32(b[16:]))
	if n > maxProgram/opSize || data > maxProgram || nrel > maxProgram/4 || nfd > maxProgram/4 ||
		headerSize+n*opSize+data+4*(nrel+nfd) != len(b) || data%8 != 0 {
		return nil, syscall.EINVAL
	}
	ops := b[headerSize : headerSize+n*opSize]
	mem := b[headerSize+n*opSize:][:data]
	rel := b[headerSize+n*opSize+data:]
	origin := uint64(base) + uint64(headerSize+n*opSize)
	for i := range nrel {
		at := int(le.Uint32(rel[4*i:]))
		if at > data-8 {
			return nil, syscall.EINVAL
		}
		off := le.Uint64(mem[at:])
		if off >= uint64(data) {
			return nil, syscall.EINVAL
		}
		le.PutUint64(mem[at:], origin+off)
	}
	rel = rel[4*nrel:]
	for i := range nfd {
		at := int(le.Uint32(rel[4*i:]))
		if at > data-4 {
			return nil, syscall.EINVAL
		}
		idx := le.Uint32(mem[at:])
		if int(idx) >= len(fds) {
			return nil, syscall.EINVAL
		}
		le.PutUint32(mem[at:], uint32(fds[idx]))
	}
	for i := range n {
		op := ops[i*opSize:][:opSize]
		flags := le.Uint32(op[64:])
		for a := range maxArguments {
			v := le.Uint64(op[8+8*a:])
			switch Kind(flags >> (kindBit + 2*a) & 3) {
			case FD:
				if v >= uint64(len(fds)) {
					return nil, syscall.EINVAL
				}
				v = uint64(fds[v])
			case Data:
				if v >= uint64(data) {
					return nil, syscall.EINVAL
				}
				v += origin
			case Slot:
				if int(v) > data-8 || v >= uint64(data) || v%8 != 0 || flags&(1<<(indirectBit+a)) == 0 {
					return nil, syscall.EINVAL
				}
				v += origin
			case Const:
				if flags&(1<<(indirectBit+a)) != 0 {
					return nil, syscall.EINVAL
				}
			}
			le.PutUint64(op[8+8*a:], v)
		}
		if out := le.Uint64(op[56:]); out != 0 {
			if int(out) > data-8 || out >= uint64(data) || out%8 != 0 {
				return nil, syscall.EINVAL
			}
			le.PutUint64(op[56:], origin+out)
		}
	}
	return &Loaded{flags: le.Uint64(b[24:]), ops: ops, n: n}, nil
}

// Note is an Op that failed without ending the child.
type Note struct {
	Op    int
	Errno syscall.Errno
}

// Notes lists the calls that failed; the last one is the one that ended the
// child if Failed said so.
func (l *Loaded) Notes() []Note {
	var out []Note
	for i := range l.n {
		if e := binary.LittleEndian.Uint32(l.ops[i*opSize+68:]); e != 0 {
			out = append(out, Note{Op: i, Errno: syscall.Errno(e)})
		}
	}
	return out
}
