// Package logfile writes, rotates, reads and follows the log files of
// containers, in the two formats the field knows: the CRI's and Docker's
// json-file.
//
// A log has one writer, the monitor of the container, and any number of
// readers in other processes; they meet on disk only. The write side has no
// heavy imports (no fmt, no encoding/json), because a monitor's whole memory is
// less than what those need. logfile knows neither containers nor pods.
package logfile

import (
	"errors"
	"io/fs"
	"strconv"
	"syscall"
	"time"
	"unicode/utf8"
)

// Format is how a line is written.
type Format string

const (
	// CRI is `<RFC 3339 nano time> <stream> <P|F> <line>`; see
	// k8s.io/design-proposals-archive, kubelet-cri-logging.
	CRI Format = "cri"
	// JSON is Docker's json-file: one object with log, stream and time a line.
	JSON Format = "json-file"
)

// Stream tells the two outputs of a process apart.
type Stream uint8

const (
	Stdout Stream = iota
	Stderr
)

func (s Stream) String() string {
	if s == Stderr {
		return "stderr"
	}
	return "stdout"
}

// MaxLine is how many bytes of one line are written as one entry; what is
// longer becomes several, all but the last marked partial. It is containerd's
// and Docker's figure.
const MaxLine = 16 << 10

// Config says where a log is and how large it may grow.
type Config struct {
	Path     string
	Format   Format // default CRI
	MaxSize  int64  // bytes after which the file is rotated; 0: never
	MaxFiles int    // files kept, the current one included; default 2 if MaxSize is set
	Late     bool   // the file is made with the first entry, and not if there is none
}

// Writer appends entries to one log. It is not safe for concurrent use.
type Writer struct {
	config  Config
	fd      int
	size    int64
	pending [2][]byte // per stream: what has come of an unfinished line
	out     []byte
}

// Open opens the log for appending and makes the file where there is none.
func Open(c Config) (*Writer, error) {
	if c.Format == "" {
		c.Format = CRI
	}
	if c.Format != CRI && c.Format != JSON {
		return nil, &fs.PathError{Op: "open log in format " + string(c.Format), Path: c.Path, Err: syscall.EINVAL}
	}
	if c.MaxSize > 0 && c.MaxFiles < 1 {
		c.MaxFiles = 2
	}
	w := &Writer{config: c, fd: -1}
	if c.Late {
		return w, nil
	}
	return w, w.Reopen()
}

// Reopen opens the path anew, after somebody moved the file away. If that
// fails the writer goes on with the file it has.
func (w *Writer) Reopen() error {
	fd, err := syscall.Open(w.config.Path, syscall.O_WRONLY|syscall.O_APPEND|syscall.O_CREAT|syscall.O_CLOEXEC, 0o640)
	if err != nil {
		return &fs.PathError{Op: "open log", Path: w.config.Path, Err: err}
	}
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		syscall.Close(fd)
		return &fs.PathError{Op: "stat log", Path: w.config.Path, Err: err}
	}
	if w.fd >= 0 {
		syscall.Close(w.fd)
	}
	w.fd, w.size = fd, st.Size
	return nil
}

// Write takes what a process wrote to one of its streams, in any pieces, and
// writes the entries that are complete with one system call.
func (w *Writer) Write(s Stream, p []byte, now time.Time) error {
	w.out = w.out[:0]
	for len(p) > 0 {
		end, whole := lineEnd(p, MaxLine-len(w.pending[s]))
		if end < 0 {
			w.pending[s] = append(w.pending[s], p...)
			break
		}
		line := p[:end]
		if len(w.pending[s]) > 0 {
			w.pending[s] = append(w.pending[s], line...)
			line = w.pending[s]
		}
		w.out = w.config.Format.append(w.out, now, s, line, !whole)
		w.pending[s] = w.pending[s][:0]
		p = p[end:]
		if whole {
			p = p[1:]
		}
	}
	return w.flush()
}

// Close writes what is pending of both streams as partial entries, as
// containerd does, and closes the file.
func (w *Writer) Close(now time.Time) error {
	w.out = w.out[:0]
	for s := range w.pending {
		if len(w.pending[s]) > 0 {
			w.out = w.config.Format.append(w.out, now, Stream(s), w.pending[s], true)
			w.pending[s] = nil
		}
	}
	err := w.flush()
	if w.fd < 0 {
		return err
	}
	return errors.Join(err, syscall.Close(w.fd))
}

// lineEnd finds where the next entry of p ends: at a newline (whole), after
// room bytes, or not yet (-1).
func lineEnd(p []byte, room int) (end int, whole bool) {
	for i, b := range p {
		if b == '\n' {
			return i, true
		}
		if i == room {
			return i, false
		}
	}
	return -1, false
}

func (w *Writer) flush() error {
	if len(w.out) == 0 {
		return nil
	}
	if w.fd < 0 {
		if err := w.Reopen(); err != nil {
			return err
		}
	}
	if w.config.MaxSize > 0 && w.size > 0 && w.size+int64(len(w.out)) > w.config.MaxSize {
		// A log that cannot be rotated is better than one that ends.
		_ = w.rotate()
	}
	for out := w.out; len(out) > 0; {
		n, err := syscall.Write(w.fd, out)
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return &fs.PathError{Op: "write log", Path: w.config.Path, Err: err}
		}
		out = out[n:]
		w.size += int64(n)
	}
	if cap(w.out) > 4*MaxLine {
		w.out = nil
	}
	return nil
}

// rotate moves path to path.1, that to path.2 and so on, and begins anew.
func (w *Writer) rotate() error {
	path := w.config.Path
	if w.config.MaxFiles <= 1 {
		if err := syscall.Ftruncate(w.fd, 0); err != nil {
			return &fs.PathError{Op: "truncate log", Path: path, Err: err}
		}
		w.size = 0
		return nil
	}
	for i := w.config.MaxFiles - 1; i > 1; i-- {
		if err := syscall.Rename(rotated(path, i-1), rotated(path, i)); err != nil && err != syscall.ENOENT {
			return &fs.PathError{Op: "rotate log", Path: path, Err: err}
		}
	}
	if err := syscall.Rename(path, rotated(path, 1)); err != nil && err != syscall.ENOENT {
		return &fs.PathError{Op: "rotate log", Path: path, Err: err}
	}
	return w.Reopen()
}

// rotated is the name of the n-th file before the current one.
func rotated(path string, n int) string {
	if n == 0 {
		return path
	}
	return path + "." + strconv.Itoa(n)
}

// append adds one entry; partial says that the line goes on in the next one.
func (f Format) append(out []byte, now time.Time, s Stream, line []byte, partial bool) []byte {
	if f == JSON {
		out = append(out, `{"log":"`...)
		out = appendJSON(out, line)
		if !partial {
			out = append(out, `\n`...)
		}
		out = append(out, `","stream":"`...)
		out = append(out, s.String()...)
		out = append(out, `","time":"`...)
		out = now.UTC().AppendFormat(out, time.RFC3339Nano)
		return append(out, "\"}\n"...)
	}
	out = now.AppendFormat(out, timeCRI)
	out = append(out, ' ')
	out = append(out, s.String()...)
	if partial {
		out = append(out, " P "...)
	} else {
		out = append(out, " F "...)
	}
	out = append(out, line...)
	return append(out, '\n')
}

// timeCRI is RFC 3339 with all nine digits, so that entries have one width.
const timeCRI = "2006-01-02T15:04:05.000000000Z07:00"

const hex = "0123456789abcdef"

// appendJSON adds s as the inside of a JSON string; bytes that are no UTF-8
// become the replacement character, as encoding/json does.
func appendJSON(out, s []byte) []byte {
	for i := 0; i < len(s); {
		b := s[i]
		switch {
		case b == '"' || b == '\\':
			out = append(out, '\\', b)
		case b == '\n':
			out = append(out, '\\', 'n')
		case b == '\r':
			out = append(out, '\\', 'r')
		case b == '\t':
			out = append(out, '\\', 't')
		case b < 0x20 || b == 0x7f || b == '<' || b == '>' || b == '&':
			out = append(out, '\\', 'u', '0', '0', hex[b>>4], hex[b&15])
		case b < utf8.RuneSelf:
			out = append(out, b)
		default:
			r, n := utf8.DecodeRune(s[i:])
			if r == utf8.RuneError && n == 1 {
				out = append(out, `\ufffd`...)
			} else {
				out = append(out, s[i:i+n]...)
			}
			i += n
			continue
		}
		i++
	}
	return out
}
