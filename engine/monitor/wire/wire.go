// Package wire is what a daemon and a pod's monitor say to each other: one
// message per packet on a SOCK_SEQPACKET socket, descriptors beside it
// (SCM_RIGHTS). Numbers are little-endian; strings and lists carry their length.
//
// Both sides link it, the monitor included, so it imports next to nothing. A
// message that does not decode to the last byte is malformed as a whole.
package wire

import (
	"encoding/binary"
	"errors"
)

// Version of the protocol. A daemon meets monitors older than itself: fields
// are only ever added at the end of a message, under a new version.
const Version = 1

// MaxMessage is the largest packet either side sends.
const MaxMessage = 48 << 10

// MaxFDs is how many descriptors the kernel lets one packet carry
// (SCM_MAX_FD).
const MaxFDs = 253

// ErrMalformed is returned for bytes that are no message.
var ErrMalformed = errors.New("malformed message")

// Type of a message.
type Type uint8

const (
	Hello    Type = iota + 1 // daemon: version; reply Welcome
	Start                    // with a program; reply Started or Failed
	List                     // reply Listing, then one Record packet per process
	Signal                   // reply OK or Failed
	Attach                   // reply OK, perhaps with a descriptor
	Resize                   //
	Reopen                   //
	Remove                   //
	Shutdown                 // kills everything; reply OK, then the monitor ends

	OK Type = iota + 64
	Failed
	Welcome
	Started
	Listing
	Record
	Exited // pushed to every connection; its Seq is 0
)

// Header starts every message.
type Header struct {
	Type Type
	Seq  uint32 // the request's, repeated in its reply
}

// Request is every message a daemon sends; which fields count depends on Type.
type Request struct {
	Header
	Version uint32
	ID      string // of the process
	Start   StartRequest
	Signal  uint32
	Width   uint16
	Height  uint16
	Streams uint8 // Attach: which descriptors come along
}

// Bits of Request.Streams and of Reply's descriptors.
const (
	WantStdin uint8 = 1 << iota
	HaveStdout
	HaveStderr
)

// StartRequest says what to do with a program. The packet's first descriptor
// is the program; then come, as flags say, the process namespace to start in
// and the version 2 group; then the standard descriptors if PassStdio; the rest
// are the program's own, from index FirstFD on.
type StartRequest struct {
	Flags       uint16
	LogFormat   string
	LogPath     string
	LogMaxSize  int64
	LogMaxFiles uint32
	OnExit      []string
}

// Flags of StartRequest.
const (
	PIDNamespace uint16 = 1 << iota // a descriptor of a process namespace follows
	Cgroup                          // a descriptor of a version 2 group follows
	PassStdio                       // three descriptors follow; else the monitor makes pipes
	Stdin                           // keep a standard input that can be attached to
	StdinOnce                       // and close it after the first
	TTY                             // the program sends a terminal's master through descriptor TerminalFD
	Forget                          // an exec: no exit file, no record after its end
	LateLog                         // make the log's file with its first entry; an older monitor makes it at once
)

// Indexes that FD arguments of a program may use.
const (
	StdinFD    = 0
	StdoutFD   = 1
	StderrFD   = 2
	TerminalFD = 3 // a socket, valid with TTY
	FirstFD    = 4
)

// Note is a system call of a program that failed.
type Note struct{ Op, Errno uint32 }

// Reply is every message a monitor sends.
type Reply struct {
	Header
	Version   uint32
	Errno     uint32 // Failed
	Call      string // Failed: what the monitor was doing
	FailedOp  int32  // Failed: the program's call, or -1
	Notes     []Note // Started, Failed
	Pid       uint32
	StartTime uint64 // field 22 of /proc/PID/stat
	StartedAt int64  // ns since 1970
	ID        string // Record, Exited
	Exec      bool
	Ended     bool
	Code      uint32
	Signal    uint32
	EndedAt   int64
	Count     uint32 // Listing: Record packets that follow
}

// Append encodes the request.
func (r *Request) Append(b []byte) []byte {
	b = appendHeader(b, r.Header)
	b = u32(b, r.Version)
	b = str(b, r.ID)
	b = binary.LittleEndian.AppendUint16(b, r.Start.Flags)
	b = str(b, r.Start.LogFormat)
	b = str(b, r.Start.LogPath)
	b = u64(b, uint64(r.Start.LogMaxSize))
	b = u32(b, r.Start.LogMaxFiles)
	b = u32(b, uint32(len(r.Start.OnExit)))
	for _, s := range r.Start.OnExit {
		b = str(b, s)
	}
	b = u32(b, r.Signal)
	b = binary.LittleEndian.AppendUint16(b, r.Width)
	b = binary.LittleEndian.AppendUint16(b, r.Height)
	return append(b, r.Streams)
}

// DecodeRequest reads what Append wrote.
func DecodeRequest(b []byte) (Request, error) {
	d := decoder{b: b}
	r := Request{Header: d.header(), Version: d.u32(), ID: d.str()}
	r.Start.Flags = d.u16()
	r.Start.LogFormat = d.str()
	r.Start.LogPath = d.str()
	r.Start.LogMaxSize = int64(d.u64())
	r.Start.LogMaxFiles = d.u32()
	if n := d.u32(); n > 0 && d.fits(n, 4) {
		r.Start.OnExit = make([]string, n)
		for i := range r.Start.OnExit {
			r.Start.OnExit[i] = d.str()
		}
	}
	r.Signal = d.u32()
	r.Width, r.Height = d.u16(), d.u16()
	r.Streams = d.u8()
	return r, d.end()
}

// Append encodes the reply.
func (r *Reply) Append(b []byte) []byte {
	b = appendHeader(b, r.Header)
	b = u32(b, r.Version)
	b = u32(b, r.Errno)
	b = str(b, r.Call)
	b = u32(b, uint32(r.FailedOp))
	b = u32(b, uint32(len(r.Notes)))
	for _, n := range r.Notes {
		b = u32(u32(b, n.Op), n.Errno)
	}
	b = u32(b, r.Pid)
	b = u64(b, r.StartTime)
	b = u64(b, uint64(r.StartedAt))
	b = str(b, r.ID)
	var bits byte
	if r.Exec {
		bits |= 1
	}
	if r.Ended {
		bits |= 2
	}
	b = append(b, bits)
	b = u32(b, r.Code)
	b = u32(b, r.Signal)
	b = u64(b, uint64(r.EndedAt))
	return u32(b, r.Count)
}

// DecodeReply reads what Append wrote.
func DecodeReply(b []byte) (Reply, error) {
	d := decoder{b: b}
	r := Reply{Header: d.header(), Version: d.u32(), Errno: d.u32(), Call: d.str(), FailedOp: int32(d.u32())}
	if n := d.u32(); n > 0 && d.fits(n, 8) {
		r.Notes = make([]Note, n)
		for i := range r.Notes {
			r.Notes[i] = Note{Op: d.u32(), Errno: d.u32()}
		}
	}
	r.Pid, r.StartTime, r.StartedAt = d.u32(), d.u64(), int64(d.u64())
	r.ID = d.str()
	bits := d.u8()
	r.Exec, r.Ended = bits&1 != 0, bits&2 != 0
	if bits > 3 {
		d.bad = true
	}
	r.Code, r.Signal, r.EndedAt, r.Count = d.u32(), d.u32(), int64(d.u64()), d.u32()
	return r, d.end()
}

func appendHeader(b []byte, h Header) []byte { return u32(append(b, byte(h.Type)), h.Seq) }
func u32(b []byte, v uint32) []byte          { return binary.LittleEndian.AppendUint32(b, v) }
func u64(b []byte, v uint64) []byte          { return binary.LittleEndian.AppendUint64(b, v) }
func str(b []byte, s string) []byte          { return append(u32(b, uint32(len(s))), s...) }

// decoder reads fields until one does not fit; then all are zero and bad is set.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n > len(d.b) {
		d.bad = true
		return nil
	}
	p := d.b[:n]
	d.b = d.b[n:]
	return p
}

// fits says whether n things of at least size bytes can still come.
func (d *decoder) fits(n uint32, size int) bool {
	if d.bad || uint64(n)*uint64(size) > uint64(len(d.b)) {
		d.bad = true
	}
	return !d.bad
}

func (d *decoder) header() Header { return Header{Type: Type(d.u8()), Seq: d.u32()} }

func (d *decoder) u8() uint8 {
	if p := d.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (d *decoder) u16() uint16 {
	if p := d.take(2); p != nil {
		return binary.LittleEndian.Uint16(p)
	}
	return 0
}

func (d *decoder) u32() uint32 {
	if p := d.take(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (d *decoder) u64() uint64 {
	if p := d.take(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

func (d *decoder) str() string {
	n := d.u32()
	if !d.fits(n, 1) {
		return ""
	}
	return string(d.take(int(n)))
}

func (d *decoder) end() error {
	if d.bad || len(d.b) != 0 {
		return ErrMalformed
	}
	return nil
}
