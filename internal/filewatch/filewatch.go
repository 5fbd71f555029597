// Package filewatch says when a file has changed: one inotify watch on its
// directory, which costs nothing while nothing happens, and sees the file
// written, replaced, or linked to another one as mounted ConfigMaps are.
package filewatch

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"sampan/internal/fault"
)

// Follow calls changed, one call at a time, once at the start and then whenever
// the file at path may have changed, until ctx ends; it returns nil then. What
// happens during a call leads to one more.
func Follow(ctx context.Context, path string, changed func()) error {
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		f := &fault.Error{Op: "follow file", On: path, Err: err}
		if errors.Is(err, syscall.EMFILE) {
			f.Fix = "raise fs.inotify.max_user_instances"
		}
		return f
	}
	f := os.NewFile(uintptr(fd), "inotify")
	defer f.Close()
	// Of writes their end: half of a file is no change yet.
	const mask = syscall.IN_CLOSE_WRITE | syscall.IN_CREATE | syscall.IN_MOVED_TO | syscall.IN_DELETE | syscall.IN_MOVED_FROM
	if _, err := syscall.InotifyAddWatch(fd, filepath.Dir(path), mask); err != nil {
		return &fault.Error{Op: "follow file", On: path, Err: err}
	}
	stop := context.AfterFunc(ctx, func() { f.Close() })
	defer stop()
	changed()
	buf := make([]byte, 4096)
	for {
		n, err := f.Read(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return &fault.Error{Op: "follow file", On: path, Err: err}
		}
		if about(buf[:n], filepath.Base(path)) {
			changed()
		}
	}
}

// about says whether one of the events, as inotify(7) writes them, is about the
// file of that name or may be: the kernel has lost some, or the directory is one
// whose files are links through "..data".
func about(events []byte, name string) bool {
	const head = 16 // wd, mask, cookie, length of the name with its zeros
	for len(events) >= head {
		mask := binary.NativeEndian.Uint32(events[4:])
		end := head + int(binary.NativeEndian.Uint32(events[12:]))
		if end > len(events) {
			return true
		}
		got := string(bytes.TrimRight(events[head:end], "\x00"))
		if mask&syscall.IN_Q_OVERFLOW != 0 || got == name || strings.HasPrefix(got, "..") {
			return true
		}
		events = events[end:]
	}
	return false
}
