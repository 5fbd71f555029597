package node

import (
	"context"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"

	"sampan/internal/cgroup"
	"sampan/node/resource"
)

func TestPodGroupsHoldLimitsAndGo(t *testing.T) {
	c := &cgroups{log: slog.Default()}
	root := "/sampan-node-test-" + strconv.Itoa(os.Getpid())
	name := root + "/kubepods/besteffort/podu"
	t.Cleanup(func() {
		if err := c.Remove(context.Background(), root); err != nil {
			t.Error(err)
		}
	})
	for range 2 {
		if err := c.Make(name, resource.Limits{CPUShares: 512, MemoryBytes: 64 << 20}); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	file := tree.Group(name).Dir("memory") + "/memory.limit_in_bytes"
	if tree.V2() {
		file = tree.Group(name).Dir("memory") + "/memory.max"
	}
	if b, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(b)) != strconv.Itoa(64<<20) {
		t.Errorf("%s: %q %v", file, b, err)
	}
	for range 2 {
		if err := c.Remove(context.Background(), resource.CgroupParents(root, "u")...); err != nil {
			t.Fatal(err)
		}
	}
	if tree.Group(name).Exists() {
		t.Error("the group is still there")
	}
}
