package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// contender is one way of doing what a row measures.
type contender struct {
	who    string
	before func(context.Context) error // not measured; may be nil
	do     func(context.Context) error
	after  func(context.Context) error // not measured; may be nil
}

// alternate has each contender do its work in turn, rounds times after warm
// turns that do not count. Who fails once is out of the row, and its reason is
// in.
func (b *bench) alternate(ctx context.Context, r *row, warm, rounds int, all ...contender) {
	for turn := range warm + rounds {
		for _, c := range all {
			if ctx.Err() != nil {
				return
			}
			if f := r.figure(c.who); f.Problem != "" {
				continue
			}
			wall, cpu, err := c.turn(ctx)
			switch {
			case err != nil:
				r.fail(c.who, err)
			case turn >= warm:
				r.add(c.who, inUnit(wall, r.Unit), milliseconds(cpu))
			}
		}
	}
}

func (c contender) turn(ctx context.Context) (wall, cpu time.Duration, err error) {
	if c.before != nil {
		if err := c.before(ctx); err != nil {
			return 0, 0, err
		}
	}
	before, began := spent(), time.Now()
	err = c.do(ctx)
	wall = time.Since(began)
	cpu = max(0, spent()-before)
	if c.after != nil {
		err = errors.Join(err, c.after(ctx))
	}
	return wall, cpu, err
}

// inUnit is a time as a number of the row's unit.
func inUnit(d time.Duration, unit string) float64 {
	if unit == "s" {
		return d.Seconds()
	}
	return milliseconds(d)
}

// call runs a command and returns what it printed.
func call(c *exec.Cmd) (string, error) { return callBy(c, c.Start) }

func callBy(c *exec.Cmd, start func() error) (string, error) {
	var out, trouble bytes.Buffer
	c.Stdout, c.Stderr = &out, &trouble
	c.WaitDelay = time.Second // what it leaves running may keep the pipes
	err := start()
	if err == nil {
		err = c.Wait()
	}
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return "", fmt.Errorf("%s: %w", strings.TrimSpace(lastLine(out.String()+trouble.String())+" ("+strings.Join(c.Args, " ")+")"), err)
	}
	return out.String(), nil
}

// daemon is a program that runs until it is told to stop.
type daemon struct {
	name string
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

// start starts a program whose output goes to a file of the run's directory.
func (b *bench) start(name, path string, env []string, args ...string) (*daemon, error) {
	d := &daemon{name: name, log: filepath.Join(b.dir, name+".log"), done: make(chan struct{})}
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	d.cmd = exec.Command(path, args...)
	d.cmd.Env = append(os.Environ(), env...)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() { defer close(d.done); _ = d.cmd.Wait() }()
	return d, nil
}

func (d *daemon) pid() int { return d.cmd.Process.Pid }

// stop ends it, and kills it if it does not listen.
func (d *daemon) stop() {
	if d == nil {
		return
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.done:
	case <-time.After(10 * time.Second):
		_ = d.cmd.Process.Kill()
		<-d.done
	}
}

// ready waits until check says so, or the daemon ends, or time is up.
func (d *daemon) ready(ctx context.Context, bound time.Duration, check func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-d.done:
			return fmt.Errorf("%s does not start: %s", d.name, d.lastWord())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready after %s: %w", d.name, bound, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// lastWord is the end of its log: why it ended, mostly.
func (d *daemon) lastWord() string {
	data, _ := os.ReadFile(d.log)
	return lastLine(string(data))
}

func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}
