package engine

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"sampan/internal/fault"
)

// Remove removes a container with its layer, log and name, and the sandbox of
// a stand-alone one. One that runs is killed if force is set.
func (e *Engine) Remove(ctx context.Context, ref string, force bool) error {
	id, err := e.Resolve(ref)
	if err != nil {
		return err
	}
	c, err := e.observe(ctx, id)
	if err != nil {
		return err
	}
	if c.Status.State == Running && !force {
		name := c.Config.Name
		if name == "" {
			name = short(id)
		}
		return &fault.Error{Class: fault.Conflict, Op: "remove container", On: name,
			Err: errors.New("container is running"), Fix: "stop the container before removing or force remove"}
	}
	if c.Sandbox == id {
		return e.RemoveSandbox(ctx, id)
	}
	return e.remove(ctx, id)
}

// remove takes a container away. Each step may have been done by an attempt
// before, and the record goes last of what matters.
func (e *Engine) remove(ctx context.Context, id string) error {
	unlock, c, err := e.lockContainer(ctx, id)
	if fault.ClassOf(err) == fault.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	if c, err = e.observeLocked(ctx, c); err != nil {
		return err
	}
	pod, err := e.Runtime.OpenPod(ctx, c.Sandbox)
	switch {
	case err == nil:
		if c.Status.State == Running {
			if err := e.killLocked(ctx, pod, &c); err != nil {
				return err
			}
		}
		if err := e.unlessGone(ctx, c.Sandbox, pod.Remove(ctx, id)); err != nil && fault.ClassOf(err) != fault.NotFound {
			return in("remove container", short(id), err)
		}
	case fault.ClassOf(err) != fault.NotFound:
		return err
	}
	if err := e.unmountRoot(ctx, id); err != nil {
		return err
	}
	if err := e.Snapshots.Remove(ctx, id); err != nil && fault.ClassOf(err) != fault.NotFound {
		return in("remove container", short(id), err)
	}
	e.release("c", c.Config.Name, id)
	dir := e.place("containers", id)
	if err := os.Remove(filepath.Join(dir, "config.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed("remove container", short(id), err)
	}
	e.records.forgetBelow(dir)
	if err := os.RemoveAll(dir); err != nil {
		return failed("remove container", short(id), err)
	}
	if err := e.removeLog(&c.Config, id); err != nil {
		return err
	}
	e.events.emit(Event{Type: EventDeleted, Sandbox: c.Sandbox, Container: id, At: time.Now()})
	return nil
}

// removeLog removes the log of a container that does not have it in its place.
func (e *Engine) removeLog(c *ContainerConfig, id string) error {
	path := e.logPath(id)
	if c.LogPath != path {
		return nil
	}
	err := os.Remove(path)
	for n := 1; c.LogMaxBytes > 0 && n <= max(c.LogMaxFiles, 1) && (err == nil || errors.Is(err, fs.ErrNotExist)); n++ {
		err = os.Remove(path + "." + itoa(int64(n)))
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return failed("remove log", path, err)
	}
	return nil
}
