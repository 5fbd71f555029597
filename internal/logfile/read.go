package logfile

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// Entry is one entry of a log. Line is valid during the call only, and has no
// newline at its end.
type Entry struct {
	Time      time.Time
	Stream    Stream
	Line      []byte
	Partial   bool // the line goes on in the stream's next entry
	Continued bool // the line began in the entry before
}

// Options is what of a log is wanted. The zero value is no lines at all; set
// Tail to -1 for all.
type Options struct {
	Since, Until time.Time // zero: no limit
	Tail         int       // the last lines; negative: all
	Follow       bool      // wait for more
	// Done, while following, says by its closing that nobody writes any more:
	// what is there is read to its end, then Read returns.
	Done <-chan struct{}
}

// maxEntry bounds what a foreign file can make us keep: an entry of MaxLine
// bytes, each of which may take six in JSON, and its frame.
const maxEntry = 8*MaxLine + 1024

// patience is how long Read waits for the writer's end before it sets up to be
// woken by what is written.
const patience = 20 * time.Millisecond

// Read calls emit with the entries of the log at path, rotated files first. The
// format is told from each line. A line that cannot be understood is passed
// over, as one torn by a full disk must not hide the rest.
func Read(ctx context.Context, path string, o Options, emit func(Entry) error) error {
	if _, err := os.Stat(path); err != nil && !(o.Follow && errors.Is(err, fs.ErrNotExist)) {
		return err
	}
	r := &reader{o: o, emit: emit}
	files, err := openAll(path)
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if o.Tail >= 0 {
		if files, err = seekTail(files, o.Tail); err != nil {
			return err
		}
	}
	var last *os.File
	for i, f := range files {
		if err := r.drain(ctx, f); err != nil {
			return ended(err)
		}
		if i == len(files)-1 {
			last = f
		}
	}
	if !o.Follow {
		return nil
	}
	// Closing an inotify instance takes the kernel 13 ms, which a writer that
	// is done sooner than that is spared.
	early := time.NewTimer(patience)
	defer early.Stop()
	var w *watcher
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-o.Done:
	case <-early.C:
		if w, err = watch(path); err != nil {
			return err
		}
		defer w.close()
	}
	for {
		final := false
		if w == nil {
			final = true
		} else if err := w.wait(ctx, o.Done); err == errDone {
			final = true
		} else if err != nil {
			return err
		}
		if last != nil {
			if err := r.drain(ctx, last); err != nil {
				return ended(err)
			}
		}
		// Whatever was read to its end may have been moved away since.
		next, err := successors(path, last)
		if err != nil {
			return err
		}
		if len(next) > 0 && last != nil {
			// It has got its last entry between the reading and the moving.
			if err := r.drain(ctx, last); err != nil {
				return ended(err)
			}
		}
		for _, f := range next {
			files = append(files, f)
			r.rest = r.rest[:0]
			if err := r.drain(ctx, f); err != nil {
				return ended(err)
			}
			last = f
		}
		if len(next) > 0 {
			for _, f := range files[:len(files)-1] {
				f.Close()
			}
			files = files[len(files)-1:]
		}
		if final {
			return nil
		}
	}
}

var errEnd = errors.New("end of what is wanted")

func ended(err error) error {
	if err == errEnd {
		return nil
	}
	return err
}

// openAll opens the rotated files, oldest first, and the current one. A
// rotation may be under way: files move towards older names, in the direction
// of the search, so that one may be met twice but none is missed, and one name
// at a time has no file.
func openAll(path string) ([]*os.File, error) {
	var files []*os.File
	var seen []os.FileInfo
	missing := 0
	for n := 0; missing < 2; n++ {
		f, err := os.Open(rotated(path, n))
		if errors.Is(err, fs.ErrNotExist) {
			missing++
			continue
		}
		missing = 0
		var st os.FileInfo
		if err == nil {
			if st, err = f.Stat(); err != nil {
				f.Close()
			}
		}
		if err != nil {
			closeAll(files)
			return nil, err
		}
		if slices.ContainsFunc(seen, func(o os.FileInfo) bool { return os.SameFile(o, st) }) {
			f.Close()
			continue
		}
		seen = append(seen, st)
		files = append([]*os.File{f}, files...)
	}
	return files, nil
}

// successors opens the files that came after last, oldest first.
func successors(path string, last *os.File) ([]*os.File, error) {
	for try := 0; ; try++ {
		all, err := openAll(path)
		if err != nil || last == nil {
			return all, err
		}
		st, err := last.Stat()
		if err != nil {
			closeAll(all)
			return nil, err
		}
		for i, f := range all {
			if s, err := f.Stat(); err == nil && os.SameFile(s, st) {
				closeAll(all[:i+1])
				return all[i+1:], nil
			}
		}
		if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Nlink > 0 && try < 3 {
			closeAll(all) // it is on its way from one name to the next
			continue
		}
		// It is deleted, or has a name that is not ours to guess: a kubelet puts
		// the time into it. The current file is all that is sure to be new.
		if len(all) > 0 {
			closeAll(all[:len(all)-1])
			all = all[len(all)-1:]
		}
		return all, nil
	}
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

type reader struct {
	o    Options
	emit func(Entry) error
	rest []byte // an entry not complete yet
	buf  []byte
	part [2]bool // the stream's last entry was partial
}

// drain reads f to its end as it is now.
func (r *reader) drain(ctx context.Context, f *os.File) error {
	if r.buf == nil {
		r.buf = make([]byte, 32<<10)
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := f.Read(r.buf)
		if e := r.take(r.buf[:n]); e != nil {
			return e
		}
		if err == io.EOF || n == 0 && err == nil {
			// The file may have been truncated by a rotation that keeps one.
			at, _ := f.Seek(0, io.SeekCurrent)
			if st, err := f.Stat(); err == nil && st.Size() < at {
				r.rest = r.rest[:0]
				if _, err := f.Seek(0, io.SeekStart); err != nil {
					return err
				}
				continue
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *reader) take(p []byte) error {
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			if r.rest = append(r.rest, p...); len(r.rest) > maxEntry {
				r.rest = r.rest[:maxEntry]
			}
			return nil
		}
		line := p[:i]
		if len(r.rest) > 0 {
			r.rest = append(r.rest, line...)
			line = r.rest
		}
		err := r.entry(line)
		r.rest, p = r.rest[:0], p[i+1:]
		if err != nil {
			return err
		}
	}
}

func (r *reader) entry(line []byte) error {
	e, ok := Parse(line)
	if !ok {
		return nil
	}
	e.Continued, r.part[e.Stream] = r.part[e.Stream], e.Partial
	if !r.o.Since.IsZero() && e.Time.Before(r.o.Since) {
		return nil
	}
	if !r.o.Until.IsZero() && e.Time.After(r.o.Until) {
		return errEnd
	}
	return r.emit(e)
}

// seekTail sets files to where the last n lines begin and leaves out those
// before. Partial entries count with the line they belong to.
func seekTail(files []*os.File, n int) ([]*os.File, error) {
	for i := len(files) - 1; i >= 0; i-- {
		at, found, err := tailOffset(files[i], n)
		if err != nil {
			return nil, err
		}
		if _, err := files[i].Seek(at, io.SeekStart); err != nil {
			return nil, err
		}
		n -= found
		if n <= 0 || i == 0 {
			for _, f := range files[:i] {
				f.Close()
			}
			return files[i:], nil
		}
	}
	return files, nil
}

// tailOffset reads backwards, block by block, until n whole lines lie behind.
func tailOffset(f *os.File, n int) (at int64, found int, err error) {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || n <= 0 {
		return end, 0, err
	}
	const block = 64 << 10
	var tail []byte // from at on, always starting at the beginning of an entry or of what was read
	for at = end; at > 0; {
		size := min(block, at)
		at -= size
		b := make([]byte, size, int(size)+len(tail))
		if _, err := f.ReadAt(b, at); err != nil && err != io.EOF {
			return 0, 0, err
		}
		tail = append(b, tail...)
		// Entries from the end; the first of tail may begin before at.
		lines, pos := 0, len(tail)
		for pos > 0 {
			stop := pos
			if tail[stop-1] == '\n' {
				stop--
			}
			start := bytes.LastIndexByte(tail[:stop], '\n') + 1
			if start == 0 && at > 0 {
				break
			}
			if e, ok := Parse(tail[start:stop]); ok && !e.Partial || stop == len(tail) {
				if lines == n {
					return at + int64(pos), n, nil
				}
				lines++
			}
			pos = start
		}
		if at == 0 {
			return 0, lines, nil
		}
	}
	return 0, 0, nil
}

// Parse understands one line of either format.
func Parse(line []byte) (Entry, bool) {
	if len(line) > 0 && line[0] == '{' {
		return parseJSON(line)
	}
	stamp, rest, ok := bytes.Cut(line, []byte{' '})
	if !ok {
		return Entry{}, false
	}
	var e Entry
	var err error
	if e.Time, err = time.Parse(time.RFC3339Nano, string(stamp)); err != nil {
		return Entry{}, false
	}
	stream, rest, _ := bytes.Cut(rest, []byte{' '})
	switch string(stream) {
	case "stdout":
	case "stderr":
		e.Stream = Stderr
	default:
		return Entry{}, false
	}
	tag, text, ok := bytes.Cut(rest, []byte{' '})
	if !ok && len(tag) == 0 {
		return Entry{}, false
	}
	// Tags are separated by colons; the first says whether the line is whole.
	first, _, _ := bytes.Cut(tag, []byte{':'})
	switch string(first) {
	case "P":
		e.Partial = true
	case "F":
	default:
		return Entry{}, false
	}
	e.Line = text
	return e, true
}

// parseJSON reads json-file's flat object of strings; other keys and objects
// in it (attrs) are passed over.
func parseJSON(line []byte) (Entry, bool) {
	var e Entry
	var stamp []byte
	p := line[1:]
	for {
		p = skip(p, " ,")
		if len(p) == 0 {
			return Entry{}, false
		}
		if p[0] == '}' {
			break
		}
		key, rest, ok := jsonString(p)
		if !ok {
			return Entry{}, false
		}
		rest = skip(rest, " :")
		if len(rest) == 0 {
			return Entry{}, false
		}
		if rest[0] == '{' {
			i := bytes.IndexByte(rest, '}')
			if i < 0 {
				return Entry{}, false
			}
			p = rest[i+1:]
			continue
		}
		value, rest, ok := jsonString(rest)
		if !ok {
			return Entry{}, false
		}
		switch string(key) {
		case "log":
			e.Line = value
		case "stream":
			if string(value) == "stderr" {
				e.Stream = Stderr
			}
		case "time":
			stamp = value
		}
		p = rest
	}
	var err error
	if e.Time, err = time.Parse(time.RFC3339Nano, string(stamp)); err != nil {
		return Entry{}, false
	}
	e.Partial = true
	if n := len(e.Line); n > 0 && e.Line[n-1] == '\n' {
		e.Line, e.Partial = e.Line[:n-1], false
	}
	return e, true
}

func skip(p []byte, chars string) []byte { return bytes.TrimLeft(p, chars) }

// jsonString reads the string at the start of p.
func jsonString(p []byte) (value, rest []byte, ok bool) {
	if len(p) == 0 || p[0] != '"' {
		return nil, nil, false
	}
	p = p[1:]
	if i := bytes.IndexAny(p, `"\`); i >= 0 && p[i] == '"' {
		return p[:i], p[i+1:], true
	}
	out := make([]byte, 0, len(p))
	for len(p) > 0 {
		switch c := p[0]; {
		case c == '"':
			return out, p[1:], true
		case c != '\\':
			out, p = append(out, c), p[1:]
			continue
		}
		if len(p) < 2 {
			break
		}
		c := p[1]
		p = p[2:]
		if i := bytes.IndexByte([]byte(`"\/bfnrt`), c); i >= 0 {
			out = append(out, "\"\\/\b\f\n\r\t"[i])
			continue
		}
		if c != 'u' {
			return nil, nil, false
		}
		r, ok := hex4(p)
		if !ok {
			return nil, nil, false
		}
		p = p[4:]
		if utf16.IsSurrogate(r) && len(p) > 6 && p[0] == '\\' && p[1] == 'u' {
			if low, ok := hex4(p[2:]); ok {
				if full := utf16.DecodeRune(r, low); full != utf8.RuneError {
					r, p = full, p[6:]
				}
			}
		}
		out = utf8.AppendRune(out, r)
	}
	return nil, nil, false
}

func hex4(p []byte) (rune, bool) {
	if len(p) < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(string(p[:4]), 16, 16)
	return rune(n), err == nil
}
