package runtime

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"sampan/internal/cgroup"
	"sampan/internal/fault"
	"sampan/internal/linux"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// gather looks at the machine for what compile has to know.
func (r *Runtime) gather(pod PodConfig, cfg *ContainerConfig) (facts, error) {
	s := cfg.Spec
	f := facts{seccomp: r.filters.compile, rootfs: cfg.RootFS, dirs: make([]bool, len(s.Mounts)), inGroup: cfg.Cgroup != "" && r.cgs.Unified != ""}
	var err error
	if f.rootfs, err = filepath.EvalSymlinks(cfg.RootFS); err != nil {
		return f, &fault.Error{Class: fault.NotFound, Op: "find root file system", On: cfg.RootFS, Err: err}
	}
	for i, m := range s.Mounts {
		if m.Type != "bind" && !slices.Contains(m.Options, "bind") && !slices.Contains(m.Options, "rbind") {
			continue
		}
		st, err := os.Stat(m.Source)
		if err != nil {
			class := fault.Unavailable
			if errors.Is(err, fs.ErrNotExist) {
				class = fault.NotFound
			}
			return f, &fault.Error{Class: class, Op: "mount", On: m.Source + " on " + m.Destination, Err: err}
		}
		f.dirs[i] = st.IsDir()
	}
	if slices.ContainsFunc(s.Mounts, isCgroup) {
		f.view = viewOf(r.cgs, cfg.Cgroup)
	}
	f.newUTS = s.Hostname != "" && s.Hostname != pod.Hostname || s.Domainname != ""
	return f, f.self(s.Process)
}

// ignoredSignals are those that a child of this process would find ignored: an
// ignored signal stays so over fork and exec (signal(7)), and the monitors
// have it from here. Go itself leaves SIGHUP and SIGINT ignored where they
// were, and those are what nohup and a shell's "&" ignore.
func ignoredSignals() ([]int, error) {
	all := []int{int(syscall.SIGHUP), int(syscall.SIGINT)}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil, err
	}
	_, rest, _ := strings.Cut(string(status), "SigIgn:")
	line, _, _ := strings.Cut(rest, "\n")
	mask, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	for n := 3; n <= 64 && err == nil; n++ {
		if mask&(1<<(n-1)) != 0 {
			all = append(all, n)
		}
	}
	return all, err
}

// self adds what this process may pass on.
func (f *facts) self(p *specs.Process) error {
	var err error
	if f.ignored, err = ignoredSignals(); err != nil {
		return &fault.Error{Class: fault.Unavailable, Op: "read ignored signals", On: "/proc/self/status", Err: err}
	}
	if f.own.effective, f.own.permitted, f.own.bounding, err = linux.Capabilities(); err != nil {
		return &fault.Error{Class: fault.Unavailable, Op: "read own capabilities", Err: err}
	}
	if p == nil {
		return nil
	}
	f.oom = p.OOMScoreAdj
	f.limits = map[string]uint64{}
	raise := f.own.effective&(1<<24) != 0 // CAP_SYS_RESOURCE
	for _, r := range p.Rlimits {
		n := slices.Index(rlimits, r.Type)
		if n < 0 {
			continue // compile says so
		}
		if raise && r.Type == "RLIMIT_NOFILE" { // the one that not even root raises at will (proc(5), nr_open)
			const file = "/proc/sys/fs/nr_open"
			b, err := os.ReadFile(file)
			if err == nil {
				f.limits[r.Type], err = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
			}
			if err != nil {
				return &fault.Error{Class: fault.Unavailable, Op: "read the most files a process may open", On: file, Err: err}
			}
		}
		if raise {
			continue
		}
		if f.limits[r.Type], err = linux.HardLimit(n); err != nil {
			return &fault.Error{Class: fault.Unavailable, Op: "read own limit " + r.Type, Err: err}
		}
	}
	return nil
}

// viewOf is what a container in group sees at /sys/fs/cgroup. Beside version 1
// controllers the version 2 hierarchy is left out: it limits nothing, and
// programs would take it for the one that does.
func viewOf(t *cgroup.Tree, group string) cgroupView {
	v := cgroupView{dirs: map[string]string{}, links: map[string]string{}}
	if t.V2() {
		v.unified = filepath.Join(t.Unified, group)
		return v
	}
	for _, h := range t.V1 {
		name := h.Name()
		v.dirs[name] = filepath.Join(h.Dir, group)
		for _, c := range h.Controllers {
			if c = strings.TrimPrefix(c, "name="); c != name {
				v.links[c] = name
			}
		}
	}
	v.names = slices.Sorted(maps.Keys(v.dirs))
	return v
}

// defaultDevices may be used by every container; the specification's rules
// come before them (runtime specification, Linux: allowed device list).
var defaultDevices = []cgroup.DeviceRule{
	{Allow: true, Type: 'c', Major: -1, Minor: -1, Access: "m"}, {Allow: true, Type: 'b', Major: -1, Minor: -1, Access: "m"},
	{Allow: true, Type: 'c', Major: 1, Minor: 3}, {Allow: true, Type: 'c', Major: 1, Minor: 5}, {Allow: true, Type: 'c', Major: 1, Minor: 7},
	{Allow: true, Type: 'c', Major: 1, Minor: 8}, {Allow: true, Type: 'c', Major: 1, Minor: 9}, {Allow: true, Type: 'c', Major: 5, Minor: 0},
	{Allow: true, Type: 'c', Major: 5, Minor: 2}, {Allow: true, Type: 'c', Major: 136, Minor: -1},
}

// resources flattens the specification's limits. What is not there yet comes
// back as warnings.
func resources(r *specs.LinuxResources) (cgroup.Resources, []string) {
	var out cgroup.Resources
	var lacking []string
	if r == nil {
		return out, nil
	}
	if c := r.CPU; c != nil {
		set(&out.CPUShares, c.Shares)
		set(&out.CPUQuota, c.Quota)
		set(&out.CPUPeriod, c.Period)
		set(&out.CPUBurst, c.Burst)
		out.CPUIdle, out.CPUSetCPUs, out.CPUSetMems = c.Idle, c.Cpus, c.Mems
		if c.RealtimePeriod != nil && *c.RealtimePeriod != 0 || c.RealtimeRuntime != nil && *c.RealtimeRuntime != 0 {
			lacking = append(lacking, "cpu.realtime")
		}
	}
	if m := r.Memory; m != nil {
		set(&out.MemoryLimit, m.Limit)
		set(&out.MemorySwap, m.Swap)
		set(&out.MemoryReservation, m.Reservation)
		out.OOMKillDisable = m.DisableOOMKiller
		if m.Swappiness != nil {
			lacking = append(lacking, "memory.swappiness")
		}
	}
	if r.Pids != nil && r.Pids.Limit != nil {
		out.PidsLimit = *r.Pids.Limit
	}
	if len(r.Devices) > 0 {
		for _, d := range r.Devices {
			rule := cgroup.DeviceRule{Allow: d.Allow, Type: 'a', Major: -1, Minor: -1, Access: d.Access}
			if d.Type != "" {
				rule.Type = d.Type[0]
			}
			set(&rule.Major, d.Major)
			set(&rule.Minor, d.Minor)
			out.Devices = append(out.Devices, rule)
		}
		if last := out.Devices[len(out.Devices)-1]; !last.Allow || last.Type != 'a' {
			out.Devices = append(out.Devices, defaultDevices...)
		}
	}
	out.Unified = r.Unified
	if b := r.BlockIO; b != nil && (b.Weight != nil || b.LeafWeight != nil || len(b.WeightDevice)+len(b.ThrottleReadBpsDevice)+len(b.ThrottleWriteBpsDevice)+len(b.ThrottleReadIOPSDevice)+len(b.ThrottleWriteIOPSDevice) > 0) {
		lacking = append(lacking, "blockIO")
	}
	if len(r.HugepageLimits) > 0 {
		lacking = append(lacking, "hugepageLimits")
	}
	if r.Network != nil {
		lacking = append(lacking, "network")
	}
	if len(r.Rdma) > 0 {
		lacking = append(lacking, "rdma")
	}
	if len(lacking) > 0 {
		return out, []string{"resources not limited, because it is not there yet: " + strings.Join(lacking, ", ")}
	}
	return out, nil
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}
