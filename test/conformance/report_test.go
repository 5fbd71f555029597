package main

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTheRatchetOnlyTurnsForward(t *testing.T) {
	dir := t.TempDir()
	list := filepath.Join(dir, "passing.txt")
	if err := os.WriteFile(list, []byte("# head\nb\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	c := &cache{source: dir, log: &said}
	specs := []spec{{name: "a", sig: "node", state: "passed"}, {name: "b", sig: "node", state: "failed", failure: "why"}, {name: "c", sig: "apps", state: "skipped"}}
	code, err := report(c, options{result: dir, update: true}, specs)
	if err != nil || code != 1 {
		t.Fatalf("code %d, %v; want 1, because b failed", code, err)
	}
	got, err := readList(list)
	if err != nil || !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("passing.txt has %q, %v; want a, which passed, and b, which did, and not c, which was skipped", got, err)
	}
	for _, want := range []string{"passed before, fails now: b", "FAILED b\n    why"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, said.String())
		}
	}
}

func TestSelection(t *testing.T) {
	previous := []spec{{name: "[sig-node] a (b)", sig: "node", state: "failed", took: time.Second}, {name: "c", sig: "node", state: "passed"}}
	for _, test := range []struct {
		it   string
		o    options
		want []string
		fail bool
	}{
		{it: "takes all conformance specs", o: options{filter: "Conformance"}, want: []string{"--label-filter=Conformance"}},
		{it: "takes one SIG's", o: options{filter: "Conformance", sig: "node", focus: "x"}, want: []string{"--label-filter=(Conformance) && sig-node", "--focus=x"}},
		{it: "takes what failed by its whole name", o: options{filter: "Conformance", lastFailed: true},
			want: []string{"--label-filter=Conformance", `--focus=\[sig-node\] a \(b\)$`}},
		{it: "does not run everything for a list that is absent", o: options{filter: "Conformance", specs: "/nowhere"}, fail: true},
	} {
		got, err := selection(test.o, previous)
		if (err != nil) != test.fail || !slices.Equal(got, test.want) {
			t.Errorf("it %s: got %q, %v; want %q", test.it, got, err, test.want)
		}
	}
	if _, err := selection(options{lastFailed: true}, previous[1:]); err == nil {
		t.Error("it runs all although nothing failed the last time")
	}
}

func TestAnArchiveHasALayerOnce(t *testing.T) {
	dir := t.TempDir()
	for _, f := range []string{"low/a", "high/b"} {
		if err := put(filepath.Join(dir, f), f); err != nil {
			t.Fatal(err)
		}
	}
	low, high := filepath.Join(dir, "low"), filepath.Join(dir, "high")
	path := filepath.Join(dir, "images.tar")
	if err := writeArchive(path, []img{{[]string{"x:1"}, []string{low}, container{}}, {[]string{"y:1"}, []string{low, high}, container{}}}); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	layers, manifest := 0, ""
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(h.Name, ".tar") {
			layers++
		}
		if h.Name == "manifest.json" {
			data, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			manifest = string(data)
		}
	}
	if layers != 2 || strings.Count(manifest, ".tar") != 3 {
		t.Errorf("%d layers in the archive, manifest %s; want 2, and 3 uses of them", layers, manifest)
	}
}
