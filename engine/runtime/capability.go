package runtime

import (
	"slices"
	"strings"

	"sampan/internal/fault"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// capNames in the order of their numbers, linux/capability.h.
var capNames = []string{"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
	"NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE",
	"SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE",
	"AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE"}

func capName(c int) string {
	if c < len(capNames) {
		return "CAP_" + capNames[c]
	}
	return "capability " + itoa(c)
}

// Capabilities lists the names of all capabilities this package knows.
func Capabilities() []string {
	out := make([]string, len(capNames))
	for i, n := range capNames {
		out[i] = "CAP_" + n
	}
	return out
}

type capSets struct{ bounding, effective, permitted, inheritable, ambient uint64 }

// wantedCaps turns names into bits and leaves out what this process cannot
// give. An unknown name is an error.
func wantedCaps(c *specs.LinuxCapabilities, own capSets) (capSets, []string, error) {
	var out capSets
	if c == nil {
		return out, nil, nil
	}
	var lacking []string
	for _, set := range []struct {
		names []string
		to    *uint64
		have  uint64
	}{{c.Bounding, &out.bounding, own.bounding}, {c.Permitted, &out.permitted, own.permitted}, {c.Effective, &out.effective, own.permitted},
		{c.Inheritable, &out.inheritable, own.permitted}, {c.Ambient, &out.ambient, own.permitted}} {
		for _, name := range set.names {
			n := slices.Index(capNames, strings.TrimPrefix(name, "CAP_"))
			if n < 0 {
				return out, nil, &fault.Error{Class: fault.Invalid, Op: "read container configuration", On: "capability " + name, Fix: "no capability has this name"}
			}
			if set.have&(1<<n) == 0 {
				if !slices.Contains(lacking, capName(n)) {
					lacking = append(lacking, capName(n))
				}
				continue
			}
			*set.to |= 1 << n
		}
	}
	out.effective &= out.permitted
	out.ambient &= out.permitted & out.inheritable
	return out, lacking, nil
}
