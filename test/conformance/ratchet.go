package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// entry is a line of passing.txt: how long the spec took, its name and, if
// the ratchet must not choose it, why.
type entry struct {
	name, apart string
	took        time.Duration
}

// The times in the list are rounded up to these, so that they seldom change.
var steps = []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 20 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute}

func rounded(d time.Duration) time.Duration {
	for _, s := range steps {
		if d <= s {
			return s
		}
	}
	return d.Round(time.Minute)
}

// readList reads the specs of a file, one a line: TIME NAME, or the name alone,
// and after a tab a reason not to choose it. What begins with # is a comment.
func readList(path string) ([]entry, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parseList(string(data))
}

func parseList(text string) ([]entry, error) {
	var all []entry
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		var e entry
		line, e.apart, _ = strings.Cut(line, "\t")
		if first, rest, _ := strings.Cut(line, " "); line[0] != '[' {
			took, err := time.ParseDuration(first)
			if err != nil {
				return nil, fmt.Errorf("line %q: %w", line, err)
			}
			e.took, line = took, rest
		}
		e.name = strings.TrimSpace(line)
		all = append(all, e)
	}
	return all, nil
}

const head = `# Specs of upstream's conformance suite that ran and passed, with about how long each took.
# "make conformance UPDATE=1" adds to this list. One that is here leaves only with a line in the commit's message:
#   Conformance-Removed: NAME: why
# What stands after a tab is the reason why .ci/run does not choose the spec.
`

func writeList(path string, all []entry) error {
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	var text strings.Builder
	text.WriteString(head)
	for _, e := range all {
		line := fmt.Sprintf("%ds %s", int(e.took.Seconds()), e.name)
		if e.apart != "" {
			line += "\t" + e.apart
		}
		text.WriteString(line + "\n")
	}
	return os.WriteFile(path, []byte(text.String()), 0o644)
}

// ratchet compares with the list of what once passed, and adds to it.
func ratchet(c *cache, o options, specs []spec) error {
	path := filepath.Join(c.source, "passing.txt")
	list, err := readList(path)
	if err != nil {
		return err
	}
	for _, s := range specs {
		at := slices.IndexFunc(list, func(e entry) bool { return e.name == s.name })
		switch {
		case s.failed() && s.state != "interrupted" && at >= 0:
			c.say("passed before, fails now: %s", s.name)
		case s.state == "passed" && at >= 0:
			list[at].took = rounded(s.took)
		case s.state == "passed":
			list = append(list, entry{name: s.name, took: rounded(s.took)})
		}
	}
	if !o.update {
		return nil
	}
	return writeList(path, list)
}
