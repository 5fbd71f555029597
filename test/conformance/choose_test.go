package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func names(list []entry) (all []string) {
	for _, e := range list {
		all = append(all, e.name)
	}
	slices.Sort(all)
	return all
}

func TestChoose(t *testing.T) {
	short := func(name string) entry { return entry{name: name, took: 9 * time.Second} }
	for _, test := range []struct {
		it     string
		list   []entry
		recent []string
		budget time.Duration
		procs  int
		want   []string
	}{
		{it: "takes all if they fit", list: []entry{short("a"), short("b")}, budget: 20 * time.Second, procs: 1, want: []string{"a", "b"}},
		{it: "leaves what does not fit", list: []entry{short("a"), {name: "b", took: 50 * time.Second}}, budget: 20 * time.Second, procs: 1, want: []string{"a"}},
		{it: "counts on all processes", list: []entry{short("a"), short("b")}, budget: 10 * time.Second, procs: 2, want: []string{"a", "b"}},
		{it: "lets a serial spec have the machine", list: []entry{short("a [Serial]")}, budget: 9 * time.Second, procs: 2},
		{it: "takes none of the slow and none that is set apart", list: []entry{{name: "a", took: 2 * time.Minute}, {name: "b", apart: "why"}}, budget: time.Hour, procs: 1},
		{it: "begins with what is new", list: []entry{short("a"), short("b"), short("c")}, recent: []string{"b"}, budget: 20 * time.Second, procs: 1, want: nil},
	} {
		got := choose(test.list, test.recent, "seed", test.budget, test.procs)
		if test.recent != nil {
			if len(got) != 2 || got[0].name != "b" {
				t.Errorf("it %s: got %v", test.it, got)
			}
			continue
		}
		if !slices.Equal(names(got), test.want) {
			t.Errorf("it %s: got %v, want %v", test.it, names(got), test.want)
		}
	}
}

func TestAllSpecsHaveTheirTurn(t *testing.T) {
	var list []entry
	for i := range 200 {
		list = append(list, entry{name: fmt.Sprint("[sig-x] ", i), took: 4 * time.Second})
	}
	seen := map[string]bool{}
	for seed := range 40 {
		got := choose(list, nil, fmt.Sprint(seed), 250*time.Second, 1)
		if len(got) != 50 {
			t.Fatalf("%d specs chosen, want the 50 that fit", len(got))
		}
		for _, e := range got {
			seen[e.name] = true
		}
	}
	if len(seen) != len(list) {
		t.Errorf("after 40 commits %d of %d specs had their turn", len(seen), len(list))
	}
}

func TestASpecDoesNotLeaveWithoutAWord(t *testing.T) {
	dir := t.TempDir()
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false"}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	list := func(lines ...string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "passing.txt"), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	try := func() (string, error) {
		got, err := chosen(dir, time.Hour, 1)
		return strings.Join(names(got), ", "), err
	}
	git("init", "-q")
	list("5s [sig-x] a", "5s [sig-x] b", "[sig-x] c")
	git("add", ".")
	git("commit", "-q", "-m", "three")
	list("9s [sig-x] a", "5s [sig-x] b", "5s [sig-x] c")
	if got, err := try(); err != nil || got != "[sig-x] a, [sig-x] b, [sig-x] c" {
		t.Errorf("with other times: %s, %v; want all", got, err)
	}
	list("9s [sig-x] a", "5s [sig-x] c")
	if _, err := try(); err == nil || !strings.Contains(err.Error(), "\n  [sig-x] b") || strings.Contains(err.Error(), "[sig-x] a") {
		t.Errorf("before the commit that takes b away: %v", err)
	}
	git("commit", "-q", "-a", "-m", "less")
	if _, err := try(); err == nil {
		t.Error("b has left with a commit that does not mention it")
	}
	git("commit", "-q", "--allow-empty", "-m", "less\n\nConformance-Removed: [sig-x] b: upstream has taken it away")
	if got, err := try(); err != nil || got != "[sig-x] a, [sig-x] c" {
		t.Errorf("after a commit that says why: %s, %v", got, err)
	}
}

func TestWithoutHistoryThereIsAChoiceStill(t *testing.T) {
	if got, err := chosen(listIn(t, "5s [sig-x] a\n"), time.Hour, 1); err != nil || len(got) != 1 {
		t.Errorf("got %v, %v; want a", got, err)
	}
}
