package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap/zapcore"

	"sampan/internal/fault"
)

// ending is why the embedded etcd could not go on. etcd says so in a log entry
// of level fatal or panic, and would end the process there, without a word of
// what helps. As the logger's hook an ending ends that goroutine only, keeps
// the reason, and the store fails with it.
type ending struct {
	dir  string
	once sync.Once
	done chan struct{} // closed when err is set
	err  error
}

func newEnding(dir string) *ending { return &ending{dir: dir, done: make(chan struct{})} }

// OnWrite implements zapcore.CheckWriteHook.
func (e *ending) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	err := errors.New(entry.Message)
	for _, f := range fields {
		if cause, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			err = fmt.Errorf("%s: %w", entry.Message, cause)
		}
	}
	e.because(err)
	runtime.Goexit() // nothing after a fatal entry may run, deferred calls may
}

func (e *ending) because(err error) {
	e.once.Do(func() {
		e.err = broken(e.dir, err)
		close(e.done)
	})
}

// reason is why etcd ended; nil if it has not.
func (e *ending) reason() error {
	select {
	case <-e.done:
		return e.err
	default:
		return nil
	}
}

// try runs f, which etcd may end by a panic or a fatal log entry, and waits for
// it.
func (e *ending) try(f func() error) error {
	result := make(chan error, 1)
	go func() {
		debug.SetPanicOnFault(true) // of a file that is shorter than it says
		defer func() {
			if r := recover(); r != nil {
				e.because(fmt.Errorf("%v", r))
			}
			close(result) // after Goexit too
		}()
		result <- f()
	}()
	err, returned := <-result
	if ended := e.reason(); ended != nil {
		return ended
	}
	if !returned {
		err = errors.New("it ended without a reason")
	}
	return err
}

// closeWithin is how long an etcd that has ended is given to let go.
const closeWithin = 5 * time.Second

// broken says what to do about a directory that etcd cannot use.
func broken(dir string, err error) error {
	f := &fault.Error{Class: fault.Unavailable, Op: "use the store in", On: dir, Err: err}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		f.Fix = "free space on its file system, then start again: what was acknowledged is kept"
	case errors.Is(err, syscall.EROFS):
		f.Fix = "mount its file system writable, then start again: what was acknowledged is kept"
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		f.Fix = "let root write there, then start again"
	default:
		f.Fix = "its files are damaged: go back to a snapshot with: sampan snapshot restore --force FILE. " +
			"Without one, what had reached the database can be saved with: sampan snapshot restore --force --skip-hash-check " +
			databasePath(dir)
	}
	return f
}

func databasePath(dir string) string { return filepath.Join(dir, "member", "snap", "db") }
