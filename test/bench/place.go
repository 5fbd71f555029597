package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// place is a mount namespace to start commands in. A command inherits the
// namespace of the thread that starts it, so a place is a thread, and starting
// something there costs nothing that would be measured.
type place struct{ work chan func() }

// newPlace makes a place that is as prepare leaves it. It stays until the
// program ends.
func newPlace(prepare func() error) (*place, error) {
	p := &place{work: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: no other goroutine may run here
		err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS)
		if err == nil {
			err = prepare()
		}
		ready <- err
		if err != nil {
			return
		}
		for f := range p.work {
			f()
		}
	}()
	return p, <-ready
}

// call is as the function call, in the place.
func (p *place) call(c *exec.Cmd) (string, error) {
	return callBy(c, func() error {
		started := make(chan error)
		p.work <- func() { started <- c.Start() }
		return <-started
	})
}

// withoutHybrid hides the hierarchy of control groups version 2 that some
// machines have beside those of version 1: crun refuses to work where it has
// a controller.
func withoutHybrid() error {
	const unified = "/sys/fs/cgroup/unified"
	var fs unix.Statfs_t
	if err := unix.Statfs(unified, &fs); errors.Is(err, os.ErrNotExist) || (err == nil && fs.Type != unix.CGROUP2_SUPER_MAGIC) {
		return nil
	}
	if err := unix.Unmount(unified, 0); err != nil {
		return fmt.Errorf("hide %s from crun: %w", unified, err)
	}
	return nil
}
