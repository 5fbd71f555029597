package cgroup

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// unlimited is what version 1 shows for no limit: the largest page-aligned
// 63-bit number. Anything near it counts.
const unlimited = 1 << 62

// Stats reads what the group uses. A file that is missing leaves zeros.
func (g *Group) Stats() (Stats, error) {
	if !g.Exists() {
		return Stats{}, g.fail("read statistics of control group", os.ErrNotExist)
	}
	if g.tree.V2() {
		return g.stats2(), nil
	}
	return g.stats1(), nil
}

func (g *Group) stats1() Stats {
	var s Stats
	s.CPUUsage = number(g.Dir("cpuacct"), "cpuacct.usage")
	s.CPUUser = number(g.Dir("cpuacct"), "cpuacct.usage_user")
	s.CPUSystem = number(g.Dir("cpuacct"), "cpuacct.usage_sys")
	cpu := table(g.Dir("cpu"), "cpu.stat")
	s.Periods, s.ThrottledPeriods, s.ThrottledTime = cpu["nr_periods"], cpu["nr_throttled"], cpu["throttled_time"]
	mem := g.Dir("memory")
	s.MemoryUsage = number(mem, "memory.usage_in_bytes")
	s.MemoryPeak = number(mem, "memory.max_usage_in_bytes")
	s.MemoryLimit = capped(number(mem, "memory.limit_in_bytes"))
	st := table(mem, "memory.stat")
	s.MemoryRSS, s.MemoryCache, s.MemoryMapped = st["total_rss"], st["total_cache"], st["total_mapped_file"]
	s.PageFaults, s.MajorPageFaults, s.Swap = st["total_pgfault"], st["total_pgmajfault"], st["total_swap"]
	s.MemoryWorkingSet = less(s.MemoryUsage, st["total_inactive_file"])
	s.SwapLimit = less(capped(number(mem, "memory.memsw.limit_in_bytes")), s.MemoryLimit)
	s.OOMKills = table(mem, "memory.oom_control")["oom_kill"]
	s.Pids, s.PidsLimit = number(g.Dir("pids"), "pids.current"), number(g.Dir("pids"), "pids.max")
	s.IO = g.io1()
	return s
}

func (g *Group) stats2() Stats {
	var s Stats
	d := g.Dir("")
	cpu := table(d, "cpu.stat")
	s.CPUUsage, s.CPUUser, s.CPUSystem = cpu["usage_usec"]*1000, cpu["user_usec"]*1000, cpu["system_usec"]*1000
	s.Periods, s.ThrottledPeriods, s.ThrottledTime = cpu["nr_periods"], cpu["nr_throttled"], cpu["throttled_usec"]*1000
	s.MemoryUsage, s.MemoryPeak, s.MemoryLimit = number(d, "memory.current"), number(d, "memory.peak"), number(d, "memory.max")
	st := table(d, "memory.stat")
	s.MemoryRSS, s.MemoryCache, s.MemoryMapped = st["anon"], st["file"], st["file_mapped"]
	s.PageFaults, s.MajorPageFaults = st["pgfault"], st["pgmajfault"]
	s.MemoryWorkingSet = less(s.MemoryUsage, st["inactive_file"])
	s.Swap, s.SwapLimit = number(d, "memory.swap.current"), number(d, "memory.swap.max")
	s.OOMKills = table(d, "memory.events")["oom_kill"]
	s.Pids, s.PidsLimit = number(d, "pids.current"), number(d, "pids.max")
	s.IO = g.io2()
	return s
}

// OOMKills counts the group's processes that the kernel has killed for want of
// memory; 0 if that cannot be read.
func (g *Group) OOMKills() uint64 {
	if g.tree.V2() {
		return table(g.Dir(""), "memory.events")["oom_kill"]
	}
	return table(g.Dir("memory"), "memory.oom_control")["oom_kill"]
}

// io1 reads "8:0 Read 4096" lines.
func (g *Group) io1() []IOStats {
	by := map[string]*IOStats{}
	var order []string
	each(g.Dir("blkio"), "blkio.throttle.io_service_bytes_recursive", func(f []string) { addIO(by, &order, f, true) })
	each(g.Dir("blkio"), "blkio.throttle.io_serviced_recursive", func(f []string) { addIO(by, &order, f, false) })
	out := make([]IOStats, 0, len(order))
	for _, dev := range order {
		out = append(out, *by[dev])
	}
	return out
}

func addIO(by map[string]*IOStats, order *[]string, f []string, isBytes bool) {
	if len(f) != 3 {
		return
	}
	s := by[f[0]]
	if s == nil {
		s = &IOStats{}
		s.Major, s.Minor = device(f[0])
		by[f[0]] = s
		*order = append(*order, f[0])
	}
	v := parseUint(f[2])
	switch {
	case f[1] == "Read" && isBytes:
		s.ReadBytes = v
	case f[1] == "Write" && isBytes:
		s.WriteBytes = v
	case f[1] == "Read":
		s.ReadOperations = v
	case f[1] == "Write":
		s.WriteOperation = v
	}
}

// io2 reads "8:0 rbytes=1 wbytes=2 rios=3 wios=4 …" lines.
func (g *Group) io2() []IOStats {
	var out []IOStats
	each(g.Dir(""), "io.stat", func(f []string) {
		s := IOStats{}
		s.Major, s.Minor = device(f[0])
		for _, kv := range f[1:] {
			k, v, _ := strings.Cut(kv, "=")
			switch k {
			case "rbytes":
				s.ReadBytes = parseUint(v)
			case "wbytes":
				s.WriteBytes = parseUint(v)
			case "rios":
				s.ReadOperations = parseUint(v)
			case "wios":
				s.WriteOperation = parseUint(v)
			}
		}
		out = append(out, s)
	})
	return out
}

func device(s string) (major, minor uint64) {
	a, b, _ := strings.Cut(s, ":")
	return parseUint(a), parseUint(b)
}

func capped(v uint64) uint64 {
	if v >= unlimited {
		return 0
	}
	return v
}

func less(a, b uint64) uint64 {
	if b > a {
		return 0
	}
	return a - b
}

func parseUint(s string) uint64 {
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0 // "max"
	}
	return v
}

func number(dir, file string) uint64 {
	if dir == "" {
		return 0
	}
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return 0
	}
	return parseUint(strings.TrimSpace(string(b)))
}

// table reads lines of a name and a number.
func table(dir, file string) map[string]uint64 {
	out := map[string]uint64{}
	each(dir, file, func(f []string) {
		if len(f) == 2 {
			out[f[0]] = parseUint(f[1])
		}
	})
	return out
}

func each(dir, file string, fn func(fields []string)) {
	if dir == "" {
		return
	}
	b, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 0 {
			fn(f)
		}
	}
}
