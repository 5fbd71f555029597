package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"sampan/engine/runtime"
	"sampan/internal/fault"
)

// Recover takes over what runs and finishes or undoes what processes that died
// left half-made: records, mounts, snapshots, monitors, addresses. Others may
// be at work at the same time; what they hold locked is left alone. It may be
// called at any time.
func (e *Engine) Recover(ctx context.Context) error {
	var errs []error
	sweep := func(what string, err error) {
		if err != nil {
			errs = append(errs, in("recover", what, err))
		}
	}
	for _, kind := range []string{"containers", "sandboxes"} {
		sweep("half-made "+kind, e.undoHalfMade(ctx, kind))
	}
	ids, err := e.ids("sandboxes")
	sweep("sandboxes", err)
	for _, id := range ids {
		sweep("sandbox "+short(id), e.recoverSandbox(ctx, id))
	}
	containers, err := e.ids("containers")
	sweep("containers", err)
	for _, id := range containers {
		sweep("container "+short(id), e.recoverContainer(ctx, id))
	}
	sweep("pods without a sandbox", e.endStrayPods(ctx))
	sweep("root file systems without a container", e.unmountStray(ctx))
	sweep("logs without a container", e.removeStrayLogs())
	sweep("addresses", e.network.Collect(ctx, func(id string) bool { return e.exists("s", id) }))
	return errors.Join(errs...)
}

// free says whether nobody holds the lock in dir: its maker is dead.
func free(dir string) bool {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false
	}
	defer f.Close()
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

func (e *Engine) undoHalfMade(ctx context.Context, kind string) error {
	for _, base := range e.places(kind) {
		entries, err := os.ReadDir(base)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, d := range entries {
			id, ok := strings.CutPrefix(d.Name(), halfMade)
			dir := filepath.Join(base, d.Name())
			if !ok || !free(dir) {
				continue
			}
			if kind == "sandboxes" {
				err = e.endSandbox(ctx, &sandboxRecord{Sandbox: Sandbox{ID: id, Config: SandboxConfig{Network: NetworkDefault}}})
			} else {
				err = errors.Join(e.unmountRoot(ctx, id), e.Snapshots.Remove(ctx, id))
			}
			if err == nil {
				err = os.RemoveAll(dir)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *Engine) recoverSandbox(ctx context.Context, id string) error {
	dir := e.place("sandboxes", id)
	s, err := e.sandbox(id)
	if fault.ClassOf(err) == fault.NotFound {
		if !free(dir) {
			return nil
		}
		// Its removal was interrupted, or a loss of power tore its record.
		if err := e.endSandbox(ctx, &sandboxRecord{Sandbox: Sandbox{ID: id, Config: SandboxConfig{Network: NetworkDefault}}}); err != nil {
			return err
		}
		return os.RemoveAll(dir)
	}
	if err != nil {
		return err
	}
	switch {
	case s.Removed:
		return e.RemoveSandbox(ctx, id)
	case s.Standalone && !e.exists("c", id):
		if free(dir) {
			return e.RemoveSandbox(ctx, id)
		}
	case s.State == SandboxReady:
		// Opening connects to the monitor, so that its events come to us.
		_, err := e.Runtime.OpenPod(ctx, id)
		if fault.ClassOf(err) == fault.NotFound && !s.Standalone {
			return e.StopSandbox(ctx, id)
		}
		if fault.ClassOf(err) != fault.NotFound {
			return err
		}
	}
	return nil
}

func (e *Engine) recoverContainer(ctx context.Context, id string) error {
	dir := e.place("containers", id)
	c, err := e.container(id)
	if fault.ClassOf(err) == fault.NotFound {
		if !free(dir) {
			return nil
		}
		if err := errors.Join(e.unmountRoot(ctx, id), e.Snapshots.Remove(ctx, id)); err != nil {
			return err
		}
		return os.RemoveAll(dir)
	}
	if err != nil {
		return err
	}
	if _, err := e.sandbox(c.Sandbox); fault.ClassOf(err) == fault.NotFound {
		if free(dir) {
			return e.remove(ctx, id)
		}
		return nil
	}
	if c.Status.State == Created && free(dir) {
		unlock, c, err := e.lockContainer(ctx, id)
		if err != nil {
			return err
		}
		_, err = e.adoptLocked(ctx, c)
		unlock()
		if err != nil {
			return err
		}
	}
	if _, err := e.observe(ctx, id); err != nil && fault.ClassOf(err) != fault.NotFound {
		return err
	}
	return e.Settle(ctx, id)
}

// adoptLocked writes down that a container runs, or ran, which its monitor
// started for a process that died before it could write it down itself.
func (e *Engine) adoptLocked(ctx context.Context, c Container) (Container, error) {
	if c.Status.State != Created {
		return c, nil
	}
	pod, err := e.Runtime.OpenPod(ctx, c.Sandbox)
	var st runtime.State
	if err == nil {
		st, err = pod.State(ctx, c.ID)
		err = e.unlessGone(ctx, c.Sandbox, err)
	}
	if fault.ClassOf(err) == fault.NotFound {
		return c, nil
	}
	if err != nil {
		return c, in("ask the monitor of container", short(c.ID), err)
	}
	c.Status.State, c.Status.Pid, c.Status.Started = Running, st.Pid, st.StartedAt
	if err := e.saveStatus(&c); err != nil {
		return c, err
	}
	e.events.emit(Event{Type: EventStarted, Sandbox: c.Sandbox, Container: c.ID, At: st.StartedAt})
	return c, nil
}

// endStrayPods ends monitors whose sandbox has no record any more.
func (e *Engine) endStrayPods(ctx context.Context) error {
	pods, err := e.Runtime.Pods(ctx)
	if err != nil {
		return err
	}
	for _, id := range pods {
		if !e.exists("s", id) {
			if err := e.endPod(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *Engine) unmountStray(ctx context.Context) error {
	for _, kind := range []struct{ dir, of string }{{"rootfs", "c"}, {"shm", "s"}} {
		entries, err := os.ReadDir(e.run(kind.dir))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, d := range entries {
			if !e.exists(kind.of, d.Name()) {
				if err := unmount(e.run(kind.dir, d.Name())); err != nil {
					return err
				}
			}
		}
	}
	snapshots, err := e.Snapshots.Snapshots(ctx)
	if err != nil {
		return err
	}
	if err := e.removeStrayViews(ctx, snapshots); err != nil {
		return err
	}
	for _, s := range snapshots {
		// Only the engine's own IDs: a build under way has others.
		if isID(s.ID) && !e.exists("c", s.ID) {
			if err := e.Snapshots.Remove(ctx, s.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeStrayLogs removes logs whose container a reboot has taken.
func (e *Engine) removeStrayLogs() error {
	entries, err := os.ReadDir(e.path("logs"))
	if err != nil {
		return err
	}
	for _, d := range entries {
		if id, _, _ := strings.Cut(d.Name(), "-"); !e.exists("c", id) {
			if err := os.Remove(e.path("logs", d.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

func isID(s string) bool {
	return len(s) == 64 && !slices.ContainsFunc([]byte(s), func(b byte) bool { return !strings.ContainsRune("0123456789abcdef", rune(b)) })
}
