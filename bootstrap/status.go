package bootstrap

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"sampan/engine"
	"sampan/internal/fault"
)

// Status is what runs and what it costs.
type Status struct {
	Record
	Running  bool  `json:"running"`
	Program  Usage `json:"program"`
	Monitors Usage `json:"monitors"`
	All      Usage `json:"all"`
}

// Usage is what processes cost together.
type Usage struct {
	Processes int           `json:"processes"`
	RSS       int64         `json:"rssBytes"`     // resident, files included, each process counted whole
	Private   int64         `json:"privateBytes"` // nobody else's, files not counted
	CPU       time.Duration `json:"cpuNanoseconds"`
}

func (u *Usage) add(v Usage) {
	u.Processes += v.Processes
	u.RSS += v.RSS
	u.Private += v.Private
	u.CPU += v.CPU
}

// StatusOf says what runs on these directories. That nothing does is no error.
func StatusOf(ctx context.Context, state, run string) (s Status, err error) {
	s.Record, err = Running(state, run)
	switch {
	case err == nil:
		s.Running = true
		if s.Program, err = usageOf(s.PID); err != nil {
			return s, err
		}
	case fault.ClassOf(err) != fault.NotFound:
		return s, err
	}
	if _, err := os.Stat(state); errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	e, err := engine.Open(ctx, engine.Config{State: state, Run: run})
	if err != nil {
		return s, err
	}
	defer e.Close()
	pods, err := e.Runtime.Pods(ctx)
	if err != nil {
		return s, err
	}
	for _, id := range pods {
		p, err := e.Runtime.OpenPod(ctx, id)
		if fault.ClassOf(err) == fault.NotFound {
			continue // ended meanwhile
		}
		if err != nil {
			return s, err
		}
		u, err := usageOf(p.MonitorPID())
		if err != nil {
			return s, err
		}
		s.Monitors.add(u)
	}
	s.All = s.Program
	s.All.add(s.Monitors)
	return s, nil
}

// usageOf reads what a process costs; zero if it has ended. See proc(5).
func usageOf(pid int) (u Usage, err error) {
	dir := fmt.Sprintf("/proc/%d/", pid)
	f, err := os.Open(dir + "smaps_rollup")
	if errors.Is(err, fs.ErrNotExist) {
		return u, nil
	}
	if err != nil {
		return u, &fault.Error{Op: "read memory of process", On: strconv.Itoa(pid), Err: err, Fix: "run as root"}
	}
	defer f.Close()
	u.Processes = 1
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 {
			continue
		}
		kb, _ := strconv.ParseInt(fields[1], 10, 64)
		switch fields[0] {
		case "Rss:":
			u.RSS = kb << 10
		case "Anonymous:": // Private_Dirty has pages of files not yet on disk as well
			u.Private = kb << 10
		}
	}
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return u, nil
	}
	// The name in parentheses may hold anything; fields count from behind it.
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	const utime, stime, ticks = 11, 12, 100 // USER_HZ is 100 everywhere
	if len(fields) > stime {
		user, _ := strconv.ParseInt(fields[utime], 10, 64)
		system, _ := strconv.ParseInt(fields[stime], 10, 64)
		u.CPU = time.Duration(user+system) * (time.Second / ticks)
	}
	return u, nil
}
