package runtime

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"sampan/internal/linux"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// call is struct seccomp_data as far as filters look at it.
type call struct {
	nr, arch uint32
	args     [6]uint64
}

// decide runs a filter as the kernel would.
func decide(t *testing.T, filter []byte, c call) uint32 {
	t.Helper()
	var a uint32
	for pc, steps := 0, 0; ; pc, steps = pc+1, steps+1 {
		if 8*pc >= len(filter) || steps > maxFilter {
			t.Fatalf("the filter runs off its end at %d", pc)
		}
		i := filter[8*pc:]
		jt, jf, k := int(i[2]), int(i[3]), binary.LittleEndian.Uint32(i[4:])
		branch := func(yes bool) {
			if yes {
				pc += jt
			} else {
				pc += jf
			}
		}
		switch binary.LittleEndian.Uint16(i) {
		case bpfLoad:
			switch {
			case k == offNR:
				a = c.nr
			case k == offArch:
				a = c.arch
			default:
				a = uint32(c.args[(k-offArgs)/8] >> (8 * ((k - offArgs) % 8)))
			}
		case bpfAnd:
			a &= k
		case bpfJmp:
			pc += int(k)
		case bpfJeq:
			branch(a == k)
		case bpfJgt:
			branch(a > k)
		case bpfJge:
			branch(a >= k)
		case bpfRet:
			return k
		default:
			t.Fatalf("instruction %d is %x", pc, i[:8])
		}
	}
}

func TestTheDefaultProfileDecidesAsDockersDoes(t *testing.T) {
	filter, _, err := compileSeccomp(DefaultSeccomp(nil))
	if err != nil {
		t.Fatal(err)
	}
	arch := nativeArch()
	nr := linux.Syscalls(arch)
	for _, c := range []struct {
		it   string
		call call
		want uint32
	}{
		{"read is allowed", call{nr: nr["read"], arch: arch}, allow},
		{"mount is refused", call{nr: nr["mount"], arch: arch}, errnoAction | eperm},
		{"clone of a thread is allowed", call{nr: nr["clone"], arch: arch, args: [6]uint64{0x3d0f00}}, allow},
		{"clone of a namespace is refused", call{nr: nr["clone"], arch: arch, args: [6]uint64{0x10000000}}, errnoAction | eperm},
		{"clone3 does not exist", call{nr: nr["clone3"], arch: arch}, errnoAction | enosys},
		{"an internet socket is allowed", call{nr: nr["socket"], arch: arch, args: [6]uint64{2}}, allow},
		{"a socket to the hypervisor is refused", call{nr: nr["socket"], arch: arch, args: [6]uint64{40}}, errnoAction | eperm},
		{"asking for the personality is allowed", call{nr: nr["personality"], arch: arch, args: [6]uint64{0xffffffff}}, allow},
		{"another personality is refused", call{nr: nr["personality"], arch: arch, args: [6]uint64{0x40000}}, errnoAction | eperm},
		{"a call of the future does not exist", call{nr: 9999, arch: arch}, errnoAction | enosys},
		{"an unknown architecture is killed", call{nr: 1, arch: 12345}, killProcess},
	} {
		if got := decide(t, filter, c.call); got != c.want {
			t.Errorf("%s: got %#x, want %#x", c.it, got, c.want)
		}
	}
	with, _, err := compileSeccomp(DefaultSeccomp([]string{"CAP_SYS_ADMIN"}))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mount", "clone3", "unshare"} {
		if got := decide(t, with, call{nr: nr[name], arch: arch}); got != allow {
			t.Errorf("with CAP_SYS_ADMIN %s gives %#x", name, got)
		}
	}
	if n := len(filter) / 8; n > 1200 {
		t.Errorf("the default filter has %d instructions", n)
	}
}

func TestComparisonsOfArgumentsHold(t *testing.T) {
	ops := map[specs.LinuxSeccompOperator]func(a, v, w uint64) bool{
		specs.OpEqualTo: func(a, v, _ uint64) bool { return a == v }, specs.OpNotEqual: func(a, v, _ uint64) bool { return a != v },
		specs.OpLessThan: func(a, v, _ uint64) bool { return a < v }, specs.OpLessEqual: func(a, v, _ uint64) bool { return a <= v },
		specs.OpGreaterThan: func(a, v, _ uint64) bool { return a > v }, specs.OpGreaterEqual: func(a, v, _ uint64) bool { return a >= v },
		specs.OpMaskedEqual: func(a, v, w uint64) bool { return a&v == w },
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	// Few values, so that halves often meet.
	value := func() uint64 { return uint64(rnd.IntN(3)) | uint64(rnd.IntN(3))<<32 }
	nr := linux.Syscalls(nativeArch())["read"]
	for op, holds := range ops {
		for range 300 {
			v, w, x, y := value(), value(), value(), value()
			filter, _, err := compileSeccomp(&specs.LinuxSeccomp{DefaultAction: specs.ActKill, Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActAllow,
				Args: []specs.LinuxSeccompArg{{Index: 2, Value: v, ValueTwo: w, Op: op}, {Index: 5, Value: y, Op: specs.OpEqualTo}}}}})
			if err != nil {
				t.Fatal(err)
			}
			z := value()
			want := uint32(killThread)
			if holds(x, v, w) && z == y {
				want = allow
			}
			if got := decide(t, filter, call{nr: nr, arch: nativeArch(), args: [6]uint64{2: x, 5: z}}); got != want {
				t.Fatalf("%s: %#x with %#x, %#x: got %#x, want %#x", op, x, v, w, got, want)
			}
		}
	}
}
