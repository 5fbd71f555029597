package engine

import (
	"context"
	"os"
	"path/filepath"
	"syscall"

	"sampan/internal/fault"
	"sampan/internal/linux"
)

// place is where the things of a container or sandbox lie: below State, or
// below Run for what no reboot can leave behind, a container with AutoRemove
// and its sandbox. Nothing of those is written to a disk but what the
// container itself writes.
func (e *Engine) place(kind, id string, elem ...string) string {
	dir := e.run(kind, id)
	if _, err := os.Stat(dir); err != nil {
		dir = e.path(kind, id)
	}
	return filepath.Join(append([]string{dir}, elem...)...)
}

// places are the directories in which things of a kind may lie.
func (e *Engine) places(kind string) []string { return []string{e.run(kind), e.path(kind)} }

// live makes the directory of what describes processes, mounts and interfaces,
// which a reboot clears and from which programs can be executed. /run is that
// on most machines, but on some it lies on a disk, and on some (Debian's) it
// is mounted noexec: there a tmpfs is mounted below it, until Reset.
//
// It is made before the first container, not when the engine is opened: who
// only looks leaves nothing behind.
func (e *Engine) live(ctx context.Context) error {
	e.mu.Lock()
	done := e.alive
	e.mu.Unlock()
	if done {
		return nil
	}
	dir := e.run()
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return failed("make directory", dir, err)
	}
	if !volatile(dir) {
		unlock, err := lock(ctx, filepath.Join(e.config.Run, ".engine.lock"))
		if err != nil {
			return err
		}
		defer unlock()
		if !volatile(dir) { // nobody was faster
			if err := linux.MountTmpfs(dir, "mode=711,size="+liveSize); err != nil {
				return &fault.Error{Class: fault.Unavailable, Op: "prepare", On: dir, Err: err, Fix: "choose a directory on a tmpfs with --run"}
			}
		}
	}
	for _, sub := range []string{"pods", "rootfs", "containers", "sandboxes", "names"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o711); err != nil && !os.IsExist(err) {
			return failed("make directory", filepath.Join(dir, sub), err)
		}
	}
	e.mu.Lock()
	e.alive = true
	e.mu.Unlock()
	return nil
}

// liveSize bounds a tmpfs of the engine's own. A pod's files take some 100 kB.
const liveSize = "256m"

// volatile says whether dir is on a file system that a reboot clears and that
// programs can be started from.
func volatile(dir string) bool {
	const tmpfs, noExec = 0x01021994, 0x8 // TMPFS_MAGIC, statfs(2); ST_NOEXEC, statvfs(3)
	var st syscall.Statfs_t
	return syscall.Statfs(dir, &st) == nil && int64(st.Type) == tmpfs && int64(st.Flags)&noExec == 0
}
