package pod

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/node/util/sysctl"
)

// safeSysctls may be set by any pod: they belong to its own namespaces and
// change nothing for others. The list is upstream's.
// https://kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster/
var safeSysctls = []string{
	"kernel.shm_rmid_forced",
	"net.ipv4.ip_local_port_range",
	"net.ipv4.ip_local_reserved_ports",
	"net.ipv4.ip_unprivileged_port_start",
	"net.ipv4.ping_group_range",
	"net.ipv4.tcp_fin_timeout",
	"net.ipv4.tcp_keepalive_intvl",
	"net.ipv4.tcp_keepalive_probes",
	"net.ipv4.tcp_keepalive_time",
	"net.ipv4.tcp_notsent_lowat",
	"net.ipv4.tcp_rmem",
	"net.ipv4.tcp_slow_start_after_idle",
	"net.ipv4.tcp_syncookies",
	"net.ipv4.tcp_wmem",
}

// sysctlForbidden says which kernel setting of the pod the node does not set.
func sysctlForbidden(pod *corev1.Pod) *Verdict {
	if pod.Spec.SecurityContext == nil {
		return nil
	}
	no := func(name, why string) *Verdict {
		return &Verdict{"SysctlForbidden", fmt.Sprintf("forbidden sysctl: %q %s", name, why)}
	}
	for _, s := range pod.Spec.SecurityContext.Sysctls {
		name := sysctl.NormalizeName(s.Name)
		if !slices.Contains(safeSysctls, name) {
			return no(name, "not allowlisted")
		}
		namespace, _, _ := sysctl.GetNamespace(name)
		switch {
		case namespace == sysctl.NetNamespace && pod.Spec.HostNetwork:
			return no(name, "not allowed with host Net enabled")
		case namespace == sysctl.IPCNamespace && pod.Spec.HostIPC:
			return no(name, "not allowed with host IPC enabled")
		}
	}
	return nil
}
