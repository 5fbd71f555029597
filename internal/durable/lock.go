package durable

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"sampan/internal/fault"
)

// Lock is a lock between processes and goroutines, held until Unlock or the
// end of the process: the kernel drops it with the descriptor (flock(2)).
type Lock struct{ f *os.File }

// Exclusive waits until nobody else holds path in any way. The file is made if
// it is missing and stays: removing it would let two holders lock two files.
func Exclusive(ctx context.Context, path string) (*Lock, error) {
	return lock(ctx, path, syscall.LOCK_EX)
}

// Shared waits until nobody holds path exclusively.
func Shared(ctx context.Context, path string) (*Lock, error) {
	return lock(ctx, path, syscall.LOCK_SH)
}

// TryExclusive is Exclusive without waiting; ok is false if somebody holds it.
// path may be a folder.
func TryExclusive(path string) (l *Lock, ok bool, err error) {
	f, err := open(path)
	if err != nil {
		return nil, false, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, false, nil
		}
		return nil, false, &fault.Error{Op: "lock", On: path, Err: err}
	}
	return &Lock{f}, true, nil
}

// Unlock gives the lock up. It may be called twice, and on a nil Lock.
func (l *Lock) Unlock() {
	if l != nil {
		// A process that is being forked has the descriptor too, until it execs:
		// closing ours alone would leave the lock to it (flock(2)).
		_ = syscall.Flock(int(l.f.Fd()), syscall.LOCK_UN)
		l.f.Close()
	}
}

func lock(ctx context.Context, path string, how int) (*Lock, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	// A blocked flock(2) cannot be cancelled, so a waiter asks again instead,
	// quickly at first: almost all locks are held for microseconds.
	for wait := 100 * time.Microsecond; ; wait = min(2*wait, 20*time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		if err == nil {
			return &Lock{f}, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, &fault.Error{Op: "lock", On: path, Err: err}
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			f.Close()
			return nil, &fault.Error{Class: fault.Unavailable, Op: "lock", On: path, Err: ctx.Err(), Fix: "another sampan process holds it"}
		case <-t.C:
		}
	}
}

func open(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if errors.Is(err, syscall.EISDIR) {
		f, err = os.Open(path)
	}
	if err != nil {
		return nil, &fault.Error{Op: "lock", On: path, Err: err}
	}
	return f, nil
}
