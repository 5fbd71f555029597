package logfile

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

var errDone = errors.New("the writer is done")

// watcher wakes when something happens in the directory of a log: one inotify
// watch on the directory sees writes to the file, and its replacement.
type watcher struct {
	f      *os.File
	name   string // of the log; what happens to others in the directory wakes nobody
	events chan error
	done   chan struct{}
}

func watch(path string) (*watcher, error) {
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		if err == syscall.EMFILE {
			err = errors.New("too many logs are followed at once (fs.inotify.max_user_instances)")
		}
		return nil, &os.PathError{Op: "follow log", Path: path, Err: err}
	}
	const mask = syscall.IN_MODIFY | syscall.IN_CREATE | syscall.IN_MOVED_TO | syscall.IN_MOVED_FROM
	if _, err := syscall.InotifyAddWatch(fd, filepath.Dir(path), mask); err != nil {
		syscall.Close(fd)
		return nil, &os.PathError{Op: "follow log", Path: path, Err: err}
	}
	w := &watcher{f: os.NewFile(uintptr(fd), "inotify"), name: filepath.Base(path), events: make(chan error, 1), done: make(chan struct{})}
	w.events <- nil // what was written before the watch is to be read
	go w.run()
	return w, nil
}

// run turns inotify's events into one wake-up, however many there are.
func (w *watcher) run() {
	defer close(w.done)
	buf := make([]byte, 4096)
	for {
		n, err := w.f.Read(buf)
		if err == nil && !about(buf[:n], w.name) {
			continue
		}
		select {
		case w.events <- err:
		default:
		}
		if err != nil {
			return
		}
	}
}

// about says whether one of the events, as inotify(7) writes them, is about the
// file of that name or may be: the kernel has lost some.
func about(events []byte, name string) bool {
	const head = 16 // wd, mask, cookie, length of the name with its zeros
	for len(events) >= head {
		mask := binary.NativeEndian.Uint32(events[4:])
		end := head + int(binary.NativeEndian.Uint32(events[12:]))
		if end > len(events) {
			return true
		}
		if mask&syscall.IN_Q_OVERFLOW != 0 || string(bytes.TrimRight(events[head:end], "\x00")) == name {
			return true
		}
		events = events[end:]
	}
	return false
}

// wait returns when something happened, with errDone if done was closed.
func (w *watcher) wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-done:
		return errDone
	case err := <-w.events:
		return err
	}
}

func (w *watcher) close() {
	w.f.Close() // ends run's Read
	<-w.done
}
