package engine

import (
	"errors"
	"os"
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"sampan/internal/fault"
)

// specInput is all that a container's OCI configuration depends on.
type specInput struct {
	container *Container
	sandbox   *Sandbox
	image     ocispec.ImageConfig
	account   account
	hostname  string
	files     []Mount             // the init layer: /etc/hosts, /etc/hostname, /etc/resolv.conf
	shm       string              // the sandbox's /dev/shm on the host; empty: one of its own
	volumes   map[string]string   // name → directory
	devices   []specs.LinuxDevice // Config.Devices, looked up; all of the host's if privileged
	seccomp   *specs.LinuxSeccomp // nil: unconfined
	cgroup    string
	init      []string // put before the command
}

// defaultCapabilities are Docker's and containerd's.
var defaultCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE",
}

// allCapabilities are those of Linux 5.9 and later, in the kernel's order.
var allCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
	"CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
	"CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

var defaultMasked = []string{
	"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
	"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
	"/sys/devices/virtual/powercap",
}

var defaultReadonly = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// compile makes the OCI runtime configuration of a container. It is a pure
// function; what is wrong with the configuration is an Invalid fault.
func compile(in specInput) (*specs.Spec, error) {
	c := &in.container.Config
	args, err := argsOf(c, in.image)
	if err != nil {
		return nil, err
	}
	caps, err := capabilities(c)
	if err != nil {
		return nil, err
	}
	mounts, err := mountsOf(in)
	if err != nil {
		return nil, err
	}
	cwd := c.WorkingDir
	if cwd == "" {
		cwd = in.image.WorkingDir
	}
	if cwd == "" {
		cwd = "/"
	}
	if !path.IsAbs(cwd) {
		return nil, invalid("working directory", cwd, "it is no absolute path")
	}
	adj := c.OOMScoreAdj
	spec := &specs.Spec{
		Version:  specs.Version,
		Hostname: in.hostname,
		Root:     &specs.Root{Path: "rootfs", Readonly: c.ReadOnlyRootFS},
		Mounts:   mounts,
		Process: &specs.Process{
			Terminal: c.TTY,
			Args:     append(slices.Clone(in.init), args...),
			Env:      environment(c, in),
			Cwd:      cwd,
			User: specs.User{UID: in.account.UID, GID: in.account.GID,
				AdditionalGids: groupsOf(c, in.account)},
			Capabilities:    caps,
			NoNewPrivileges: c.NoNewPrivileges,
			OOMScoreAdj:     &adj,
		},
		Linux: &specs.Linux{
			CgroupsPath: in.cgroup,
			Namespaces:  []specs.LinuxNamespace{{Type: specs.MountNamespace}},
			Resources:   c.Resources.oci(),
			Seccomp:     in.seccomp,
			Devices:     in.devices,
		},
		Annotations: c.Annotations,
	}
	for _, r := range c.Rlimits {
		spec.Process.Rlimits = append(spec.Process.Rlimits, specs.POSIXRlimit{Type: r.Type, Soft: r.Soft, Hard: r.Hard})
	}
	if !c.CgroupHost {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.CgroupNamespace})
	}
	if c.PID == "" && !in.sandbox.Config.SharePID && !in.sandbox.Config.HostPID {
		spec.Linux.Namespaces = append(spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.PIDNamespace})
	}
	spec.Linux.Resources.Devices = deviceRules(c, in.devices)
	if c.Privileged {
		spec.Linux.Seccomp = nil
	} else {
		spec.Linux.MaskedPaths, spec.Linux.ReadonlyPaths = c.MaskedPaths, c.ReadonlyPaths
		if c.MaskedPaths == nil {
			spec.Linux.MaskedPaths = defaultMasked
		}
		if c.ReadonlyPaths == nil {
			spec.Linux.ReadonlyPaths = defaultReadonly
		}
	}
	spec.Linux.RootfsPropagation = rootPropagation(mounts)
	return spec, nil
}

// argsOf is Docker's and the CRI's rule: an entrypoint given replaces the
// image's and makes its command void.
func argsOf(c *ContainerConfig, image ocispec.ImageConfig) ([]string, error) {
	entrypoint, command := c.Entrypoint, c.Command
	if len(entrypoint) == 0 {
		entrypoint = image.Entrypoint
		if len(command) == 0 && !c.NoImageCmd {
			command = image.Cmd
		}
	}
	args := slices.Concat(entrypoint, command)
	if len(args) == 0 {
		return nil, &fault.Error{Class: fault.Invalid, Op: "create container from", On: c.Image,
			Err: errors.New("no command specified"), Fix: "the image has no command of its own: give one"}
	}
	return args, nil
}

// environment is PATH, the image's and the container's, the later replacing
// the earlier in its place.
func environment(c *ContainerConfig, in specInput) []string {
	var env []string
	at := map[string]int{}
	set := func(kv string) {
		name, _, _ := strings.Cut(kv, "=")
		if i, ok := at[name]; ok {
			env[i] = kv
			return
		}
		at[name] = len(env)
		env = append(env, kv)
	}
	set(defaultPath)
	if in.hostname != "" {
		set("HOSTNAME=" + in.hostname)
	}
	if c.TTY {
		set("TERM=xterm")
	}
	for _, kv := range in.image.Env {
		set(kv)
	}
	for _, kv := range c.Env {
		set(kv)
	}
	if _, ok := at["HOME"]; !ok {
		home := in.account.Home
		if home == "" {
			home = "/"
			if in.account.UID == 0 {
				home = "/root"
			}
		}
		set("HOME=" + home)
	}
	return env
}

func groupsOf(c *ContainerConfig, a account) []uint32 {
	groups := []uint32{}
	if !c.StrictGroup {
		groups = append(groups, a.Groups...)
	}
	for _, g := range append([]uint32{a.GID}, c.Groups...) {
		if !slices.Contains(groups, g) {
			groups = append(groups, g)
		}
	}
	return groups
}

// capabilities applies drops and additions to the default set: ALL first, then
// single names, whatever the order they are written in.
func capabilities(c *ContainerConfig) (*specs.LinuxCapabilities, error) {
	set := slices.Clone(defaultCapabilities)
	add, err := capNames(c.CapAdd)
	if err != nil {
		return nil, err
	}
	drop, err := capNames(c.CapDrop)
	if err != nil {
		return nil, err
	}
	ambient, err := capNames(c.CapAmbient)
	if err != nil {
		return nil, err
	}
	if c.Privileged || slices.Contains(add, "ALL") {
		set = slices.Clone(allCapabilities)
	}
	if slices.Contains(drop, "ALL") {
		set = nil
		if slices.Contains(add, "ALL") && !c.Privileged {
			set = slices.Clone(allCapabilities)
		}
	}
	if c.Privileged {
		set = slices.Clone(allCapabilities)
	}
	for _, name := range drop {
		if !c.Privileged {
			set = slices.DeleteFunc(set, func(s string) bool { return s == name })
		}
	}
	for _, name := range slices.Concat(add, ambient) {
		if name != "ALL" && !slices.Contains(set, name) {
			set = append(set, name)
		}
	}
	return &specs.LinuxCapabilities{Bounding: set, Effective: set, Permitted: set,
		Inheritable: ambient, Ambient: ambient}, nil
}

func capNames(in []string) ([]string, error) {
	var out []string
	for _, n := range in {
		up := strings.ToUpper(n)
		if up != "ALL" {
			up = "CAP_" + strings.TrimPrefix(up, "CAP_")
			if !slices.Contains(allCapabilities, up) {
				return nil, invalid("capability", n, "there is no such capability")
			}
		}
		out = append(out, up)
	}
	return out, nil
}

// mountsOf lists what is mounted over the root file system, parents before
// what lies in them. A mount of the caller's replaces one of the engine's.
func mountsOf(in specInput) ([]specs.Mount, error) {
	c := &in.container.Config
	sys, cgroupMode := "ro", "ro"
	if c.Privileged {
		sys, cgroupMode = "rw", "rw"
	}
	list := []specs.Mount{
		{Destination: "/proc", Type: "proc", Source: "proc", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "strictatime", "mode=755", "size=65536k"}},
		{Destination: "/dev/pts", Type: "devpts", Source: "devpts",
			Options: []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}},
		{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}},
		{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev", sys}},
		{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup",
			Options: []string{"nosuid", "noexec", "nodev", "relatime", cgroupMode}},
	}
	switch {
	case in.sandbox.Config.HostIPC:
		list = append(list, bind("/dev/shm", "/dev/shm", "rbind", "rprivate"))
	case in.shm != "":
		list = append(list, bind(in.shm, "/dev/shm", "bind", "rprivate"))
	default:
		size := in.sandbox.Config.ShmBytes
		if size == 0 {
			size = 64 << 20
		}
		list = append(list, specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm",
			Options: []string{"nosuid", "noexec", "nodev", "mode=1777", "size=" + strconv.FormatInt(size, 10)}})
	}
	asked := slices.Concat(in.files, c.Mounts)
	seen := map[string]bool{}
	for i := len(asked) - 1; i >= 0; i-- { // the caller's own come after the init layer's
		m := asked[i]
		target := path.Clean(m.Target)
		if !path.IsAbs(target) || target == "/" {
			return nil, invalid("mount", m.Target, "the place inside the container must be an absolute path below /")
		}
		if seen[target] {
			if i >= len(in.files) {
				return nil, invalid("mount", m.Target, "it is given twice")
			}
			continue
		}
		seen[target] = true
		om, err := ociMount(m, target, in)
		if err != nil {
			return nil, err
		}
		list = slices.DeleteFunc(list, func(d specs.Mount) bool { return d.Destination == target })
		list = append(list, om)
	}
	sort.SliceStable(list, func(i, j int) bool {
		return strings.Count(list[i].Destination, "/") < strings.Count(list[j].Destination, "/")
	})
	return list, nil
}

func ociMount(m Mount, target string, in specInput) (specs.Mount, error) {
	mode := "rw"
	if m.ReadOnly {
		mode = "ro"
		if m.RecursiveReadOnly {
			mode = "rro"
		}
	}
	propagation := m.Propagation
	if propagation == "" {
		propagation = "rprivate"
	}
	if !slices.Contains([]string{"rprivate", "rslave", "rshared", "private", "slave", "shared"}, propagation) {
		return specs.Mount{}, invalid("mount", m.Target, "propagation "+propagation+" is not known")
	}
	switch m.Type {
	case "bind", "":
		if !path.IsAbs(m.Source) {
			return specs.Mount{}, invalid("mount", m.Target, "source "+m.Source+" is no absolute path")
		}
		return bind(m.Source, target, append([]string{"rbind", propagation, mode}, m.Options...)...), nil
	case "volume":
		dir, ok := in.volumes[m.Source]
		if !ok {
			return specs.Mount{}, invalid("mount", m.Target, "volume "+m.Source+" does not exist")
		}
		return bind(dir, target, append([]string{"rbind", propagation, mode}, m.Options...)...), nil
	case "image":
		dir, ok := in.volumes[viewKey(m)]
		if !ok {
			return specs.Mount{}, invalid("mount", m.Target, "image "+m.Source+" is not mounted")
		}
		// Read-only and without programs: KEP-4639.
		return bind(dir, target, "rbind", propagation, "ro", "noexec", "nosuid", "nodev"), nil
	case "tmpfs":
		return specs.Mount{Destination: target, Type: "tmpfs", Source: "tmpfs",
			Options: append([]string{"nosuid", "nodev", mode}, m.Options...)}, nil
	}
	return specs.Mount{}, invalid("mount", m.Target, "type "+m.Type+" is not known (bind, volume, tmpfs, image)")
}

// rootPropagation is that of the rootfs: mounts that are to be seen outside,
// or to see what comes outside, need a root that is not private (runtime-spec,
// rootfsPropagation).
func rootPropagation(mounts []specs.Mount) string {
	out := ""
	for _, m := range mounts {
		switch {
		case slices.Contains(m.Options, "rshared") || slices.Contains(m.Options, "shared"):
			return "rshared"
		case slices.Contains(m.Options, "rslave") || slices.Contains(m.Options, "slave"):
			out = "rslave"
		}
	}
	return out
}

// deviceRules let a container use the harmless devices and its own.
func deviceRules(c *ContainerConfig, own []specs.LinuxDevice) []specs.LinuxDeviceCgroup {
	if c.Privileged {
		return []specs.LinuxDeviceCgroup{{Allow: true, Access: "rwm"}}
	}
	n := func(v int64) *int64 { return &v }
	rules := []specs.LinuxDeviceCgroup{
		{Allow: false, Access: "rwm"},
		{Allow: true, Type: "c", Access: "m"}, {Allow: true, Type: "b", Access: "m"},
	}
	for _, d := range [][2]int64{{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}, {5, 2}} {
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: n(d[0]), Minor: n(d[1]), Access: "rwm"})
	}
	rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: "c", Major: n(136), Access: "rwm"})
	for i, d := range own {
		access := "rwm"
		if i < len(c.Devices) && c.Devices[i].Permissions != "" {
			access = c.Devices[i].Permissions
		}
		rules = append(rules, specs.LinuxDeviceCgroup{Allow: true, Type: d.Type, Major: n(d.Major), Minor: n(d.Minor), Access: access})
	}
	return rules
}

// oci is the runtime configuration's form of the limits.
func (r Resources) oci() *specs.LinuxResources {
	out := &specs.LinuxResources{Unified: r.Unified}
	if r.CPUShares != 0 || r.CPUQuota != 0 || r.CPUPeriod != 0 || r.CPUs != "" || r.Mems != "" {
		out.CPU = &specs.LinuxCPU{Cpus: r.CPUs, Mems: r.Mems}
		if r.CPUShares != 0 {
			out.CPU.Shares = &r.CPUShares
		}
		if r.CPUQuota != 0 {
			out.CPU.Quota = &r.CPUQuota
		}
		if r.CPUPeriod != 0 {
			out.CPU.Period = &r.CPUPeriod
		}
	}
	if r.MemoryBytes != 0 || r.SwapBytes != 0 {
		out.Memory = &specs.LinuxMemory{}
		if r.MemoryBytes != 0 {
			out.Memory.Limit = &r.MemoryBytes
		}
		if r.SwapBytes != 0 {
			out.Memory.Swap = &r.SwapBytes
		}
	}
	if r.Pids != 0 {
		out.Pids = &specs.LinuxPids{Limit: &r.Pids}
	}
	for size, limit := range r.HugePages {
		out.HugepageLimits = append(out.HugepageLimits, specs.LinuxHugepageLimit{Pagesize: size, Limit: limit})
	}
	sort.Slice(out.HugepageLimits, func(i, j int) bool { return out.HugepageLimits[i].Pagesize < out.HugepageLimits[j].Pagesize })
	return out
}

func bind(source, target string, options ...string) specs.Mount {
	return specs.Mount{Destination: target, Type: "bind", Source: source, Options: options}
}

func invalid(what, on, why string) error {
	return &fault.Error{Class: fault.Invalid, Op: "use " + what, On: on, Err: errors.New(why)}
}

// fileMode is what a device node of the host has.
func fileMode(m os.FileMode) *os.FileMode { m = m.Perm(); return &m }
