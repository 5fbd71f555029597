package logfile

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 5, time.UTC)

func open(t *testing.T, c Config) *Writer {
	t.Helper()
	if c.Path == "" {
		c.Path = filepath.Join(t.TempDir(), "log")
	}
	w, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func write(t *testing.T, w *Writer, s Stream, text string) {
	t.Helper()
	if err := w.Write(s, []byte(text), noon); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string, o Options) string {
	t.Helper()
	var b strings.Builder
	err := Read(t.Context(), path, o, func(e Entry) error {
		b.WriteString(e.Stream.String()[3:] + ":" + string(e.Line))
		if e.Partial {
			b.WriteString("…")
		}
		b.WriteString("\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestLinesAreWrittenInBothFormats(t *testing.T) {
	for format, want := range map[Format]string{
		CRI: "2026-11-21T12:00:00.000000005Z stdout F one\n2026-11-21T12:00:00.000000005Z stderr F bad \"x\"\n" +
			"2026-11-21T12:00:00.000000005Z stdout F two\n2026-11-21T12:00:00.000000005Z stdout P end\n",
		JSON: `{"log":"one\n","stream":"stdout","time":"2026-11-21T12:00:00.000000005Z"}` + "\n" +
			`{"log":"bad \"x\"\n","stream":"stderr","time":"2026-11-21T12:00:00.000000005Z"}` + "\n" +
			`{"log":"two\n","stream":"stdout","time":"2026-11-21T12:00:00.000000005Z"}` + "\n" +
			`{"log":"end","stream":"stdout","time":"2026-11-21T12:00:00.000000005Z"}` + "\n",
	} {
		w := open(t, Config{Format: format})
		write(t, w, Stdout, "one\ntw")
		write(t, w, Stderr, "bad \"x\"\n")
		write(t, w, Stdout, "o\nend")
		if err := w.Close(noon); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(w.config.Path)
		if err != nil || string(got) != want {
			t.Errorf("%s: got\n%s%v, want\n%s", format, got, err, want)
		}
		if got := read(t, w.config.Path, Options{Tail: -1}); got != "out:one\nerr:bad \"x\"\nout:two\nout:end…\n" {
			t.Errorf("%s: read back %q", format, got)
		}
	}
}

func TestLongLinesAreSplit(t *testing.T) {
	for _, format := range []Format{CRI, JSON} {
		w := open(t, Config{Format: format})
		long := strings.Repeat("x", MaxLine)
		write(t, w, Stdout, long[:10])
		write(t, w, Stdout, long[10:]+"y\n"+long+"\n")
		want := "out:" + long + "…\nout:y\nout:" + long + "\n"
		if got := read(t, w.config.Path, Options{Tail: -1}); got != want {
			t.Errorf("%s: got %d bytes, want %d", format, len(got), len(want))
		}
		if got := read(t, w.config.Path, Options{Tail: 1}); got != "out:"+long+"\n" {
			t.Errorf("%s: tail 1 got %d bytes", format, len(got))
		}
	}
}

func TestTailAndSinceOverRotatedFiles(t *testing.T) {
	w := open(t, Config{MaxSize: 400, MaxFiles: 3})
	for i := range 30 {
		write(t, w, Stdout, fmt.Sprintf("line %d\n", i))
	}
	for n, first := range map[int]int{1: 29, 5: 25, 12: 18} {
		got := read(t, w.config.Path, Options{Tail: n})
		if strings.Count(got, "\n") != n || !strings.HasPrefix(got, fmt.Sprintf("out:line %d\n", first)) {
			t.Errorf("tail %d: got %q", n, got)
		}
	}
	if files, _ := filepath.Glob(w.config.Path + "*"); len(files) != 3 {
		t.Errorf("got files %v, want 3", files)
	}
	all := read(t, w.config.Path, Options{Tail: -1})
	if got := read(t, w.config.Path, Options{Tail: 1000}); got != all {
		t.Errorf("tail of more than there is: got %q, want %q", got, all)
	}
	if got := read(t, w.config.Path, Options{}); got != "" {
		t.Errorf("tail 0: got %q", got)
	}
	if got := read(t, w.config.Path, Options{Tail: -1, Since: noon.Add(time.Second)}); got != "" {
		t.Errorf("since later: got %q", got)
	}
}

func TestFollowSeesEveryLineAcrossRotation(t *testing.T) {
	w := open(t, Config{MaxSize: 300, MaxFiles: 100})
	const lines = 200
	done := make(chan struct{})
	got := make(chan string, lines)
	failed := make(chan error, 1)
	go func() {
		next := 0
		failed <- Read(t.Context(), w.config.Path, Options{Tail: -1, Follow: true, Done: done}, func(e Entry) error {
			if want := fmt.Sprintf("line %d", next); string(e.Line) != want {
				t.Errorf("got %q, want %q", e.Line, want)
			}
			next++
			got <- string(e.Line)
			return nil
		})
	}()
	// In step, so that the reader follows instead of reading what is there.
	for i := range lines {
		want := fmt.Sprintf("line %d", i)
		write(t, w, Stdout, want+"\n")
		if i%3 != 0 {
			continue
		}
		for line := range got {
			if line == want {
				break
			}
		}
	}
	close(done)
	if err := <-failed; err != nil {
		t.Fatal(err)
	}
	close(got)
	last := ""
	for line := range got {
		last = line
	}
	if last != fmt.Sprintf("line %d", lines-1) {
		t.Errorf("the last line was %q", last)
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	w := open(t, Config{})
	write(t, w, Stdout, "x\n")
	ctx, cancel := context.WithCancel(t.Context())
	err := Read(ctx, w.config.Path, Options{Tail: -1, Follow: true}, func(Entry) error { cancel(); return nil })
	if err != context.Canceled {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("2026-11-21T12:00:00Z stdout F x"))
	f.Add([]byte(`{"log":"x\u00e9\n","stream":"stderr","time":"2026-11-21T12:00:00Z"}`))
	f.Add([]byte(`{"log":"\ud83d\ude00","attrs":{"a":"b"},"time":"2026-11-21T12:00:00Z"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		e, ok := Parse(line)
		if !ok || strings.ContainsAny(string(e.Line), "\n\r") {
			return
		}
		// What was understood is written and understood again.
		again, ok := Parse(JSON.append(nil, e.Time, e.Stream, e.Line, e.Partial)[:])
		if ok && string(again.Line) != strings.ToValidUTF8(string(e.Line), "\ufffd") && string(again.Line) != string([]rune(string(e.Line))) {
			t.Errorf("%q became %q", e.Line, again.Line)
		}
	})
}

func TestALateLogIsMadeWithItsFirstEntry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for _, text := range []string{"", "a\n"} {
		w := open(t, Config{Path: path, Late: true})
		if text != "" {
			write(t, w, Stdout, text)
		}
		if err := w.Close(noon); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); (err == nil) != (text != "") {
			t.Errorf("after %q: %v", text, err)
		}
	}
	if got := read(t, path, Options{Tail: -1}); got != "out:a\n" {
		t.Errorf("got %q", got)
	}
}

func TestOtherFilesOfTheDirectoryWakeNobody(t *testing.T) {
	event := func(mask uint32, name string) []byte {
		b := make([]byte, 32)
		binary.NativeEndian.PutUint32(b[4:], mask)
		binary.NativeEndian.PutUint32(b[12:], 16)
		copy(b[16:], name)
		return b
	}
	for _, c := range []struct {
		it     string
		events []byte
		want   bool
	}{
		{"another file", event(syscall.IN_MODIFY, "log.1"), false},
		{"the log", event(syscall.IN_MODIFY, "log"), true},
		{"the log after another file", append(event(syscall.IN_CREATE, "x"), event(syscall.IN_MOVED_TO, "log")...), true},
		{"events that were lost", event(syscall.IN_Q_OVERFLOW, ""), true},
	} {
		if got := about(c.events, "log"); got != c.want {
			t.Errorf("%s: got %v", c.it, got)
		}
	}
}
