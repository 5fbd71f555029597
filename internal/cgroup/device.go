package cgroup

import (
	"encoding/binary"
	"os"
	"strings"

	"sampan/internal/linux"
)

// Instructions of BPF that a device program needs (linux/bpf.h).
const (
	ldxW   = 0x61 // dst = *(u32 *)(src + off)
	mov    = 0xbf // dst = src
	movImm = 0xb7
	andImm = 0x57
	rshImm = 0x77
	jneImm = 0x55
	exit   = 0x95
)

// deviceProgram decides on one access by the rules, the last that matches
// counting, as version 1 does. The context is struct bpf_cgroup_dev_ctx:
// access_type (access<<16 | type), major, minor.
func deviceProgram(rules []DeviceRule) []byte {
	var p []byte
	ins := func(code byte, dst, src byte, off int16, imm int32) {
		p = append(p, code, src<<4|dst)
		p = binary.LittleEndian.AppendUint16(p, uint16(off))
		p = binary.LittleEndian.AppendUint32(p, uint32(imm))
	}
	ins(ldxW, 2, 1, 0, 0)
	ins(mov, 3, 2, 0, 0)
	ins(andImm, 2, 0, 0, 0xffff) // r2: type
	ins(rshImm, 3, 0, 0, 16)     // r3: wanted access
	ins(ldxW, 4, 1, 4, 0)        // r4: major
	ins(ldxW, 5, 1, 8, 0)        // r5: minor
	for i := len(rules) - 1; i >= 0; i-- {
		r := rules[i]
		type check struct {
			reg byte
			imm int32
		}
		var checks []check
		if r.Type == 'b' {
			checks = append(checks, check{2, 1})
		} else if r.Type == 'c' {
			checks = append(checks, check{2, 2})
		}
		if len(checks) > 0 {
			if r.Major >= 0 {
				checks = append(checks, check{4, int32(r.Major)})
			}
			if r.Minor >= 0 {
				checks = append(checks, check{5, int32(r.Minor)})
			}
		}
		// An allow matches when it covers everything wanted; a deny when it
		// takes away anything wanted: then the access fails.
		var bits int32
		for bit, c := range []string{"m", "r", "w"} {
			if r.Access == "" || strings.Contains(r.Access, c) {
				bits |= 1 << bit
			}
		}
		partial := bits != 7 && len(checks) > 0
		left := len(checks) + 2 // instructions to jump over
		if partial {
			left += 3
		}
		for _, c := range checks {
			left--
			ins(jneImm, c.reg, 0, int16(left), c.imm)
		}
		if partial {
			ins(mov, 1, 3, 0, 0)
			if r.Allow {
				ins(andImm, 1, 0, 0, ^bits&7)
				ins(jneImm, 1, 0, 2, 0)
			} else {
				ins(andImm, 1, 0, 0, bits)
				ins(0x15, 1, 0, 2, 0) // jeq
			}
		}
		var verdict int32
		if r.Allow {
			verdict = 1
		}
		ins(movImm, 0, 0, 0, verdict)
		ins(exit, 0, 0, 0, 0)
		if len(checks) == 0 && !partial {
			// It matches all: nothing comes after it. Kernels before 6.16 refuse
			// a program with instructions that are never reached.
			return p
		}
	}
	ins(movImm, 0, 0, 0, 0)
	ins(exit, 0, 0, 0, 0)
	return p
}

// attachDevices replaces the group's device program.
func (g *Group) attachDevices(rules []DeviceRule) error {
	dir, err := os.Open(g.Dir(""))
	if err != nil {
		return err
	}
	defer dir.Close()
	return linux.ReplaceDeviceProgram(int(dir.Fd()), deviceProgram(rules))
}
