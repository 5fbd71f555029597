package engine

import (
	"context"
	"slices"
	"time"

	"sampan/engine/runtime"
	"sampan/internal/fault"
)

// unknownCode is the exit code of a container whose monitor is gone without a
// record of the end, as containerd has it.
const unknownCode = 255

// Inspect returns the container as it is now.
func (e *Engine) Inspect(ctx context.Context, ref string) (Container, error) {
	id, err := e.Resolve(ref)
	if err != nil {
		return Container{}, err
	}
	return e.observe(ctx, id)
}

// List returns all containers, newest first.
func (e *Engine) List(ctx context.Context) ([]Container, error) {
	ids, err := e.ids("containers")
	if err != nil {
		return nil, err
	}
	return e.observeAll(ctx, ids)
}

// ContainersOf lists the containers of a sandbox, newest first.
func (e *Engine) ContainersOf(ctx context.Context, sandbox string) ([]Container, error) {
	ids, err := e.ids("containers")
	if err != nil {
		return nil, err
	}
	return e.observeAll(ctx, slices.DeleteFunc(ids, func(id string) bool { return !e.isOf(id, sandbox, len(ids)) }))
}

// isOf says whether a container is of a sandbox; it can't move to another, so
// its record is read once. all is about how many containers there are.
func (e *Engine) isOf(id, sandbox string, all int) bool {
	e.mu.Lock()
	of, known := e.sandboxOf[id]
	e.mu.Unlock()
	if !known {
		c, err := e.container(id)
		if err != nil {
			return true // whoever asks for it next says what is wrong
		}
		of = c.Sandbox
		e.mu.Lock()
		if len(e.sandboxOf) > 2*all+100 { // most are of containers that are gone
			clear(e.sandboxOf)
		}
		e.sandboxOf[id] = of
		e.mu.Unlock()
	}
	return of == sandbox
}

func (e *Engine) observeAll(ctx context.Context, ids []string) ([]Container, error) {
	out := make([]Container, 0, len(ids))
	for _, id := range ids {
		c, err := e.observe(ctx, id)
		if err == nil {
			out = append(out, c)
		}
		if err != nil && fault.ClassOf(err) != fault.NotFound {
			return nil, err
		}
	}
	slices.SortFunc(out, func(a, b Container) int { return b.Created.Compare(a.Created) })
	return out, nil
}

// observe returns a container with what its monitor knows, and writes down an
// end that nobody has written down yet.
func (e *Engine) observe(ctx context.Context, id string) (Container, error) {
	c, err := e.container(id)
	if err != nil || c.Status.State != Running {
		return c, err
	}
	if st, err := e.ask(ctx, &c); err != nil || st.State == Running {
		return c, err
	}
	unlock, c, err := e.lockContainer(ctx, id)
	if err != nil {
		return c, err
	}
	defer unlock()
	return e.observeLocked(ctx, c)
}

func (e *Engine) observeLocked(ctx context.Context, c Container) (Container, error) {
	if c.Status.State != Running {
		return c, nil
	}
	st, err := e.ask(ctx, &c)
	if err != nil || st.State == Running {
		return c, err
	}
	c.Status = st
	if err := e.saveStatus(&c); err != nil {
		return c, err
	}
	e.events.emit(Event{Type: EventStopped, Sandbox: c.Sandbox, Container: c.ID, At: st.Finished})
	return c, nil
}

// ask asks the monitor how a container that was running is.
func (e *Engine) ask(ctx context.Context, c *Container) (Status, error) {
	status := c.Status
	pod, err := e.Runtime.OpenPod(ctx, c.Sandbox)
	var st runtime.State
	if err == nil {
		st, err = pod.State(ctx, c.ID)
		err = e.unlessGone(ctx, c.Sandbox, err)
	}
	switch {
	case fault.ClassOf(err) == fault.NotFound:
		status.State, status.Pid, status.ExitCode, status.Finished = Unknown, 0, unknownCode, time.Now()
		return status, nil
	case err != nil:
		return status, in("ask the monitor of container", short(c.ID), err)
	case st.Status == runtime.Exited:
		return ended(status, st.Exit), nil
	}
	return status, nil
}

// unlessGone is err, or NotFound if the monitor ended while it was asked:
// another process may be giving the sandbox back at the same time.
func (e *Engine) unlessGone(ctx context.Context, sandbox string, err error) error {
	if fault.ClassOf(err) != fault.Unavailable || ctx.Err() != nil {
		return err
	}
	if _, e := e.Runtime.OpenPod(ctx, sandbox); fault.ClassOf(e) == fault.NotFound {
		return e
	}
	return err
}

func ended(s Status, x runtime.Exit) Status {
	s.State, s.Pid, s.ExitCode, s.Signal, s.OOMKilled, s.Finished = Exited, 0, x.Code, int(x.Signal), x.OOMKilled, x.At
	return s
}

// Wait returns when the container is not running (any more).
func (e *Engine) Wait(ctx context.Context, ref string) (Status, error) {
	id, err := e.Resolve(ref)
	if err != nil {
		return Status{}, err
	}
	for {
		c, err := e.observe(ctx, id)
		if err != nil {
			return Status{}, err
		}
		if c.Status.State != Running {
			return c.Status, nil
		}
		pod, err := e.Runtime.OpenPod(ctx, c.Sandbox)
		if err == nil {
			_, err = pod.Wait(ctx, id)
			err = e.unlessGone(ctx, c.Sandbox, err)
		}
		if err != nil && fault.ClassOf(err) != fault.NotFound {
			return Status{}, err
		}
	}
}

// Settle finishes what the end of a stand-alone container leaves to do: its
// sandbox is given back, and with AutoRemove the container is removed. It does
// nothing to one that runs.
func (e *Engine) Settle(ctx context.Context, id string) error {
	c, err := e.observe(ctx, id)
	if fault.ClassOf(err) == fault.NotFound {
		return nil
	}
	if err != nil || c.Sandbox != c.ID || c.Status.State == Running || c.Status.State == Created {
		return err
	}
	if c.Config.AutoRemove {
		return e.Remove(ctx, id, true)
	}
	unlock, s, err := e.lockSandbox(ctx, c.Sandbox)
	if err != nil {
		return err
	}
	defer unlock()
	if s.NetNS == "" && s.State == SandboxNotReady {
		return nil
	}
	if c, err = e.observe(ctx, id); err != nil || c.Status.State == Running {
		return err // started again meanwhile
	}
	return e.giveBack(ctx, s, &c)
}
