// Package sampan holds only tests about the tree as a whole.
package sampan

import (
	"bufio"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
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
	"internal":           "",
	"engine":             "internal",
	"node":               "internal cluster/client",
	"cluster":            "internal",
	"cluster/kind":       "",
	"cluster/object":     "internal cluster/kind",
	"cluster/schema":     "internal cluster/kind",
	"cluster/request":    "cluster/kind",
	"cluster/client":     "internal cluster/kind cluster/object",
	"cluster/store":      "internal cluster/kind cluster/object",
	"cluster/auth":       "internal cluster/kind cluster/client cluster/request",
	"cluster/admission":  "internal cluster/kind cluster/client cluster/request",
	"cluster/verb":       "internal cluster/kind cluster/object cluster/request cluster/schema cluster/store cluster/admission cluster/client",
	"cluster/api":        "internal cluster/kind cluster/object cluster/request cluster/schema cluster/verb cluster/auth cluster/client",
	"cluster/controller": "internal cluster/client cluster/kind",
	"cluster/scheduler":  "internal cluster/client cluster/kind",
	"bootstrap":          "internal engine node cluster",
	"cmd":                "internal engine node cluster bootstrap",
	"test":               "internal engine node cluster bootstrap cmd",
	"examples":           "",
}

// only lists outside packages that a single folder may import.
var only = map[string]string{
	"golang.org/x/sys/unix":          "internal/linux",
	"go.etcd.io/etcd":                "cluster/store",
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
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") && path != "." {
			return fs.SkipDir
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
