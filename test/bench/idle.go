package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	settle     = 20 * time.Second // what follows a start has ended by then
	idleWindow = 60 * time.Second
	megabyte   = 1e6
)

// start measures how long "up" takes until the API answers.
func start(ctx context.Context, b *bench) error {
	var fresh, again, down, reset []float64
	timed := func(into *[]float64, f func(context.Context) error) error {
		began := time.Now()
		err := f(ctx)
		*into = append(*into, time.Since(began).Seconds())
		return err
	}
	stop := func(ctx context.Context) error { _, err := b.call(ctx, "down"); return err }
	ready := func() error { return b.raw(ctx, "/readyz", &strings.Builder{}) }
	for range 5 {
		for _, step := range []func() error{
			func() error { return timed(&fresh, b.up) }, ready,
			func() error { return timed(&down, stop) },
			func() error { return timed(&again, b.up) }, ready,
			func() error { return stop(ctx) },
			func() error { return timed(&reset, b.reset) },
		} {
			if err := step(); err != nil {
				return err
			}
		}
	}
	b.add("up to API ready, on no state", "s", atMost(1.5), fresh...)
	b.add("up to API ready, on kept state", "s", atMost(1.5), again...)
	b.add("down", "s", none, down...)
	b.add("reset", "s", none, reset...)
	return nil
}

// footprint measures what the platform costs while nobody wants anything.
func footprint(ctx context.Context, b *bench) error {
	if err := b.reset(ctx); err != nil {
		return err
	}
	if err := b.up(ctx); err != nil {
		return err
	}
	if err := pause(ctx, settle); err != nil {
		return err
	}
	s, err := b.status(ctx)
	if err != nil {
		return err
	}
	before, err := costOf(s.PID)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := pause(ctx, idleWindow); err != nil {
		return err
	}
	window := time.Since(began)
	after, err := costOf(s.PID)
	if err != nil {
		return err
	}
	if s, err = b.status(ctx); err != nil {
		return err
	}
	b.add("memory of all processes, RSS", "MB", atMost(95), float64(s.All.RSS)/megabyte)
	b.add("  of it private", "MB", none, float64(s.All.Private)/megabyte)
	b.add("CPU of the program over 60 s", "% of a core", atMost(0.5), 100*float64(after.cpu-before.cpu)/float64(window))
	b.add("wake-ups of the program", "/s", none, float64(after.wakeups-before.wakeups)/window.Seconds())
	b.add("written by the program", "kB/s", atMost(1), float64(after.written-before.written)/1e3/window.Seconds())
	b.add("written to all disks, by anybody", "kB/s", none, float64(after.disks-before.disks)/1e3/window.Seconds())
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// cost is what a process has used up to now.
type cost struct {
	cpu     time.Duration
	wakeups int64
	written int64 // bytes it made the file system write; pages written through a mapping count as they are dirtied
	disks   int64 // bytes written to all disks, the file systems' own included
}

// costOf reads proc(5). Time is taken from the scheduler, thread by thread, as
// utime and stime have steps of 10 ms.
func costOf(pid int) (c cost, err error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	threads, err := filepath.Glob(dir + "/task/*")
	if err != nil || len(threads) == 0 {
		return c, fmt.Errorf("process %d has ended", pid)
	}
	for _, t := range threads {
		data, _ := os.ReadFile(t + "/schedstat") // a thread may end meanwhile
		first, _, _ := strings.Cut(string(data), " ")
		ns, _ := strconv.ParseInt(first, 10, 64)
		c.cpu += time.Duration(ns)
		c.wakeups += field(t+"/status", "voluntary_ctxt_switches:")
	}
	c.written = field(dir+"/io", "write_bytes:")
	c.disks = diskWrites()
	return c, nil
}

// field reads a number behind its name.
func field(path, name string) int64 {
	data, _ := os.ReadFile(path)
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, name); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return n
		}
	}
	return 0
}

// diskWrites sums sectors written over the disks that have a device behind
// them; see the kernel's Documentation/block/stat.rst.
func diskWrites() (bytes int64) {
	const written, sector = 6, 512
	devices, _ := filepath.Glob("/sys/block/*/device")
	for _, d := range devices {
		data, _ := os.ReadFile(filepath.Join(filepath.Dir(d), "stat"))
		if f := strings.Fields(string(data)); len(f) > written {
			n, _ := strconv.ParseInt(f[written], 10, 64)
			bytes += n * sector
		}
	}
	return bytes
}
