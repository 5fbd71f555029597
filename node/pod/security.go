package pod

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Paths of /proc and /sys that containers do not see, or not write, unless
// procMount is Unmasked: the set that container engines agree on.
var (
	maskedPaths = []string{"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// image is what a container's identity depends on when the spec does not say.
type image struct {
	UID      *int64
	Username string
}

// securityContext merges the pod's and the container's settings; the
// container's count.
func securityContext(pod *corev1.Pod, c *corev1.Container, img image, target string) (*runtimeapi.LinuxContainerSecurityContext, error) {
	psc, csc := pod.Spec.SecurityContext, c.SecurityContext
	if psc == nil {
		psc = &corev1.PodSecurityContext{}
	}
	if csc == nil {
		csc = &corev1.SecurityContext{}
	}
	sc := &runtimeapi.LinuxContainerSecurityContext{
		Privileged:         yes(csc.Privileged),
		ReadonlyRootfs:     yes(csc.ReadOnlyRootFilesystem),
		NoNewPrivs:         csc.AllowPrivilegeEscalation != nil && !*csc.AllowPrivilegeEscalation,
		NamespaceOptions:   namespaces(pod),
		SupplementalGroups: groups(psc),
		Seccomp:            seccomp(csc.SeccompProfile, psc.SeccompProfile, yes(csc.Privileged)),
		Apparmor:           apparmor(csc.AppArmorProfile, psc.AppArmorProfile, yes(csc.Privileged)),
		SelinuxOptions:     selinux(csc.SELinuxOptions, psc.SELinuxOptions),
	}
	if target != "" {
		sc.NamespaceOptions.Pid, sc.NamespaceOptions.TargetId = runtimeapi.NamespaceMode_TARGET, target
	}
	if p := psc.SupplementalGroupsPolicy; p != nil && *p == corev1.SupplementalGroupsPolicyStrict {
		sc.SupplementalGroupsPolicy = runtimeapi.SupplementalGroupsPolicy_Strict
	}
	if !sc.Privileged && (csc.ProcMount == nil || *csc.ProcMount == corev1.DefaultProcMount) {
		sc.MaskedPaths, sc.ReadonlyPaths = maskedPaths, readonlyPaths
	}
	if caps := csc.Capabilities; caps != nil {
		sc.Capabilities = &runtimeapi.Capability{}
		for _, a := range caps.Add {
			sc.Capabilities.AddCapabilities = append(sc.Capabilities.AddCapabilities, string(a))
		}
		for _, d := range caps.Drop {
			sc.Capabilities.DropCapabilities = append(sc.Capabilities.DropCapabilities, string(d))
		}
	}
	user, group := either(csc.RunAsUser, psc.RunAsUser), either(csc.RunAsGroup, psc.RunAsGroup)
	if group != nil {
		sc.RunAsGroup = &runtimeapi.Int64Value{Value: *group}
	}
	switch {
	case user != nil:
		sc.RunAsUser = &runtimeapi.Int64Value{Value: *user}
	case img.UID != nil:
		sc.RunAsUser = &runtimeapi.Int64Value{Value: *img.UID}
	default:
		sc.RunAsUsername = img.Username
	}
	nonRoot := csc.RunAsNonRoot
	if nonRoot == nil {
		nonRoot = psc.RunAsNonRoot
	}
	if yes(nonRoot) {
		return sc, refuseRoot(pod, c, user, img)
	}
	return sc, nil
}

// refuseRoot checks runAsNonRoot; the texts are upstream's.
func refuseRoot(pod *corev1.Pod, c *corev1.Container, user *int64, img image) error {
	at := fmt.Sprintf("(pod: %q, container: %s)", Format(pod), c.Name)
	switch {
	case user != nil && *user == 0:
		return fmt.Errorf("container's runAsUser breaks non-root policy %s", at)
	case user != nil:
		return nil
	case img.UID != nil && *img.UID == 0:
		return fmt.Errorf("container has runAsNonRoot and image will run as root %s", at)
	case img.UID == nil && img.Username != "":
		return fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root %s", img.Username, at)
	case img.UID == nil:
		return fmt.Errorf("container has runAsNonRoot and image will run as root %s", at)
	}
	return nil
}

func groups(psc *corev1.PodSecurityContext) []int64 {
	var all []int64
	if psc.FSGroup != nil {
		all = append(all, *psc.FSGroup)
	}
	return append(all, psc.SupplementalGroups...)
}

func namespaces(pod *corev1.Pod) *runtimeapi.NamespaceOption {
	n := &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER}
	switch {
	case pod.Spec.HostPID:
		n.Pid = runtimeapi.NamespaceMode_NODE
	case yes(pod.Spec.ShareProcessNamespace):
		n.Pid = runtimeapi.NamespaceMode_POD
	}
	if pod.Spec.HostNetwork {
		n.Network = runtimeapi.NamespaceMode_NODE
	}
	if pod.Spec.HostIPC {
		n.Ipc = runtimeapi.NamespaceMode_NODE
	}
	return n
}

func seccomp(container, pod *corev1.SeccompProfile, privileged bool) *runtimeapi.SecurityProfile {
	p := container
	if p == nil {
		p = pod
	}
	unconfined := &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}
	if p == nil || privileged {
		return unconfined // upstream's default unless the kubelet is told otherwise
	}
	switch p.Type {
	case corev1.SeccompProfileTypeRuntimeDefault:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}
	case corev1.SeccompProfileTypeLocalhost:
		ref := ""
		if p.LocalhostProfile != nil {
			ref = "/var/lib/kubelet/seccomp/" + *p.LocalhostProfile
		}
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: ref}
	}
	return unconfined
}

func apparmor(container, pod *corev1.AppArmorProfile, privileged bool) *runtimeapi.SecurityProfile {
	p := container
	if p == nil {
		p = pod
	}
	if p == nil || privileged {
		return nil
	}
	switch p.Type {
	case corev1.AppArmorProfileTypeRuntimeDefault:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}
	case corev1.AppArmorProfileTypeLocalhost:
		if p.LocalhostProfile != nil {
			return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: *p.LocalhostProfile}
		}
	}
	return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}
}

func selinux(container, pod *corev1.SELinuxOptions) *runtimeapi.SELinuxOption {
	o := container
	if o == nil {
		o = pod
	}
	if o == nil {
		return nil
	}
	return &runtimeapi.SELinuxOption{User: o.User, Role: o.Role, Type: o.Type, Level: o.Level}
}

func yes(b *bool) bool { return b != nil && *b }

func either[T any](a, b *T) *T {
	if a != nil {
		return a
	}
	return b
}
