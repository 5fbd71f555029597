package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const megabyte = 1e6

// spent is the CPU time of everything in this process namespace since it was
// made, what has ended included, but for this process's own and for that of
// processes that are named. Steps are 10 ms (proc(5), utime), so it is for
// sums over many rounds.
func spent(except ...int) (sum time.Duration) {
	self := os.Getpid()
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		own, reaped := ticks(pid)
		if pid != self && !slices.Contains(except, pid) {
			sum += own
		}
		sum += reaped
	}
	return sum
}

// ticks are the CPU times of a process and of those that it has waited for.
func ticks(pid int) (own, reaped time.Duration) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0 // it has ended meanwhile: its parent has its time
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	f := strings.Fields(rest)
	if len(f) < 15 {
		return 0, 0
	}
	const tick = 10 * time.Millisecond
	var t [4]int64
	for i := range t {
		t[i], _ = strconv.ParseInt(f[11+i], 10, 64)
	}
	return time.Duration(t[0]+t[1]) * tick, time.Duration(t[2]+t[3]) * tick
}

// cost is what processes have used up to now.
type cost struct {
	cpu     time.Duration
	wakeups int64
	written int64 // bytes they made the file system write
}

// costOf reads proc(5). Time is taken from the scheduler, thread by thread,
// which is exact but forgets threads that have ended.
func costOf(pids []int) (c cost) {
	for _, pid := range pids {
		dir := filepath.Join("/proc", strconv.Itoa(pid))
		threads, _ := filepath.Glob(dir + "/task/*")
		for _, t := range threads {
			data, _ := os.ReadFile(t + "/schedstat")
			first, _, _ := strings.Cut(string(data), " ")
			ns, _ := strconv.ParseInt(first, 10, 64)
			c.cpu += time.Duration(ns)
			c.wakeups += field(t+"/status", "voluntary_ctxt_switches:")
		}
		c.written += field(dir+"/io", "write_bytes:")
	}
	return c
}

// memory is what processes hold, in bytes: whole (RSS), with what several
// processes map divided among them (PSS), and what only they have.
type memory struct{ rss, pss, private float64 }

func memoryOf(pids []int) (m memory) {
	for _, pid := range pids {
		path := fmt.Sprintf("/proc/%d/smaps_rollup", pid)
		m.rss += 1024 * float64(field(path, "Rss:"))
		m.pss += 1024 * float64(field(path, "Pss:"))
		m.private += 1024 * float64(field(path, "Private_Clean:")+field(path, "Private_Dirty:"))
	}
	return m
}

// anonymousOf is the private memory that is in no file: what cannot be dropped
// and read again.
func anonymousOf(pids []int) (bytes float64) {
	for _, pid := range pids {
		bytes += 1024 * float64(field(fmt.Sprintf("/proc/%d/smaps_rollup", pid), "Anonymous:"))
	}
	return bytes
}

// field reads the number behind a name.
func field(path, name string) int64 {
	data, _ := os.ReadFile(path)
	for line := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(line, name); ok {
			v = strings.TrimSuffix(strings.TrimSpace(v), " kB")
			n, _ := strconv.ParseInt(v, 10, 64)
			return n
		}
	}
	return 0
}

// processes returns those that were started under a program's name.
func processes(program string) (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		line, _ := os.ReadFile(dir + "/cmdline")
		first, _, _ := strings.Cut(string(line), "\x00")
		if filepath.Base(first) == program {
			pid, _ := strconv.Atoi(filepath.Base(dir))
			pids = append(pids, pid)
		}
	}
	return pids
}

// loadAverage is that of one minute; see proc_loadavg(5).
func loadAverage() float64 {
	data, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(data), " ")
	x, _ := strconv.ParseFloat(first, 64)
	return x
}
