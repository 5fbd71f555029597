// Package sampan holds only tests about the tree as a whole.
package sampan

import (
	"bufio"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const module = "sampan/"

// may is the architecture. A folder may import itself, what is below it, and
// the folders named here; the longest matching line counts. Read it as: "the
// engine may know internal and nothing else of Sampan".
//
// Do not add to a line to make a build pass: move the code.
var may = map[string]string{
	"internal":             "",
	"engine":               "internal",
	"node":                 "internal cluster/client",
	"cluster":              "internal",
	"cluster/kind":         "",
	"cluster/object":       "internal cluster/kind",
	"cluster/schema":       "internal cluster/kind",
	"cluster/request":      "cluster/kind",
	"cluster/client":       "internal cluster/kind cluster/object",
	"cluster/store":        "internal cluster/kind cluster/object",
	"cluster/audit":        "internal cluster/webhook",
	"cluster/auth":         "internal cluster/kind cluster/client cluster/request",
	"cluster/auth/webhook": "internal cluster/kind cluster/client cluster/request cluster/auth cluster/webhook",
	"cluster/admission":    "internal cluster/kind cluster/client cluster/request cluster/object cluster/schema cluster/webhook cluster/admission",
	"cluster/verb":         "internal cluster/kind cluster/object cluster/request cluster/schema cluster/store cluster/admission cluster/client cluster/audit",
	"cluster/api":          "internal cluster/kind cluster/object cluster/request cluster/schema cluster/verb cluster/audit cluster/auth cluster/client cluster/flow cluster/aggregate",
	"cluster/aggregate":    "internal cluster/kind cluster/client cluster/request cluster/controller/loop",
	"cluster/encrypt":      "internal",
	"cluster/flow":         "internal cluster/kind cluster/client cluster/request",
	"cluster/webhook":      "internal cluster/kind cluster/client",
	"cluster/crd":          "internal cluster/kind cluster/client cluster/webhook",
	"cluster/controller":   "internal cluster/client cluster/kind",
	"cluster/scheduler":    "internal cluster/client cluster/kind",
	"bootstrap":            "internal engine node cluster",
	"cmd":                  "internal engine node cluster bootstrap",
	"test":                 "internal engine node cluster bootstrap cmd",
	"examples":             "",
}

// only lists outside packages that a single folder may import.
var only = map[string]string{
	"golang.org/x/sys/unix":          "internal/linux",
	"go.etcd.io/etcd":                "cluster/store",
	"go.etcd.io/raft":                "cluster/store",
	"github.com/vishvananda/netlink": "internal/netlink",
	"github.com/google/nftables":     "internal/nft",
}

func TestImportsPointDown(t *testing.T) {
	eachGoFile(t, func(path string) {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.ToSlash(filepath.Dir(path))
		for _, spec := range f.Imports {
			imp := strings.Trim(spec.Path.Value, `"`)
			to, ours := strings.CutPrefix(imp, module)
			if ours && strings.HasSuffix(path, "_test.go") && within(to, "cluster/kind") {
				continue // a fixture of any plank may be an API object
			}
			if ours && !allowed(dir, to) {
				t.Errorf("%s imports %s: %s may import only %q", path, to, rule(dir), may[rule(dir)])
			}
			for pkg, home := range only {
				if within(imp, pkg) && !within(dir, home) {
					t.Errorf("%s imports %s: only %s may", path, imp, home)
				}
			}
		}
	})
}

func TestFilesStaySmall(t *testing.T) {
	const limit = 800
	eachGoFile(t, func(path string) {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		lines := 0
		for s := bufio.NewScanner(f); s.Scan(); lines++ {
			if strings.HasPrefix(s.Text(), "// Code generated ") {
				return
			}
		}
		if lines > limit {
			t.Errorf("%s has %d lines, limit %d: split it by idea", path, lines, limit)
		}
	})
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	said := map[string]int{}
	eachGoFile(t, func(path string) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Dir(path)
		said[dir] += 0
		if f.Doc != nil {
			said[dir]++
		}
	})
	for dir, n := range said {
		if n != 1 {
			t.Errorf("%s has %d package comments, want 1: what it does, and what it must not know", dir, n)
		}
	}
}

func TestArchitectureIsWrittenDown(t *testing.T) {
	text := read(t, "docs/architecture.md")
	missing := map[string]bool{}
	eachGoFile(t, func(path string) {
		dir := filepath.ToSlash(filepath.Dir(path))
		if !strings.HasSuffix(path, "_test.go") && dir != "." && !strings.Contains(dir, "/testdata/") && !strings.Contains(text, "| `"+dir+"` |") {
			missing[dir] = true
		}
	})
	for dir := range missing {
		t.Errorf("docs/architecture.md does not name the package %s: add its line", dir)
	}
	for _, m := range regexp.MustCompile("`([a-z0-9_]+(?:/[a-z0-9_]+)*(?:\\.go)?)`").FindAllStringSubmatch(text, -1) {
		name := m[1]
		if !strings.HasSuffix(name, ".go") && rule(name) == name && may[name] == "" {
			continue // a word, not a place
		}
		if _, err := os.Stat(name); err != nil {
			t.Errorf("docs/architecture.md names %s, which is not there", name)
		}
	}
}

func TestEveryDependencyHasALine(t *testing.T) {
	text := read(t, "docs/dependencies.md")
	direct := map[string]bool{}
	for line := range strings.Lines(read(t, "go.mod")) {
		if f := strings.Fields(line); len(f) == 2 && strings.HasPrefix(line, "\t") {
			direct[f[0]] = true
			if !strings.Contains(text, "\n| `"+f[0]+"` |") {
				t.Errorf("docs/dependencies.md has no line for %s: what for, why this one, who imports it", f[0])
			}
		}
	}
	if len(direct) == 0 {
		t.Fatal("go.mod names no dependency: it is read wrongly")
	}
	for _, m := range regexp.MustCompile("\n\\| `([^`]+)` \\|").FindAllStringSubmatch(text, -1) {
		if !direct[m[1]] {
			t.Errorf("docs/dependencies.md names %s, which go.mod does not ask for", m[1])
		}
	}
}

func TestDecisionsHaveNumbersOfTheirOwn(t *testing.T) {
	index := read(t, "docs/decisions/README.md")
	pages, err := filepath.Glob("docs/decisions/[0-9][0-9][0-9]-*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	has := map[string]string{}
	for _, path := range pages {
		name := filepath.Base(path)
		if other := has[name[:3]]; other != "" {
			t.Errorf("%s and %s have one number", name, other)
		}
		has[name[:3]] = name
		if !strings.Contains(index, "("+name+")") {
			t.Errorf("docs/decisions/README.md does not list %s", name)
		}
	}
	place := regexp.MustCompile(`docs/decisions/[0-9a-z-]+\.md`)
	eachGoFile(t, func(path string) {
		for _, page := range place.FindAllString(read(t, path), -1) {
			if _, err := os.Stat(page); err != nil {
				t.Errorf("%s refers to %s, which is not there", path, page)
			}
		}
	})
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func allowed(dir, to string) bool {
	folder := rule(dir)
	if within(to, folder) {
		return true
	}
	for _, ok := range strings.Fields(may[folder]) {
		if within(to, ok) {
			return true
		}
	}
	return false
}

// rule returns the longest name in may that dir is within.
func rule(dir string) string {
	for d := dir; d != "."; d = filepath.ToSlash(filepath.Dir(d)) {
		if _, ok := may[d]; ok {
			return d
		}
	}
	return dir
}

func within(path, parent string) bool {
	return path == parent || strings.HasPrefix(path, parent+"/")
}

func eachGoFile(t *testing.T, fn func(path string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && path != "." {
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil || strings.HasPrefix(d.Name(), ".") {
				return fs.SkipDir // a module of its own has its own libraries: upstream's suite
			}
		}
		if err == nil && strings.HasSuffix(path, ".go") {
			fn(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
