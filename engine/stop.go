package engine

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sampan/engine/runtime"
	"sampan/internal/fault"
)

// DefaultStopTimeout is Docker's.
const DefaultStopTimeout = 10 * time.Second

// Stop asks the container's process to end and kills it if it has not after
// the timeout: a negative one means the container's own. Nil if it is not
// running.
func (e *Engine) Stop(ctx context.Context, ref string, timeout time.Duration) error {
	c, err := e.Inspect(ctx, ref)
	if err != nil || c.Status.State != Running {
		return err
	}
	if timeout < 0 {
		if timeout = c.Config.StopTimeout; timeout == 0 {
			timeout = DefaultStopTimeout
		}
	}
	pod, err := e.Runtime.OpenPod(ctx, c.Sandbox)
	if fault.ClassOf(err) == fault.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if timeout > 0 {
		sig, err := e.stopSignal(ctx, &c)
		if err != nil {
			return err
		}
		if err := e.unlessGone(ctx, c.Sandbox, pod.Signal(ctx, c.ID, sig, false)); err != nil && fault.ClassOf(err) != fault.NotFound {
			return in("stop container", short(c.ID), err)
		}
		grace, cancel := context.WithTimeout(ctx, timeout)
		_, err = pod.Wait(grace, c.ID)
		over := grace.Err() != nil
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err = e.unlessGone(ctx, c.Sandbox, err); err != nil && !over && fault.ClassOf(err) != fault.NotFound {
			return in("stop container", short(c.ID), err)
		}
		if !over {
			_, err := e.observe(ctx, c.ID)
			return err
		}
	}
	return e.kill(ctx, pod, &c)
}

// kill ends every process of the container and waits for its end.
func (e *Engine) kill(ctx context.Context, pod *runtime.Pod, c *Container) error {
	if err := e.killAll(ctx, pod, c); err != nil {
		return err
	}
	_, err := e.observe(ctx, c.ID)
	return err
}

// killLocked is kill for a caller that holds the container's lock.
func (e *Engine) killLocked(ctx context.Context, pod *runtime.Pod, c *Container) error {
	if err := e.killAll(ctx, pod, c); err != nil {
		return err
	}
	_, err := e.observeLocked(ctx, *c)
	return err
}

func (e *Engine) killAll(ctx context.Context, pod *runtime.Pod, c *Container) error {
	err := e.unlessGone(ctx, c.Sandbox, pod.Signal(ctx, c.ID, syscall.SIGKILL, true))
	if err != nil && fault.ClassOf(err) != fault.NotFound {
		return in("kill container", short(c.ID), err)
	}
	_, err = pod.Wait(ctx, c.ID)
	if err = e.unlessGone(ctx, c.Sandbox, err); err != nil && fault.ClassOf(err) != fault.NotFound {
		return in("wait for container", short(c.ID), err)
	}
	return nil
}

// Kill sends a signal to the container's process.
func (e *Engine) Kill(ctx context.Context, ref string, sig syscall.Signal) error {
	c, err := e.Inspect(ctx, ref)
	if err != nil {
		return err
	}
	if c.Status.State != Running {
		return notRunning("kill container", c.ID)
	}
	pod, err := e.Runtime.OpenPod(ctx, c.Sandbox)
	if err != nil {
		return err
	}
	return in("kill container", short(c.ID), pod.Signal(ctx, c.ID, sig, false))
}

func (e *Engine) killContainersOf(ctx context.Context, sandbox string) error {
	list, err := e.ContainersOf(ctx, sandbox)
	if err != nil {
		return err
	}
	pod, err := e.Runtime.OpenPod(ctx, sandbox)
	if fault.ClassOf(err) == fault.NotFound {
		return nil // observe has told of their end
	}
	if err != nil {
		return err
	}
	for _, c := range list {
		if c.Status.State == Running {
			if err := e.kill(ctx, pod, &c); err != nil {
				return err
			}
		}
	}
	return nil
}

func notRunning(op, id string) error {
	return &fault.Error{Class: fault.Conflict, Op: op, On: short(id), Err: errors.New("container " + id + " is not running"),
		Fix: "start it first"}
}

func (e *Engine) stopSignal(ctx context.Context, c *Container) (syscall.Signal, error) {
	name := c.Config.StopSignal
	if name == "" {
		img, err := e.Images.Get(ctx, c.Image)
		if err != nil && fault.ClassOf(err) != fault.NotFound {
			return 0, err
		}
		name = img.Config.Config.StopSignal
	}
	if name == "" {
		return syscall.SIGTERM, nil
	}
	return ParseSignal(name)
}

var signals = map[string]syscall.Signal{
	"ABRT": 6, "ALRM": 14, "BUS": 7, "CHLD": 17, "CLD": 17, "CONT": 18, "FPE": 8, "HUP": 1, "ILL": 4, "INT": 2, "IO": 29,
	"IOT": 6, "KILL": 9, "PIPE": 13, "POLL": 29, "PROF": 27, "PWR": 30, "QUIT": 3, "SEGV": 11, "STKFLT": 16, "STOP": 19,
	"SYS": 31, "TERM": 15, "TRAP": 5, "TSTP": 20, "TTIN": 21, "TTOU": 22, "URG": 23, "USR1": 10, "USR2": 12,
	"VTALRM": 26, "WINCH": 28, "XCPU": 24, "XFSZ": 25, "RTMIN": 34, "RTMAX": 64,
}

// ParseSignal reads "SIGTERM", "term", "15", "RTMIN+3", "RTMAX-1".
func ParseSignal(s string) (syscall.Signal, error) {
	bad := invalid("signal", s, "there is no such signal")
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > 64 {
			return 0, bad
		}
		return syscall.Signal(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(s), "SIG")
	add := 0
	if i := strings.IndexAny(name, "+-"); i > 0 {
		n, err := strconv.Atoi(name[i:])
		if err != nil || !strings.HasPrefix(name, "RT") {
			return 0, bad
		}
		name, add = name[:i], n
	}
	sig, ok := signals[name]
	if sig += syscall.Signal(add); !ok || sig < 1 || sig > 64 {
		return 0, bad
	}
	return sig, nil
}
