package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"

	"sampan/internal/fault"
)

// lock takes the lock file at path, against other processes and other
// goroutines of this one. The kernel lets go of it when the process dies.
//
// The file goes away with the directory of what it protects, so a lock that
// was got on a file that is no more does not count.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, notThere("lock", path, err)
		}
		if err := flock(ctx, f); err != nil {
			return nil, err
		}
		mine, err := f.Stat()
		if err != nil {
			f.Close()
			return nil, &fault.Error{Op: "lock", On: path, Err: err}
		}
		there, err := os.Stat(path)
		if err == nil && os.SameFile(mine, there) {
			return func() { f.Close() }, nil
		}
		f.Close()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, &fault.Error{Op: "lock", On: path, Err: err}
		}
	}
}

// flock locks f and closes it if that fails.
func flock(ctx context.Context, f *os.File) error {
	fd := int(f.Fd())
	err := syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return nil
	}
	if err != syscall.EWOULDBLOCK {
		f.Close()
		return &fault.Error{Op: "lock", On: f.Name(), Err: err}
	}
	// flock(2) cannot be given a deadline: one thread waits, and if nobody
	// wants the lock any more it gives it back as soon as it gets it.
	got := make(chan error, 1)
	go func() {
		err := syscall.EINTR
		for err == syscall.EINTR {
			err = toErrno(syscall.Flock(fd, syscall.LOCK_EX))
		}
		if err != 0 {
			got <- err
			return
		}
		got <- nil
	}()
	select {
	case err := <-got:
		if err != nil {
			f.Close()
			return &fault.Error{Op: "lock", On: f.Name(), Err: err}
		}
		return nil
	case <-ctx.Done():
		go func() { <-got; f.Close() }()
		return &fault.Error{Class: fault.Unavailable, Op: "wait for the lock", On: f.Name(), Err: ctx.Err(),
			Fix: "another operation on it is under way"}
	}
}

func toErrno(err error) syscall.Errno {
	var e syscall.Errno
	if err == nil || !errors.As(err, &e) {
		return 0
	}
	return e
}
