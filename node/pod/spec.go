package pod

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubelet "k8s.io/kubelet/pkg/types"

	"sampan/node/resource"
)

// Host is what every pod of a node is made with.
type Host struct {
	LogDir        string
	CgroupRoot    string
	MemoryBytes   int64
	ClusterDNS    []string
	ClusterDomain string
	Resolver      Resolver // the machine's own
	NodeName      string
	HostsFile     []byte // the machine's /etc/hosts, for hostNetwork pods
}

// SandboxConfig is the CRI request for a pod's sandbox.
func SandboxConfig(pod *corev1.Pod, attempt uint32, h *Host) (*runtimeapi.PodSandboxConfig, error) {
	dns, err := dnsConfig(pod, h)
	if err != nil {
		return nil, err
	}
	name, _, err := Hostname(pod, h.ClusterDomain)
	if err != nil {
		return nil, err
	}
	if pod.Spec.HostNetwork {
		name = "" // the machine's own
	}
	cfg := &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: pod.Name, Namespace: pod.Namespace, Uid: string(pod.UID), Attempt: attempt},
		Hostname:     name,
		LogDirectory: LogDirectory(h.LogDir, pod.Namespace, pod.Name, string(pod.UID)),
		DnsConfig:    dns,
		Labels:       podLabels(pod),
		Annotations:  map[string]string{},
		Linux:        linuxSandbox(pod, h),
	}
	for k, v := range pod.Annotations {
		cfg.Annotations[k] = v
	}
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if list := &list[i]; !(containsContainer(pod.Spec.InitContainers, list.Name) && !sidecar(list)) {
				cfg.PortMappings = append(cfg.PortMappings, ports(list.Ports)...)
			}
		}
	}
	return cfg, nil
}

func containsContainer(list []corev1.Container, name string) bool {
	for i := range list {
		if list[i].Name == name {
			return true
		}
	}
	return false
}

func ports(list []corev1.ContainerPort) []*runtimeapi.PortMapping {
	var all []*runtimeapi.PortMapping
	for _, p := range list {
		m := &runtimeapi.PortMapping{ContainerPort: p.ContainerPort, HostPort: p.HostPort, HostIp: p.HostIP}
		switch p.Protocol {
		case corev1.ProtocolUDP:
			m.Protocol = runtimeapi.Protocol_UDP
		case corev1.ProtocolSCTP:
			m.Protocol = runtimeapi.Protocol_SCTP
		}
		all = append(all, m)
	}
	return all
}

func linuxSandbox(pod *corev1.Pod, h *Host) *runtimeapi.LinuxPodSandboxConfig {
	sc := &runtimeapi.LinuxSandboxSecurityContext{
		NamespaceOptions: namespaces(pod),
		Privileged:       privileged(pod),
		Seccomp:          &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault},
	}
	l := &runtimeapi.LinuxPodSandboxConfig{CgroupParent: resource.CgroupParent(h.CgroupRoot, pod), SecurityContext: sc, Sysctls: map[string]string{}}
	if psc := pod.Spec.SecurityContext; psc != nil {
		if psc.RunAsUser != nil {
			sc.RunAsUser = &runtimeapi.Int64Value{Value: *psc.RunAsUser}
		}
		if psc.RunAsGroup != nil {
			sc.RunAsGroup = &runtimeapi.Int64Value{Value: *psc.RunAsGroup}
		}
		sc.SupplementalGroups = groups(psc)
		sc.SelinuxOptions = selinux(nil, psc.SELinuxOptions)
		for _, s := range psc.Sysctls {
			l.Sysctls[strings.ReplaceAll(s.Name, "/", ".")] = s.Value
		}
	}
	total := resource.Pod(pod)
	l.Resources = &runtimeapi.LinuxContainerResources{
		CpuShares: total.CPUShares, CpuQuota: total.CPUQuota, CpuPeriod: total.CPUPeriod, MemoryLimitInBytes: total.MemoryBytes}
	l.Overhead = &runtimeapi.LinuxContainerResources{}
	if o := pod.Spec.Overhead; len(o) > 0 {
		l.Overhead.CpuShares = resource.Shares(o.Cpu().MilliValue())
		l.Overhead.MemoryLimitInBytes = o.Memory().Value()
	}
	return l
}

func privileged(pod *corev1.Pod) bool {
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if sc := list[i].SecurityContext; sc != nil && yes(sc.Privileged) {
				return true
			}
		}
	}
	return false
}

func podLabels(pod *corev1.Pod) map[string]string {
	l := map[string]string{}
	for k, v := range pod.Labels {
		l[k] = v
	}
	l[kubelet.KubernetesPodNameLabel] = pod.Name
	l[kubelet.KubernetesPodNamespaceLabel] = pod.Namespace
	l[kubelet.KubernetesPodUIDLabel] = string(pod.UID)
	return l
}

// LogDirectory is where a pod's logs are, LogPath a container's file in it.
func LogDirectory(dir, namespace, name, uid string) string {
	return path.Join(dir, namespace+"_"+name+"_"+uid)
}

func LogPath(container string, attempt uint32) string {
	return path.Join(container, strconv.FormatUint(uint64(attempt), 10)+".log")
}

// ContainerRequest is what a container's CRI configuration is made from
// beside the pod.
type ContainerRequest struct {
	Container *corev1.Container
	Attempt   uint32
	ImageRef  string
	Image     image
	Facts     *Facts
	Mounts    []*runtimeapi.Mount
	Target    string // of an ephemeral container: the ID of the one it looks at
}

// ContainerConfig is the CRI request for one container.
func ContainerConfig(pod *corev1.Pod, r *ContainerRequest, h *Host) (*runtimeapi.ContainerConfig, error) {
	c := r.Container
	env, err := environment(pod, c, r.Facts)
	if err != nil {
		return nil, err
	}
	known := func(name string) (string, bool) {
		for _, e := range env {
			if e.Key == name {
				return string(e.Value), true
			}
		}
		return "", false
	}
	sc, err := securityContext(pod, c, r.Image, r.Target)
	if err != nil {
		return nil, err
	}
	limits := resource.Container(c.Resources)
	cfg := &runtimeapi.ContainerConfig{
		Metadata:   &runtimeapi.ContainerMetadata{Name: c.Name, Attempt: r.Attempt},
		Image:      &runtimeapi.ImageSpec{Image: r.ImageRef, UserSpecifiedImage: c.Image},
		Command:    expandAll(c.Command, known),
		Args:       expandAll(c.Args, known),
		WorkingDir: c.WorkingDir,
		Envs:       env,
		Mounts:     r.Mounts,
		Labels: map[string]string{
			kubelet.KubernetesPodNameLabel: pod.Name, kubelet.KubernetesPodNamespaceLabel: pod.Namespace,
			kubelet.KubernetesPodUIDLabel: string(pod.UID), kubelet.KubernetesContainerNameLabel: c.Name,
		},
		Annotations: map[string]string{
			restartCountAnnotation: strconv.FormatUint(uint64(r.Attempt), 10),
			definitionAnnotation:   definition(c),
			messagePathAnnotation:  c.TerminationMessagePath,
			messagePolicy:          string(c.TerminationMessagePolicy),
		},
		LogPath:   LogPath(c.Name, r.Attempt),
		Stdin:     c.Stdin,
		StdinOnce: c.StdinOnce,
		Tty:       c.TTY,
		Linux: &runtimeapi.LinuxContainerConfig{
			SecurityContext: sc,
			Resources: &runtimeapi.LinuxContainerResources{
				CpuShares: limits.CPUShares, CpuQuota: limits.CPUQuota, CpuPeriod: limits.CPUPeriod,
				MemoryLimitInBytes: limits.MemoryBytes, OomScoreAdj: resource.OOMScoreAdj(pod, c, h.MemoryBytes),
			},
		},
	}
	if s := pod.Spec.TerminationGracePeriodSeconds; s != nil {
		cfg.Annotations[graceAnnotation] = strconv.FormatInt(*s, 10)
	}
	if c.Lifecycle != nil && c.Lifecycle.StopSignal != nil {
		n, ok := runtimeapi.Signal_value[string(*c.Lifecycle.StopSignal)]
		if !ok {
			return nil, fmt.Errorf("stop signal %q of container %s is unknown", *c.Lifecycle.StopSignal, c.Name)
		}
		cfg.StopSignal = runtimeapi.Signal(n)
	}
	return cfg, nil
}

func expandAll(list []string, known func(string) (string, bool)) []string {
	if list == nil {
		return nil
	}
	all := make([]string, len(list))
	for i, s := range list {
		all[i] = expand(s, known)
	}
	return all
}
