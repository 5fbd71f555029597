package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/onsi/ginkgo/v2/reporters"
	"github.com/onsi/ginkgo/v2/types"
)

// What a run leaves in its directory of reports, beside logs, table.txt and junit.xml.
const (
	resultsFile = "results.jsonl" // the report of each spec that ended, a line each
	aroundFile  = "report.json"   // ginkgo's own, at its end: also of what is around the specs
)

// spec is one spec's result.
type spec struct {
	name, sig, state, failure string
	took                      time.Duration
}

func (s spec) failed() bool {
	return s.state != "passed" && s.state != "skipped" && s.state != "pending"
}

// readReports reads what the run in dir has written so far: the specs that
// ended, and failures around them.
func readReports(dir string) ([]types.SpecReport, error) {
	f, err := os.Open(filepath.Join(dir, resultsFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []types.SpecReport
	for lines := bufio.NewReader(f); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break // what has no line end is being written
		}
		if err != nil {
			return nil, err
		}
		var r types.SpecReport
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	data, err := os.ReadFile(filepath.Join(dir, aroundFile))
	if errors.Is(err, fs.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, err
	}
	var suites []types.Report
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&suites); err != nil {
		return nil, err
	}
	for _, suite := range suites {
		for _, r := range suite.SpecReports {
			if !r.LeafNodeType.Is(types.NodeTypeIt) && r.State.Is(types.SpecStateFailureStates) {
				all = append(all, r)
			}
		}
	}
	return all, nil
}

// readResults are the reports of dir as far as the table needs them, by name.
func readResults(dir string) ([]spec, error) {
	reports, err := readReports(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if _, e := os.Stat(filepath.Join(dir, "ginkgo.log")); e == nil {
			return nil, nil // no spec has ended
		}
	}
	if err != nil {
		return nil, err
	}
	var all []spec
	for _, r := range reports {
		s := spec{name: r.FullText(), state: r.State.String(), took: r.RunTime, failure: firstLine(r.Failure.Message)}
		if !r.LeafNodeType.Is(types.NodeTypeIt) {
			s.name = r.LeafNodeType.String()
		}
		for _, label := range r.Labels() {
			if sig, is := strings.CutPrefix(label, "sig-"); is {
				s.sig = sig
			}
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b spec) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

// firstLine is a failure in one line: its first words, with what follows them
// as far as it says more.
func firstLine(message string) string {
	words := strings.Join(strings.Fields(message), " ")
	if len(words) > 300 {
		words = words[:300] + "…"
	}
	return words
}

// table is a row for each SIG, and a line with the first error for each spec
// that failed.
func table(specs []spec) string {
	type row struct {
		passed, failed, skipped int
		took                    time.Duration
	}
	rows := map[string]*row{}
	for _, s := range specs {
		sig := s.sig
		if sig == "" {
			sig = "(around the specs)"
		}
		for _, key := range []string{sig, "~all"} {
			r := rows[key]
			if r == nil {
				r = &row{}
				rows[key] = r
			}
			r.took += s.took
			switch {
			case s.failed():
				r.failed++
			case s.state == "passed":
				r.passed++
			default:
				r.skipped++
			}
		}
	}
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SIG\tPASSED\tFAILED\tSKIPPED\tTIME")
	var sigs []string
	for sig := range rows {
		sigs = append(sigs, sig)
	}
	slices.Sort(sigs)
	for _, sig := range sigs {
		r := rows[sig]
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\n", strings.TrimPrefix(sig, "~"), r.passed, r.failed, r.skipped, r.took.Round(time.Second))
	}
	w.Flush()
	for _, s := range specs {
		if s.failed() {
			fmt.Fprintf(&text, "%s %s\n    %s\n", strings.ToUpper(s.state), s.name, s.failure)
		}
	}
	return text.String()
}

// report prints the table, keeps it and the JUnit file, compares with the
// ratchet, and returns the exit code.
func report(c *cache, o options, specs []spec) (int, error) {
	text := table(specs)
	c.say("\n%s", text)
	if err := os.WriteFile(filepath.Join(o.result, "table.txt"), []byte(text), 0o644); err != nil {
		return 0, err
	}
	if err := junit(o.result); err != nil {
		return 0, err
	}
	code := 0
	if !slices.ContainsFunc(specs, func(s spec) bool { return s.state == "passed" }) {
		c.say("no spec ran and passed")
		code = 1
	}
	if slices.ContainsFunc(specs, spec.failed) {
		code = 1
	}
	return code, ratchet(c, o, specs)
}

// junit writes the results in the form that other programs read.
func junit(dir string) error {
	all, err := readReports(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	failed := slices.ContainsFunc(all, func(r types.SpecReport) bool { return r.State.Is(types.SpecStateFailureStates) })
	return reporters.GenerateJUnitReport(types.Report{SuiteDescription: "Kubernetes e2e suite", SuiteSucceeded: !failed, SpecReports: all}, filepath.Join(dir, "junit.xml"))
}
