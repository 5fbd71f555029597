package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onsi/ginkgo/v2/types"
)

func TestTheRatchetOnlyTurnsForward(t *testing.T) {
	dir := t.TempDir()
	list := filepath.Join(dir, "passing.txt")
	if err := os.WriteFile(list, []byte("# head\n5s [sig-x] b\n60s [sig-x] d\tit waits for a minute\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	c := &cache{source: dir, log: &said}
	specs := []spec{
		{name: "[sig-x] a", sig: "node", state: "passed", took: 7 * time.Second},
		{name: "[sig-x] b", sig: "node", state: "failed", failure: "why"},
		{name: "[sig-x] c", sig: "apps", state: "skipped"},
		{name: "[sig-x] d", sig: "apps", state: "passed", took: 90 * time.Second},
	}
	code, err := report(c, options{result: dir, update: true}, specs)
	if err != nil || code != 1 {
		t.Fatalf("code %d, %v; want 1, because b failed", code, err)
	}
	got, err := readList(list)
	want := []entry{
		{name: "[sig-x] a", took: 10 * time.Second}, {name: "[sig-x] b", took: 5 * time.Second},
		{name: "[sig-x] d", took: 2 * time.Minute, apart: "it waits for a minute"},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("passing.txt has %v, %v; want a, which passed, b, which did, d with its new time, and not c, which was skipped", got, err)
	}
	for _, want := range []string{"passed before, fails now: [sig-x] b", "FAILED [sig-x] b\n    why"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, said.String())
		}
	}
}

func TestResultsAreThereBeforeTheRunIsOver(t *testing.T) {
	dir := t.TempDir()
	var lines []byte
	for _, r := range []types.SpecReport{
		{LeafNodeType: types.NodeTypeIt, LeafNodeText: "b", LeafNodeLabels: []string{"sig-node"}, State: types.SpecStateTimedout, Failure: types.Failure{Message: "A spec timeout\noccurred"}},
		{LeafNodeType: types.NodeTypeIt, LeafNodeText: "a", LeafNodeLabels: []string{"sig-node"}, State: types.SpecStatePassed, RunTime: time.Second},
	} {
		line, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(append(lines, line...), '\n')
	}
	if err := os.WriteFile(filepath.Join(dir, resultsFile), append(lines, `{"LeafNode`...), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readResults(dir)
	want := []spec{{name: "a", sig: "node", state: "passed", took: time.Second}, {name: "b", sig: "node", state: "timedout", failure: "A spec timeout occurred"}}
	if err != nil || !slices.Equal(got, want) {
		t.Fatalf("got %v, %v; want %v, and nothing of the line that is being written", got, err, want)
	}
	var said strings.Builder
	if code, err := report(&cache{source: listIn(t, ""), log: &said}, options{result: dir}, got); err != nil || code != 1 {
		t.Errorf("code %d, %v; want 1", code, err)
	}
	if !strings.Contains(said.String(), "TIMEDOUT b\n    A spec timeout occurred") {
		t.Errorf("the report lacks the spec that was ended:\n%s", said.String())
	}
	if out, err := os.ReadFile(filepath.Join(dir, "junit.xml")); err != nil || !strings.Contains(string(out), `name="[It] b [sig-node]" `) {
		t.Errorf("junit.xml: %v\n%s", err, out)
	}
}

func TestARunWithoutSpecsIsNoSuccess(t *testing.T) {
	var said strings.Builder
	if code, err := report(&cache{source: listIn(t, ""), log: &said}, options{result: t.TempDir()}, nil); err != nil || code != 1 {
		t.Errorf("code %d, %v; want 1", code, err)
	}
}

// listIn makes a directory with a passing.txt.
func listIn(t *testing.T, text string) string {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "passing.txt"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
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
