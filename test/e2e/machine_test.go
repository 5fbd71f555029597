package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sampan/bootstrap"
	"sampan/engine"
	"sampan/internal/nft"
)

func (h *host) status() (s bootstrap.Status) {
	h.Helper()
	out, _ := h.try(nil, tools.sampan, h.args("status", "-o", "json")...) // exit code 3 where nothing runs
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		h.Fatalf("status: %v\n%s", err, out)
	}
	return s
}

// machine is all that a program could leave behind: of the host's network
// everything; of what all processes share, what has the instance's name.
func (h *host) machine() (all []string) {
	h.Helper()
	h.inside(func() {
		for _, file := range []string{"dev", "route", "ipv6_route", "fib_trie"} {
			data, _ := os.ReadFile("/proc/thread-self/net/" + file)
			for i, line := range strings.Split(string(data), "\n") {
				if file == "dev" { // without the counters
					line, _, _ = strings.Cut(line, ":")
				}
				if file == "ipv6_route" && len(line) > 120 { // without use counts
					line = line[:64] + line[140:]
				}
				if i > 0 || file != "route" {
					all = append(all, file+" "+line)
				}
			}
		}
		tables, err := nft.Tables()
		if err != nil {
			h.Fatal(err)
		}
		for _, t := range tables {
			all = append(all, "nftables "+t)
		}
		filepath.WalkDir("/proc/sys/net", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.Contains(path, "/stat/") || strings.Contains(path, "nf_conntrack_count") ||
				strings.HasSuffix(path, "/flush") {
				return nil
			}
			data, _ := os.ReadFile(path)
			all = append(all, path+" "+strings.TrimSpace(string(data)))
			return nil
		})
	})
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		h.Fatal(err)
	}
	dir := filepath.Dir(h.state)
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, dir) {
			all = append(all, "mount "+line)
		}
	}
	processes, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range processes {
		data, _ := os.ReadFile(p)
		if line := strings.ReplaceAll(string(data), "\x00", " "); strings.Contains(line, dir) {
			all = append(all, "process "+line)
		}
	}
	filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.Contains(path, h.instance()) {
			all = append(all, "cgroup "+path)
		}
		return nil
	})
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && path != dir {
			all = append(all, "file "+path)
		}
		return nil
	})
	slices.Sort(all)
	return all
}

func TestResetLeavesTheMachineAsItWas(t *testing.T) {
	h := newHost(t)
	before := h.machine()
	h.up()
	h.images()
	h.deploy()
	h.apply(fmt.Sprintf(probePod, "one", "count"))
	h.kubectl("wait", "--for=condition=Ready", "pod/one", "--timeout=30s")
	if during := h.machine(); len(during) < len(before)+20 {
		t.Fatalf("the test sees nothing of what runs:\n%s", strings.Join(during, "\n"))
	}
	h.kill9() // reset must not need the program's help
	h.sampan("reset", "--yes")
	after := h.machine()
	for _, line := range after {
		if _, was := slices.BinarySearch(before, line); !was {
			t.Errorf("left behind: %s", line)
		}
	}
	for _, line := range before {
		if _, is := slices.BinarySearch(after, line); !is {
			t.Errorf("lost: %s", line)
		}
	}
	h.up() // and a new beginning is one
	h.says("No resources found", "get", "pods")
}

func TestDownAndUpAgain(t *testing.T) {
	h := newHost(t)
	h.up()
	h.images()
	h.apply(fmt.Sprintf(probePod, "one", "count"))
	h.kubectl("wait", "--for=condition=Ready", "pod/one", "--timeout=30s")
	before := h.identity("one")
	h.sampan("down")
	if s := h.status(); s.Running || s.Monitors.Processes != 1 {
		t.Errorf("after down: running %v, %d monitors; want the pod's alone", s.Running, s.Monitors.Processes)
	}
	h.up()
	h.says("1/1", "get", "pod", "one")
	if after := h.identity("one"); after != before {
		t.Errorf("after down and up: %s, before %s", after, before)
	}
	h.sampan("down", "--stop-pods")
	if out := h.sampan("ps", "-q"); strings.TrimSpace(out) != "" {
		t.Errorf("still running: %s", out)
	}
}

func TestBadInputAtTheMachine(t *testing.T) {
	h := newHost(t)
	h.up()
	h.fails("or choose another directory with --state and --run", tools.sampan, h.args("up", "--kubeconfig", h.kubeconfig)...)
	other := []string{"--state", h.state + "2", "--run", h.run + "2", "up", "--kubeconfig", h.kubeconfig + "2"}
	h.fails("or choose another with --port", tools.sampan, other...)
	t.Cleanup(func() { h.try(nil, tools.sampan, "--state", h.state+"2", "--run", h.run+"2", "reset", "--yes") })

	h.apply(fmt.Sprintf(probePod, "absent", "count")) // its image was never built
	h.says("ErrImageNeverPull", "get", "pod", "absent")
	h.says("is not present with pull policy of Never", "describe", "pod", "absent")

	bad := filepath.Join(t.TempDir(), "bad.tar")
	if err := os.WriteFile(bad, []byte("this is no archive"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.fails("bad.tar", tools.sampan, h.args("load", "-i", bad)...)
	h.says("v1", "get", "--raw", "/version") // nothing is lost
}

func TestBadInputAtTheAPI(t *testing.T) {
	h := newHost(t)
	h.up()
	for _, c := range []struct{ it, manifest, says string }{
		{"an unknown field is named", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, image: i}], unknownField: 1}", `unknown field "spec.unknownField"`},
		{"a wrong type is named", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, image: 1}]}", "image"},
		{"a missing field is named", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c}]}", "spec.containers[0].image: Required value"},
		{"a bad name is explained", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: A_b}", "RFC 1123 subdomain"},
		{"a taken node port is named", "apiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec: {type: NodePort, ports: [{port: 80, nodePort: 30080}]}", "provided port is already allocated"},
	} {
		t.Run(c.it, func(t *testing.T) {
			if strings.Contains(c.says, "allocated") {
				h.apply("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {type: NodePort, ports: [{port: 80, nodePort: 30080}]}")
			}
			out, err := h.try(strings.NewReader(c.manifest), tools.kubectl, "apply", "-f", "-")
			if err == nil || !strings.Contains(out, c.says) {
				t.Errorf("%v\n%swant an error that says %q", err, out, c.says)
			}
		})
	}
}

// instance is the name that the kernel's shared things have.
func (h *host) instance() string { return engine.Instance(h.state) }
