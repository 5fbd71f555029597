package cgroup

import (
	"errors"
	"io/fs"
	"math"
	"strconv"
	"strings"
	"syscall"

	"sampan/internal/fault"
)

// setting is one file of a group to be written.
type setting struct {
	controller string // of version 1, "" for version 2
	file       string
	value      string
	// optional settings are noted, not failed, when the kernel does not know
	// the file: swap accounting that is off, say.
	optional bool
}

// settings translates limits into files, in an order that the kernel accepts
// for a fresh group. It is pure.
func settings(r Resources, v2 bool) []setting {
	var out []setting
	add := func(controller, file, value string) {
		out = append(out, setting{controller: controller, file: file, value: value})
	}
	limit := func(v int64) string {
		if v < 0 && v2 {
			return "max"
		}
		return strconv.FormatInt(v, 10)
	}
	if v2 {
		if r.CPUShares > 0 {
			add("", "cpu.weight", strconv.FormatUint(Weight(r.CPUShares), 10))
		}
		if r.CPUQuota != 0 || r.CPUPeriod != 0 {
			quota := "max"
			if r.CPUQuota > 0 {
				quota = strconv.FormatInt(r.CPUQuota, 10)
			}
			period := r.CPUPeriod
			if period == 0 {
				period = 100000
			}
			add("", "cpu.max", quota+" "+strconv.FormatUint(period, 10))
		}
		if r.CPUBurst > 0 {
			add("", "cpu.max.burst", strconv.FormatUint(r.CPUBurst, 10))
		}
		if r.CPUIdle != nil {
			add("", "cpu.idle", strconv.FormatInt(*r.CPUIdle, 10))
		}
		if r.CPUSetCPUs != "" {
			add("", "cpuset.cpus", r.CPUSetCPUs)
		}
		if r.CPUSetMems != "" {
			add("", "cpuset.mems", r.CPUSetMems)
		}
		if r.MemoryLimit != 0 {
			add("", "memory.max", limit(r.MemoryLimit))
		}
		if r.MemorySwap != 0 && r.MemoryLimit != 0 {
			swap := "max"
			if r.MemorySwap > 0 && r.MemoryLimit > 0 {
				swap = strconv.FormatInt(max(r.MemorySwap-r.MemoryLimit, 0), 10)
			}
			out = append(out, setting{file: "memory.swap.max", value: swap, optional: true})
		}
		if r.MemoryReservation != 0 {
			add("", "memory.low", limit(r.MemoryReservation))
		}
		if r.PidsLimit != 0 {
			add("", "pids.max", limit(r.PidsLimit))
		}
		for k, v := range r.Unified {
			add("", k, v)
		}
		return out
	}
	if r.CPUShares > 0 {
		add("cpu", "cpu.shares", strconv.FormatUint(r.CPUShares, 10))
	}
	if r.CPUPeriod > 0 {
		add("cpu", "cpu.cfs_period_us", strconv.FormatUint(r.CPUPeriod, 10))
	}
	if r.CPUQuota != 0 {
		add("cpu", "cpu.cfs_quota_us", strconv.FormatInt(max(r.CPUQuota, -1), 10))
	}
	if r.CPUBurst > 0 {
		add("cpu", "cpu.cfs_burst_us", strconv.FormatUint(r.CPUBurst, 10))
	}
	if r.CPUIdle != nil {
		out = append(out, setting{"cpu", "cpu.idle", strconv.FormatInt(*r.CPUIdle, 10), true})
	}
	if r.CPUSetCPUs != "" {
		add("cpuset", "cpuset.cpus", r.CPUSetCPUs)
	}
	if r.CPUSetMems != "" {
		add("cpuset", "cpuset.mems", r.CPUSetMems)
	}
	if r.MemoryLimit != 0 {
		add("memory", "memory.limit_in_bytes", limit(max(r.MemoryLimit, -1)))
	}
	if r.MemorySwap != 0 {
		out = append(out, setting{"memory", "memory.memsw.limit_in_bytes", limit(max(r.MemorySwap, -1)), true})
	}
	if r.MemoryReservation != 0 {
		add("memory", "memory.soft_limit_in_bytes", limit(r.MemoryReservation))
	}
	if r.OOMKillDisable != nil && *r.OOMKillDisable {
		add("memory", "memory.oom_control", "1")
	}
	if r.PidsLimit != 0 {
		v := strconv.FormatInt(r.PidsLimit, 10)
		if r.PidsLimit < 0 {
			v = "max"
		}
		add("pids", "pids.max", v)
	}
	return out
}

// Weight turns version 1 CPU shares (2…262144) into a version 2 weight
// (1…10000) so that both defaults, 1024 and 100, meet. It is the formula of
// opencontainers/cgroups since 0.0.3.
func Weight(shares uint64) uint64 {
	switch {
	case shares == 0:
		return 0
	case shares <= 2:
		return 1
	case shares >= 262144:
		return 10000
	}
	l := math.Log2(float64(shares))
	return uint64(math.Ceil(math.Pow(10, (l*l+125*l)/612-7.0/34)))
}

// Apply sets limits. What the kernel has no file for although it is not
// essential comes back as warnings.
func (g *Group) Apply(r Resources) (warnings []string, err error) {
	v2 := g.tree.V2()
	if !v2 && len(r.Unified) > 0 {
		warnings = append(warnings, "control groups of version 2 are not in charge of resources here: unified settings are left out")
	}
	for _, s := range settings(r, v2) {
		dir := g.Dir(s.controller)
		if dir == "" {
			warnings = append(warnings, "controller "+s.controller+" is not mounted: "+s.file+" is left out")
			continue
		}
		if v2 && (strings.Contains(s.file, "/") || strings.HasPrefix(s.file, "cgroup.")) {
			return warnings, &fault.Error{Class: fault.Invalid, Op: "limit control group", On: g.path, Fix: "unified settings name a controller's file, not " + s.file}
		}
		err := write(dir, s.file, s.value)
		if err != nil && s.file == "memory.limit_in_bytes" && errors.Is(err, syscall.EINVAL) && r.MemorySwap != 0 {
			// The limit must stay below memory+swap: raise that first.
			if err = write(dir, "memory.memsw.limit_in_bytes", strconv.FormatInt(max(r.MemorySwap, -1), 10)); err == nil {
				err = write(dir, s.file, s.value)
			}
		}
		switch {
		case err == nil:
		case s.optional && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission)):
			warnings = append(warnings, s.file+" is not supported by this kernel")
		default:
			return warnings, g.fail("limit control group", err)
		}
	}
	if r.Devices != nil {
		w, err := g.applyDevices(r.Devices)
		warnings = append(warnings, w...)
		if err != nil {
			return warnings, err
		}
	}
	return warnings, nil
}

func (g *Group) applyDevices(rules []DeviceRule) (warnings []string, err error) {
	if g.tree.V2() {
		if err := g.attachDevices(rules); err != nil {
			return nil, g.fail("limit devices of control group", err)
		}
		return nil, nil
	}
	dir := g.Dir("devices")
	if dir == "" {
		return []string{"controller devices is not mounted: access to devices is not limited"}, nil
	}
	for _, r := range rules {
		file := "devices.deny"
		if r.Allow {
			file = "devices.allow"
		}
		if err := write(dir, file, r.String()); err != nil {
			return nil, g.fail("limit devices of control group", err)
		}
	}
	return nil, nil
}

// String is the rule as version 1 writes it: "c 1:3 rwm", or "a" for all.
func (d DeviceRule) String() string {
	if d.Type == 'a' || d.Type == 0 {
		return "a"
	}
	num := func(n int64) string {
		if n < 0 {
			return "*"
		}
		return strconv.FormatInt(n, 10)
	}
	access := d.Access
	if access == "" {
		access = "rwm"
	}
	return string(d.Type) + " " + num(d.Major) + ":" + num(d.Minor) + " " + access
}
