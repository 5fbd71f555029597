// Package linux is the kernel's system calls as Go functions with Go errors,
// as far as the standard library does not have them: mounts by descriptor,
// namespaces, programs of system calls run by a child, pidfds, sockets that
// carry descriptors.
//
// It is the only importer of golang.org/x/sys/unix, and light: the monitor of
// every pod links it. It knows nothing of containers.
package linux

import "syscall"

// CallError is a system call that the kernel refused, with what it was about.
type CallError struct {
	Call  string // "move_mount"
	On    string // its main argument, or empty
	Errno syscall.Errno
}

func (e *CallError) Error() string {
	if e.On == "" {
		return e.Call + ": " + e.Errno.Error()
	}
	return e.Call + " " + e.On + ": " + e.Errno.Error()
}

// Unwrap lets errors.Is compare with syscall.ENOENT, fs.ErrNotExist and so on.
func (e *CallError) Unwrap() error { return e.Errno }

// callError makes a CallError of err, which is nil or an Errno.
func callError(call, on string, err error) error {
	if err == nil {
		return nil
	}
	if no, ok := err.(syscall.Errno); ok {
		return &CallError{Call: call, On: on, Errno: no}
	}
	return err
}
