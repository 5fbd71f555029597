package linux

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// OnThread runs fn on a thread that ends with it, so that fn may enter
// namespaces and control groups and leave the thread there.
//
// It is never the process's first thread: that one cannot end before the
// process does, would stay where fn took it, and is what /proc/PID shows.
func OnThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// As long as this goroutine holds the first thread no other can be
			// on it.
			done <- OnThread(fn)
			runtime.UnlockOSThread()
			return
		}
		done <- fn() // not unlocked: the thread ends with the goroutine
	}()
	return <-done
}
