// Package cgroup makes, limits, measures and ends control groups, with version
// 1 hierarchies and version 2 behind one type.
//
// A Group is one path that exists below the root of every hierarchy the
// machine has mounted. On a machine with version 1 controllers and an empty
// version 2 hierarchy beside them, the group is made in both: the second one
// gives an atomic kill and a killable freeze.
//
// The package knows nothing of containers and keeps no state of its own: the
// file system is the state, so several processes may work on one group.
package cgroup

import (
	"bufio"
	"bytes"
	"os"
	"path"
	"strings"

	"sampan/internal/fault"
)

// Hierarchy is one mounted cgroup file system.
type Hierarchy struct {
	Dir         string   // where it is mounted
	Controllers []string // of version 1; "name=systemd" for named ones; nil for version 2
}

// Name is the directory under /sys/fs/cgroup by convention: "cpu,cpuacct".
func (h Hierarchy) Name() string {
	if len(h.Controllers) == 0 {
		return "unified"
	}
	return path.Base(h.Dir)
}

// Tree is the set of hierarchies groups are made in. It is immutable.
type Tree struct {
	V1      []Hierarchy // empty on a machine with version 2 only
	Unified string      // mount point of version 2, or empty
}

// Detect reads the mount table of the calling process.
func Detect() (*Tree, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, &fault.Error{Class: fault.Unavailable, Op: "read mount table", On: "/proc/self/mountinfo", Err: err, Fix: "mount proc on /proc"}
	}
	t := parse(table)
	if t.Unified == "" && len(t.V1) == 0 {
		return nil, &fault.Error{Class: fault.Unavailable, Op: "find control groups", On: "/proc/self/mountinfo",
			Fix: "mount cgroup2 on /sys/fs/cgroup"}
	}
	return t, nil
}

// parse finds the cgroup mounts in a mountinfo table (proc(5)). Only mounts of
// a hierarchy's own root count: a bind mount of a group below it does not show
// the whole. Of several mounts of one hierarchy the first counts.
func parse(table []byte) *Tree {
	t := &Tree{}
	seen := map[string]bool{}
	for s := bufio.NewScanner(bytes.NewReader(table)); s.Scan(); {
		f := strings.Fields(s.Text())
		sep := 0
		for i, w := range f {
			if w == "-" {
				sep = i
				break
			}
		}
		if sep < 6 || len(f) < sep+4 || (f[3] != "/" && !strings.HasPrefix(f[3], "/../")) {
			continue
		}
		dir, kind, dev := unescape(f[4]), f[sep+1], f[2]
		if seen[dev] {
			continue
		}
		switch kind {
		case "cgroup2":
			seen[dev] = true
			t.Unified = dir
		case "cgroup":
			seen[dev] = true
			t.V1 = append(t.V1, Hierarchy{Dir: dir, Controllers: controllers(f[sep+3])})
		}
	}
	return t
}

// controllers picks the controllers out of a version 1 mount's super options.
func controllers(opts string) []string {
	var out []string
	for _, o := range strings.Split(opts, ",") {
		switch o {
		case "rw", "ro", "clone_children", "xattr", "noprefix", "cpuset_v2_mode", "favordynmods", "nofavordynmods":
		default:
			if !strings.HasPrefix(o, "release_agent=") {
				out = append(out, o)
			}
		}
	}
	return out
}

// unescape undoes mountinfo's octal escapes (\040 for a blank).
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// V2 says whether version 2 alone limits resources here.
func (t *Tree) V2() bool { return len(t.V1) == 0 }

// dir returns where controller's groups are, or "" if it is not mounted.
func (t *Tree) dir(controller string) string {
	for _, h := range t.V1 {
		for _, c := range h.Controllers {
			if c == controller {
				return h.Dir
			}
		}
	}
	return ""
}

// roots lists every mount point, version 1 first.
func (t *Tree) roots() []string {
	out := make([]string, 0, len(t.V1)+1)
	for _, h := range t.V1 {
		out = append(out, h.Dir)
	}
	if t.Unified != "" {
		out = append(out, t.Unified)
	}
	return out
}

// Resources are limits in the kernel's units. A zero field is left as it is;
// -1 lifts a limit. They follow the OCI runtime specification's
// LinuxResources, flattened.
type Resources struct {
	CPUShares         uint64 // 2…262144; becomes cpu.weight on version 2
	CPUQuota          int64  // µs of CPU time per period
	CPUPeriod         uint64 // µs
	CPUBurst          uint64 // µs
	CPUIdle           *int64
	CPUSetCPUs        string
	CPUSetMems        string
	MemoryLimit       int64 // bytes
	MemorySwap        int64 // bytes of memory and swap together
	MemoryReservation int64
	OOMKillDisable    *bool // version 1 only
	PidsLimit         int64
	Devices           []DeviceRule // in order, all rules of the group; nil leaves it
	Unified           map[string]string
}

// DeviceRule allows or denies access to device nodes. Type is 'a', 'b' or 'c';
// a number of -1 means any; Access is out of "rwm".
type DeviceRule struct {
	Allow        bool
	Type         byte
	Major, Minor int64
	Access       string
}

// Stats is what a group and its descendants use.
type Stats struct {
	CPUUsage, CPUUser, CPUSystem uint64 // ns
	Periods, ThrottledPeriods    uint64
	ThrottledTime                uint64 // ns

	MemoryUsage      uint64 // bytes, cache included
	MemoryWorkingSet uint64 // usage without inactive file pages, as cAdvisor has it
	MemoryRSS        uint64
	MemoryCache      uint64
	MemoryMapped     uint64
	MemoryLimit      uint64 // 0 if there is none
	MemoryPeak       uint64
	PageFaults       uint64
	MajorPageFaults  uint64
	Swap             uint64
	SwapLimit        uint64 // 0 if there is none

	Pids, PidsLimit uint64
	OOMKills        uint64

	IO []IOStats
}

// IOStats counts what went to and from one block device.
type IOStats struct {
	Major, Minor                   uint64
	ReadBytes, WriteBytes          uint64
	ReadOperations, WriteOperation uint64
}
