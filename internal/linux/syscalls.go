package linux

import (
	"strconv"
	"strings"
)

//go:generate go run ./gen

// Audit architectures (linux/audit.h), as seccomp filters see them.
const (
	ArchX86_64  = 0xc000003e
	ArchI386    = 0x40000003
	ArchAARCH64 = 0xc00000b7
	ArchARM     = 0x40000028
)

// Syscalls maps names to numbers for one audit architecture; nil if the
// architecture is unknown. The map is made anew for each call.
func Syscalls(arch uint32) map[string]uint32 {
	var table string
	switch arch {
	case ArchX86_64:
		table = syscallsAMD64
	case ArchAARCH64:
		table = syscallsARM64
	case ArchI386:
		table = syscalls386
	case ArchARM:
		table = syscallsARM
	default:
		return nil
	}
	out := make(map[string]uint32, 512)
	for line := range strings.Lines(table) {
		name, num, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if v, err := strconv.ParseUint(num, 10, 32); err == nil {
			out[name] = uint32(v)
		}
	}
	return out
}
