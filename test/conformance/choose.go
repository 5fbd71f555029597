package main

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// What takes longer than this is not chosen: in its time ten others can run.
const longest = time.Minute

// overhead is what a spec costs beside its own time: a namespace made and emptied.
const overhead = time.Second

// choose picks from the list what fits into a budget of time when procs run
// side by side: first, up to half of it, the specs of recent (those that came to
// the list last), then a sample that is another one for every seed.
func choose(list []entry, recent []string, seed string, budget time.Duration, procs int) []entry {
	rank := func(e entry) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(seed+"\n"+e.name))) }
	cost := func(e entry) time.Duration {
		if strings.Contains(e.name, "[Serial]") {
			return e.took + overhead // the others wait
		}
		return (e.took + overhead) / time.Duration(procs)
	}
	var fresh, rest []entry
	for _, e := range list {
		switch {
		case e.apart != "" || e.took > longest:
		case slices.Contains(recent, e.name):
			fresh = append(fresh, e)
		default:
			rest = append(rest, e)
		}
	}
	byRank := func(a, b entry) int { return cmp.Compare(rank(a), rank(b)) }
	slices.SortFunc(fresh, byRank)
	slices.SortFunc(rest, byRank)
	var chosen []entry
	take := func(from []entry, until time.Duration) (left []entry) {
		for _, e := range from {
			if c := cost(e); c <= until {
				chosen = append(chosen, e)
				until -= c
				budget -= c
			} else {
				left = append(left, e)
			}
		}
		return left
	}
	rest = append(take(fresh, budget/2), rest...)
	take(rest, budget)
	return chosen
}

// history is what git knows of passing.txt. A tree without git has none.
type history struct {
	head    string   // the commit checked out
	recent  []string // specs that the last commits added
	gone    []string // specs that once were in the list
	excused string   // commit messages with the word of removed specs
}

const trailer = "Conformance-Removed: "

func readHistory(source string) (history, error) {
	git := func(args ...string) (string, error) {
		cmd := exec.Command("git", append([]string{"-C", source}, args...)...)
		out, err := cmd.Output()
		return string(out), err
	}
	var h history
	head, err := git("rev-parse", "HEAD")
	if err != nil {
		return h, nil
	}
	h.head = strings.TrimSpace(head)
	recent, err := git("log", "-n", "3", "--format=", "-p", "--", "passing.txt")
	if err != nil {
		return h, err
	}
	if h.recent, _, err = changed(recent); err != nil {
		return h, err
	}
	all, err := git("log", "--format=", "-p", "--", "passing.txt")
	if err != nil {
		return h, err
	}
	if _, h.gone, err = changed(all); err != nil {
		return h, err
	}
	now, err := git("show", "HEAD:./passing.txt")
	if err != nil {
		return h, nil // it is not committed yet
	}
	listed, err := parseList(now)
	if err != nil {
		return h, err
	}
	for _, e := range listed {
		h.gone = append(h.gone, e.name)
	}
	h.excused, err = git("log", "--format=%B", "--grep="+trailer)
	return h, err
}

// changed are the specs whose lines a patch adds, and those whose lines it
// takes away. A line whose time alone changed is in both.
func changed(patch string) (added, removed []string, err error) {
	for line := range strings.Lines(patch) {
		if len(line) < 2 || strings.HasPrefix(line, "+++") || strings.HasPrefix(line, "---") || line[0] != '+' && line[0] != '-' {
			continue
		}
		listed, err := parseList(line[1:])
		if err != nil {
			return nil, nil, err
		}
		for _, e := range listed {
			if line[0] == '+' {
				added = append(added, e.name)
			} else {
				removed = append(removed, e.name)
			}
		}
	}
	again := slices.Clone(removed)
	added = slices.DeleteFunc(added, func(name string) bool { return slices.Contains(again, name) })
	return added, removed, nil
}

// unexcused are the specs that have left the list without a word.
func (h history) unexcused(list []entry) []string {
	var all []string
	for _, name := range h.gone {
		listed := slices.ContainsFunc(list, func(e entry) bool { return e.name == name })
		if !listed && !strings.Contains(h.excused, trailer+name+": ") && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	return all
}

// chosen is what the ratchet runs now. It is an error that a spec has left
// the list without a word.
func chosen(source string, budget time.Duration, procs int) ([]entry, error) {
	list, err := readList(filepath.Join(source, "passing.txt"))
	if err != nil {
		return nil, err
	}
	h, err := readHistory(source)
	if err != nil {
		return nil, err
	}
	if gone := h.unexcused(list); len(gone) > 0 {
		return nil, fmt.Errorf("these specs have left passing.txt, and no commit says why in a line %q:\n  %s", trailer+"NAME: why", strings.Join(gone, "\n  "))
	}
	return choose(list, h.recent, h.head, budget, procs), nil
}
