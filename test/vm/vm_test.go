//go:build vm

package vm

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// packages are tested as they are, by their own tests.
var packages = []struct {
	path string
	args []string
}{
	{path: "internal/cgroup"},
	// Logs, terminals and filters do not depend on control groups, and the machine is slow.
	{path: "engine/runtime", args: []string{"-test.skip=Terminal|LogsRotate|Comparisons|DefaultProfile|Attach"}},
	{path: "engine"},
}

// programs are what the tests build as they go.
var programs = []string{"sampan/engine/runtime/testdata/box", "sampan/engine/enginetest/program"}

func TestVersion2OfControlGroups(t *testing.T) {
	source, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := Fetch(t.Context(), filepath.Join(source, ".cache/vm/kernel"))
	if err != nil {
		t.Fatal(err)
	}
	work, err := os.MkdirTemp(filepath.Join(source, ".cache/vm"), "run-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(work) })
	root := filepath.Join(work, "root")
	begin := time.Now()
	compile := func(args ...string) {
		t.Helper()
		cmd := exec.Command("go", args...)
		cmd.Dir, cmd.Env = source, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
	}
	compile("build", "-ldflags=-s -w", "-o", filepath.Join(work, "guest"), "./test/vm/guest")
	for _, p := range programs {
		compile("build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(root, "built", p), p)
	}
	var suites []Suite
	for _, p := range packages {
		dir := filepath.Join("/src", p.path)
		compile("test", "-c", "-ldflags=-s -w", "-o", filepath.Join(root, dir, "test"), "./"+p.path)
		if data := filepath.Join(source, p.path, "testdata"); exists(data) {
			if err := os.CopyFS(filepath.Join(root, dir, "testdata"), os.DirFS(data)); err != nil {
				t.Fatal(err)
			}
		}
		suites = append(suites, Suite{Name: p.path, Dir: dir, Args: append([]string{dir + "/test", "-test.v", "-test.timeout=8m"}, p.args...)})
	}
	t.Logf("built in %s", time.Since(begin).Round(time.Second/10))

	ctx, stop := context.WithTimeout(t.Context(), 10*time.Minute)
	defer stop()
	m := &Machine{Kernel: kernel, Init: filepath.Join(work, "guest"), Work: work, Root: root, Memory: 2048, Log: os.Stdout}
	begin = time.Now()
	results, err := m.Run(ctx, suites)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the machine ran for %s", time.Since(begin).Round(time.Second/10))
	ended := map[string]Result{}
	for _, r := range results {
		ended[r.Name] = r
	}
	for _, s := range suites {
		t.Run(s.Name, func(t *testing.T) {
			r, ok := ended[s.Name]
			if !ok || r.Exit != 0 {
				t.Errorf("ended with %d (ended at all: %v); what it said is above", r.Exit, ok)
			}
			t.Logf("%.1f s", r.Seconds)
		})
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
