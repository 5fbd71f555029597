package cgroup

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"sampan/internal/fault"
)

func TestTheMountTableSaysWhatThereIs(t *testing.T) {
	hybrid := `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
33 31 0:30 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
34 31 0:31 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/lib/x,name=systemd
35 31 0:30 /docker/x /mnt/a\040b rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
`
	got := parse([]byte(hybrid))
	want := &Tree{V1: []Hierarchy{{"/sys/fs/cgroup/cpu,cpuacct", []string{"cpu", "cpuacct"}}, {"/sys/fs/cgroup/memory", []string{"memory"}}, {"/sys/fs/cgroup/systemd", []string{"name=systemd"}}}, Unified: "/sys/fs/cgroup/unified"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if got.V2() {
		t.Error("a machine with version 1 controllers is taken for one with version 2 only")
	}
	pure := parse([]byte("30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n"))
	if !pure.V2() || pure.Unified != "/sys/fs/cgroup" {
		t.Errorf("got %+v", pure)
	}
}

func TestSharesBecomeWeights(t *testing.T) {
	for shares, want := range map[uint64]uint64{0: 0, 2: 1, 1024: 100, 262144: 10000, 1 << 30: 10000} {
		if got := Weight(shares); got != want {
			t.Errorf("Weight(%d) = %d, want %d", shares, got, want)
		}
	}
}

func TestLimitsBecomeFiles(t *testing.T) {
	for _, c := range []struct {
		it   string
		r    Resources
		v2   bool
		want string
	}{
		{"nothing asked, nothing written", Resources{}, false, ""},
		{"version 1", Resources{CPUShares: 512, CPUQuota: 50000, CPUPeriod: 100000, MemoryLimit: 1 << 20, MemorySwap: 2 << 20, PidsLimit: -1, CPUSetCPUs: "0-1"}, false,
			"cpu.shares=512 cpu.cfs_period_us=100000 cpu.cfs_quota_us=50000 cpuset.cpus=0-1 memory.limit_in_bytes=1048576 memory.memsw.limit_in_bytes=2097152 pids.max=max"},
		{"version 2", Resources{CPUShares: 1024, CPUQuota: 50000, MemoryLimit: 1 << 20, MemorySwap: 3 << 20, PidsLimit: 9}, true,
			"cpu.weight=100 cpu.max=50000 100000 memory.max=1048576 memory.swap.max=2097152 pids.max=9"},
		{"lifted limits", Resources{CPUQuota: -1, MemoryLimit: -1}, true, "cpu.max=max 100000 memory.max=max"},
	} {
		var got []string
		for _, s := range settings(c.r, c.v2) {
			got = append(got, s.file+"="+s.value)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: got  %s\nwant %s", c.it, strings.Join(got, " "), c.want)
		}
	}
}

// group is one of this test's own, gone at its end with its parents.
func group(t *testing.T) *Group {
	t.Helper()
	tree, err := Detect()
	if err != nil {
		t.Fatal(err)
	}
	top := tree.Group(fmt.Sprintf("sampan-test-%d-%d", os.Getpid(), rand.Uint32()))
	g := tree.Group(top.Path() + "/kubepods/burstable/pod1/ctr")
	if err := g.Create(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := top.Kill(); err != nil {
			t.Error(err)
		}
		if err := top.Destroy(context.Background()); err != nil {
			t.Error(err)
		}
		if top.Exists() {
			t.Errorf("%s is left", top.Path())
		}
	})
	return g
}

func TestAGroupLimitsCountsAndKills(t *testing.T) {
	g := group(t)
	if err := g.Create(); err != nil {
		t.Errorf("making a group twice: %v", err)
	}
	warn, err := g.Apply(Resources{CPUShares: 100, CPUQuota: 20000, CPUPeriod: 100000, MemoryLimit: 32 << 20, PidsLimit: 20,
		Devices: []DeviceRule{{Type: 'a'}, {Allow: true, Type: 'c', Major: 1, Minor: 3, Access: "rw"}}})
	if err != nil {
		t.Fatal(err, warn)
	}
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tasks, unified, err := g.Join()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range tasks {
		if _, err := fmt.Fprint(f, cmd.Process.Pid); err != nil {
			t.Error(err)
		}
		f.Close()
	}
	if unified != nil {
		if err := os.WriteFile(unified.Name()+"/cgroup.procs", []byte(fmt.Sprint(cmd.Process.Pid)), 0); err != nil {
			t.Error(err)
		}
		unified.Close()
	}
	if pids, err := g.Parent().Procs(); err != nil || len(pids) != 1 || pids[0] != cmd.Process.Pid {
		t.Errorf("processes below the parent: %v, %v; want %d", pids, err, cmd.Process.Pid)
	}
	s, err := g.Stats()
	if err != nil || s.MemoryLimit != 32<<20 || s.PidsLimit != 20 || s.Pids != 1 {
		t.Errorf("stats = %+v, %v", s, err)
	}
	if err := g.Destroy(cancelled()); err == nil {
		t.Error("a group with a process could be removed")
	}
	if err := g.Freeze(); err != nil {
		t.Error(err)
	}
	if err := g.Kill(); err != nil { // also what is frozen
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the process was not killed")
	}
	if err := g.Destroy(context.Background()); err != nil {
		t.Error(err)
	}
	if _, err := g.Stats(); fault.ClassOf(err) != fault.NotFound {
		t.Errorf("stats of a removed group: %v", err)
	}
	if err := g.Kill(); err != nil {
		t.Errorf("killing a removed group: %v", err)
	}
}

func cancelled() context.Context {
	ctx, stop := context.WithCancel(context.Background())
	stop()
	return ctx
}

// access runs a device program as the kernel would, on what it is made of.
func access(t *testing.T, prog []byte, kind, want, major, minor uint32) uint64 {
	t.Helper()
	var r [6]uint64
	ctx := []uint32{want<<16 | kind, major, minor}
	for pc := 0; ; pc++ {
		i := prog[8*pc:]
		dst, src := i[1]&15, i[1]>>4
		off := int(int16(uint16(i[2]) | uint16(i[3])<<8))
		imm := uint32(i[4]) | uint32(i[5])<<8 | uint32(i[6])<<16 | uint32(i[7])<<24
		switch i[0] {
		case ldxW:
			r[dst] = uint64(ctx[off/4])
		case mov:
			r[dst] = r[src]
		case movImm:
			r[dst] = uint64(imm)
		case andImm:
			r[dst] &= uint64(int64(int32(imm)))
		case rshImm:
			r[dst] >>= imm
		case jneImm:
			if r[dst] != uint64(int64(int32(imm))) {
				pc += off
			}
		case 0x15:
			if r[dst] == uint64(int64(int32(imm))) {
				pc += off
			}
		case exit:
			return r[0]
		default:
			t.Fatalf("instruction %d is %x", pc, i[:8])
		}
	}
}

func TestDeviceRulesDecide(t *testing.T) {
	prog := deviceProgram([]DeviceRule{
		{Type: 'a', Major: -1, Minor: -1},
		{Allow: true, Type: 'c', Major: -1, Minor: -1, Access: "m"},
		{Allow: true, Type: 'c', Major: 1, Minor: 3},
		{Allow: true, Type: 'b', Major: 8, Minor: -1, Access: "r"},
	})
	const block, char, mknod, read, write = 1, 2, 1, 2, 4
	for _, c := range []struct {
		it                       string
		kind, want, major, minor uint32
		ok                       uint64
	}{
		{"null may be read and written", char, read | write, 1, 3, 1},
		{"a disk may be read", block, read, 8, 5, 1},
		{"but not written", block, read | write, 8, 5, 0},
		{"any character node may be made", char, mknod, 99, 99, 1},
		{"but not opened", char, read, 99, 99, 0},
		{"nor made and opened", char, mknod | read, 99, 99, 0},
		{"no block node may be made", block, mknod, 7, 0, 0},
	} {
		if got := access(t, prog, c.kind, c.want, c.major, c.minor); got != c.ok {
			t.Errorf("%s: got %d", c.it, got)
		}
	}
}
