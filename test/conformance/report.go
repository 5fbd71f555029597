package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/onsi/ginkgo/v2/types"
)

// spec is one spec's result.
type spec struct {
	name, sig, state, failure string
	took                      time.Duration
}

func (s spec) failed() bool {
	return s.state != "passed" && s.state != "skipped" && s.state != "pending"
}

// readReport reads what ginkgo wrote: the specs that ran, and failures around them.
func readReport(dir string) ([]spec, error) {
	data, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		return nil, err
	}
	var suites []types.Report
	if err := json.Unmarshal(data, &suites); err != nil {
		return nil, err
	}
	var all []spec
	for _, suite := range suites {
		for _, r := range suite.SpecReports {
			s := spec{name: r.FullText(), state: r.State.String(), took: r.RunTime, failure: firstLine(r.Failure.Message)}
			if !r.LeafNodeType.Is(types.NodeTypeIt) {
				s.name = r.LeafNodeType.String() // what is around the specs
				if !s.failed() {
					continue
				}
			} else if s.state == "skipped" && r.Failure.Message == "" || s.state == "pending" {
				continue // was not chosen
			}
			for _, label := range r.Labels() {
				if sig, is := strings.CutPrefix(label, "sig-"); is {
					s.sig = sig
				}
			}
			all = append(all, s)
		}
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

// selection turns options into ginkgo's flags.
func selection(o options, previous []spec) ([]string, error) {
	filter := o.filter
	if o.sig != "" {
		filter = "(" + filter + ") && sig-" + strings.TrimPrefix(o.sig, "sig-")
	}
	args := []string{"--label-filter=" + filter}
	if o.focus != "" {
		args = append(args, "--focus="+o.focus)
	}
	var names []string
	if o.lastFailed {
		for _, s := range previous {
			if s.failed() && s.sig != "" {
				names = append(names, s.name)
			}
		}
		if len(names) == 0 {
			return nil, fmt.Errorf("no spec failed the last time")
		}
	}
	if o.specs != "" {
		listed, err := readList(o.specs)
		if err != nil {
			return nil, err
		}
		names = append(names, listed...)
	}
	for _, n := range names {
		args = append(args, "--focus="+regexp.QuoteMeta(n)+"$")
	}
	return args, nil
}

func readList(path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var all []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			all = append(all, line)
		}
	}
	return all, nil
}

// report prints the table, keeps the ratchet, and returns the exit code.
func report(c *cache, o options, specs []spec) (int, error) {
	type row struct {
		passed, failed, skipped int
		took                    time.Duration
	}
	rows := map[string]*row{}
	code := 0
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
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
				code = 1
			case s.state == "passed":
				r.passed++
			default:
				r.skipped++
			}
		}
	}
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
	c.say("\n%s", text.String())
	if err := os.WriteFile(filepath.Join(o.result, "table.txt"), []byte(text.String()), 0o644); err != nil {
		return 0, err
	}
	return code, ratchet(c, o, specs)
}

// ratchet compares with the list of what once passed, and adds to it.
func ratchet(c *cache, o options, specs []spec) error {
	path := filepath.Join(c.source, "passing.txt")
	list, err := readList(path)
	if err != nil {
		return err
	}
	for _, s := range specs {
		if s.failed() && slices.Contains(list, s.name) {
			c.say("passed before, fails now: %s", s.name)
		}
		if s.state == "passed" {
			list = append(list, s.name)
		}
	}
	if !o.update {
		return nil
	}
	slices.Sort(list)
	list = slices.Compact(list)
	const head = "# Specs of upstream's conformance suite that ran and passed. One that is here does not leave without a word in the commit.\n"
	return os.WriteFile(path, []byte(head+strings.Join(list, "\n")+"\n"), 0o644)
}

// progress counts what ginkgo has printed so far.
func progress(log string) string {
	data, err := os.ReadFile(log)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d specs ended, %d failed", strings.Count(string(data), "•"), strings.Count(string(data), "• [FAILED]")+strings.Count(string(data), "• [PANICKED]"))
}
