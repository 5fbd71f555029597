package pod

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestSysctlsOfAPod(t *testing.T) {
	for _, test := range []struct {
		it   string
		spec corev1.PodSpec
		name string
		want string
	}{
		{it: "sets what only the pod sees", name: "kernel.shm_rmid_forced"},
		{it: "knows a name written with slashes", name: "net/ipv4/tcp_syncookies"},
		{it: "refuses what is not on the list", name: "kernel.msgmax", want: `forbidden sysctl: "kernel.msgmax" not allowlisted`},
		{it: "does not set the machine's network", name: "net.ipv4.tcp_syncookies", spec: corev1.PodSpec{HostNetwork: true},
			want: `forbidden sysctl: "net.ipv4.tcp_syncookies" not allowed with host Net enabled`},
		{it: "does not set the machine's shared memory", name: "kernel.shm_rmid_forced", spec: corev1.PodSpec{HostIPC: true},
			want: `forbidden sysctl: "kernel.shm_rmid_forced" not allowed with host IPC enabled`},
	} {
		pod := &corev1.Pod{Spec: test.spec}
		pod.Spec.SecurityContext = &corev1.PodSecurityContext{Sysctls: []corev1.Sysctl{{Name: test.name, Value: "1"}}}
		v := Admit(pod, &corev1.Node{}, nil)
		switch {
		case v == nil && test.want == "":
		case v == nil || v.Reason != "SysctlForbidden" || v.Message != test.want:
			t.Errorf("it %s: got %v, want %q", test.it, v, test.want)
		}
	}
}
