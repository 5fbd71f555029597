package cri

import (
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"sampan/engine"
)

// sandboxName makes a sandbox unique by what the CRI says has to be.
func sandboxName(m *runtimeapi.PodSandboxMetadata) string {
	return strings.Join([]string{"k8s", m.GetName(), m.GetNamespace(), m.GetUid(), strconv.FormatUint(uint64(m.GetAttempt()), 10)}, "_")
}

func containerName(m *runtimeapi.ContainerMetadata, s *runtimeapi.PodSandboxMetadata) string {
	return strings.Join([]string{"k8s", m.GetName(), s.GetName(), s.GetNamespace(), s.GetUid(), strconv.FormatUint(uint64(m.GetAttempt()), 10)}, "_")
}

// sandboxConfig translates what a kubelet asks for. It is a pure function.
func sandboxConfig(c *runtimeapi.PodSandboxConfig) (engine.SandboxConfig, error) {
	if c.GetMetadata() == nil {
		return engine.SandboxConfig{}, invalid("run sandbox", "", "the configuration has no metadata", "")
	}
	name := c.Metadata.Namespace + "/" + c.Metadata.Name
	sec := c.GetLinux().GetSecurityContext()
	ns := sec.GetNamespaceOptions()
	if u := ns.GetUsernsOptions(); u != nil && u.Mode == runtimeapi.NamespaceMode_POD {
		return engine.SandboxConfig{}, invalid("run sandbox", name, "user namespaces are not supported yet", "set hostUsers: true or leave it out")
	}
	out := engine.SandboxConfig{
		Name:         sandboxName(c.Metadata),
		Hostname:     c.Hostname,
		Labels:       c.Labels,
		Annotations:  c.Annotations,
		Network:      engine.NetworkNone,
		HostIPC:      ns.GetIpc() == runtimeapi.NamespaceMode_NODE,
		HostPID:      ns.GetPid() == runtimeapi.NamespaceMode_NODE,
		SharePID:     ns.GetPid() == runtimeapi.NamespaceMode_POD,
		Sysctls:      c.GetLinux().GetSysctls(),
		CgroupParent: c.GetLinux().GetCgroupParent(),
		LogDirectory: c.LogDirectory,
	}
	if ns.GetNetwork() == runtimeapi.NamespaceMode_NODE {
		out.Network = engine.NetworkHost
	}
	if d := c.DnsConfig; d != nil {
		out.DNS = engine.DNS{Servers: d.Servers, Searches: d.Searches, Options: d.Options}
	}
	meta, err := proto.Marshal(c)
	out.Meta = meta
	return out, err
}

// containerConfig translates what a kubelet asks for. It is a pure function.
func containerConfig(c *runtimeapi.ContainerConfig, sandbox *runtimeapi.PodSandboxConfig) (engine.ContainerConfig, error) {
	var out engine.ContainerConfig
	if c.GetMetadata() == nil || c.GetImage().GetImage() == "" {
		return out, invalid("create container", c.GetMetadata().GetName(), "the configuration needs metadata and an image", "")
	}
	name := c.Metadata.Name
	sec := c.GetLinux().GetSecurityContext()
	out = engine.ContainerConfig{
		Name:       containerName(c.Metadata, sandbox.GetMetadata()),
		Image:      c.Image.Image,
		Entrypoint: c.Command, Command: c.Args,
		WorkingDir: c.WorkingDir,
		Labels:     c.Labels, Annotations: c.Annotations,
		Stdin: c.Stdin, StdinOnce: c.StdinOnce, TTY: c.Tty,
		Privileged:      sec.GetPrivileged(),
		ReadOnlyRootFS:  sec.GetReadonlyRootfs(),
		NoNewPrivileges: sec.GetNoNewPrivs(),
		CapAdd:          sec.GetCapabilities().GetAddCapabilities(),
		CapDrop:         sec.GetCapabilities().GetDropCapabilities(),
		CapAmbient:      sec.GetCapabilities().GetAddAmbientCapabilities(),
		StrictGroup:     sec.GetSupplementalGroupsPolicy() == runtimeapi.SupplementalGroupsPolicy_Strict,
		MergeGroups:     true,
		// The caller says what is masked: no list is none (containerd's reading).
		MaskedPaths:   append([]string{}, sec.GetMaskedPaths()...),
		ReadonlyPaths: append([]string{}, sec.GetReadonlyPaths()...),
		OOMScoreAdj:   int(c.GetLinux().GetResources().GetOomScoreAdj()),
		Resources:     resources(c.GetLinux().GetResources()),
		LogFormat:     "none",
	}
	for _, kv := range c.Envs {
		out.Env = append(out.Env, kv.Key+"="+string(kv.Value))
	}
	for _, g := range sec.GetSupplementalGroups() {
		out.Groups = append(out.Groups, uint32(g))
	}
	var err error
	if out.User, err = user(name, sec); err != nil {
		return out, err
	}
	if out.Seccomp, err = seccomp(name, sec); err != nil {
		return out, err
	}
	if a := sec.GetApparmor(); a.GetProfileType() == runtimeapi.SecurityProfile_Localhost && a != nil {
		return out, invalid("create container", name, "AppArmor profiles are not supported", "leave appArmorProfile out")
	}
	if out.PID, err = pid(name, sec, sandbox); err != nil {
		return out, err
	}
	if out.Mounts, err = mounts(name, c.Mounts); err != nil {
		return out, err
	}
	for _, d := range c.Devices {
		out.Devices = append(out.Devices, engine.Device{HostPath: d.HostPath, ContainerPath: d.ContainerPath, Permissions: d.Permissions})
	}
	if len(c.CDIDevices) > 0 {
		return out, invalid("create container", name, "CDI devices are not supported yet", "")
	}
	if s := c.StopSignal; s != runtimeapi.Signal_SIGNAL_RUNTIME_DEFAULT {
		out.StopSignal = signalName(s)
	}
	if c.LogPath != "" && sandbox.GetLogDirectory() != "" {
		out.LogPath, out.LogFormat = filepath.Join(sandbox.LogDirectory, c.LogPath), "cri"
	}
	out.StopTimeout = engine.DefaultStopTimeout
	out.Meta, err = proto.Marshal(c)
	return out, err
}

func user(name string, sec *runtimeapi.LinuxContainerSecurityContext) (string, error) {
	u := sec.GetRunAsUsername()
	if v := sec.GetRunAsUser(); v != nil {
		u = strconv.FormatInt(v.Value, 10)
	}
	if g := sec.GetRunAsGroup(); g != nil {
		if u == "" {
			return "", invalid("create container", name, "run_as_group is specified without run_as_user", "set runAsUser too")
		}
		u += ":" + strconv.FormatInt(g.Value, 10)
	}
	return u, nil
}

func seccomp(name string, sec *runtimeapi.LinuxContainerSecurityContext) (string, error) {
	p := sec.GetSeccomp()
	if p == nil {
		return "unconfined", nil // what containerd does with none
	}
	switch p.ProfileType {
	case runtimeapi.SecurityProfile_RuntimeDefault:
		return "default", nil
	case runtimeapi.SecurityProfile_Unconfined:
		return "unconfined", nil
	}
	if !filepath.IsAbs(p.LocalhostRef) {
		return "", invalid("create container", name, "seccomp profile "+p.LocalhostRef+" is no absolute path", "")
	}
	return p.LocalhostRef, nil
}

func pid(name string, sec *runtimeapi.LinuxContainerSecurityContext, sandbox *runtimeapi.PodSandboxConfig) (string, error) {
	ns := sec.GetNamespaceOptions()
	pod := sandbox.GetLinux().GetSecurityContext().GetNamespaceOptions().GetPid()
	switch ns.GetPid() {
	case runtimeapi.NamespaceMode_TARGET:
		if ns.TargetId == "" {
			return "", invalid("create container", name, "the process namespace of a target is asked for without naming it", "")
		}
		return "container:" + ns.TargetId, nil
	case runtimeapi.NamespaceMode_CONTAINER:
		if pod == runtimeapi.NamespaceMode_POD {
			return "private", nil
		}
	case runtimeapi.NamespaceMode_NODE:
		if pod != runtimeapi.NamespaceMode_NODE {
			return "", invalid("create container", name, "the host's process namespace is asked for in a sandbox that does not have it", "")
		}
	}
	return "", nil
}

func mounts(name string, in []*runtimeapi.Mount) ([]engine.Mount, error) {
	out := make([]engine.Mount, 0, len(in))
	for _, m := range in {
		if image := m.GetImage().GetImage(); image != "" {
			// CreateContainer puts the image's ID for its name.
			out = append(out, engine.Mount{Type: "image", Source: image, SubPath: m.ImageSubPath, Target: m.ContainerPath, ReadOnly: true})
			continue
		}
		if len(m.UidMappings)+len(m.GidMappings) > 0 {
			return nil, invalid("create container", name, "id-mapped mounts are not supported yet (mount "+m.ContainerPath+")", "")
		}
		if m.RecursiveReadOnly && (!m.Readonly || m.Propagation != runtimeapi.MountPropagation_PROPAGATION_PRIVATE) {
			return nil, invalid("create container", name, "recursive_read_only needs readonly and private propagation (mount "+m.ContainerPath+")", "")
		}
		propagation := "rprivate"
		switch m.Propagation {
		case runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER:
			propagation = "rslave"
		case runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL:
			propagation = "rshared"
		}
		source := m.HostPath
		// A link is followed on the host, where its maker made it.
		if real, err := filepath.EvalSymlinks(source); err == nil {
			source = real
		}
		out = append(out, engine.Mount{Type: "bind", Source: source, Target: m.ContainerPath, ReadOnly: m.Readonly,
			RecursiveReadOnly: m.RecursiveReadOnly, Propagation: propagation, Options: m.MountOptions})
	}
	return out, nil
}

func resources(r *runtimeapi.LinuxContainerResources) engine.Resources {
	if r == nil {
		return engine.Resources{}
	}
	out := engine.Resources{CPUShares: uint64(r.CpuShares), CPUQuota: r.CpuQuota, CPUPeriod: uint64(r.CpuPeriod),
		CPUs: r.CpusetCpus, Mems: r.CpusetMems, MemoryBytes: r.MemoryLimitInBytes, SwapBytes: r.MemorySwapLimitInBytes,
		Unified: r.Unified}
	for _, h := range r.HugepageLimits {
		if out.HugePages == nil {
			out.HugePages = map[string]uint64{}
		}
		out.HugePages[h.PageSize] = h.Limit
	}
	return out
}

// signalName turns SIGNAL_SIGRTMINPLUS1 into SIGRTMIN+1.
func signalName(s runtimeapi.Signal) string {
	name := strings.TrimPrefix(s.String(), "SIGNAL_")
	name = strings.Replace(name, "RTMINPLUS", "RTMIN+", 1)
	return strings.Replace(name, "RTMAXMINUS", "RTMAX-", 1)
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
