package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
)

// report collects what was found.
type report struct {
	known table

	mu       sync.Mutex // guards all below
	cases    int
	requests int
	silent   int // requests that no side answered
	groups   map[string]*group
	errors   []error
}

// group is differences of one cause.
type group struct {
	cause  string
	count  int
	number int // of the case with the first of them
	title  string
	line   string
	first  difference
}

// add counts what differs in the answers to a request, and is not known.
func (r *report) add(number int, title, on string, q request, all []difference) {
	for _, d := range all {
		if r.known.knows(on, d) {
			continue
		}
		_, about, _ := strings.Cut(on, " ")
		cause := about + " | " + d.cause()
		r.mu.Lock()
		g := r.groups[cause]
		if g == nil {
			g = &group{cause: cause, number: number, title: title, line: q.String(), first: d}
			r.groups[cause] = g
		}
		if g.count++; number < g.number {
			g.number, g.title, g.line, g.first = number, title, q.String(), d
		}
		r.mu.Unlock()
	}
}

func (r *report) write(w io.Writer, o options) error {
	groups := slices.SortedFunc(maps.Values(r.groups), func(a, b *group) int {
		return cmp.Or(b.count-a.count, strings.Compare(a.cause, b.cause))
	})
	if o.out != "" {
		f, err := os.Create(o.out)
		if err != nil {
			return err
		}
		defer f.Close()
		for _, g := range groups {
			g.write(f, o, 100_000)
		}
	}
	for _, g := range groups[:min(len(groups), 20)] {
		g.write(w, o, 600)
	}
	if len(groups) > 20 {
		fmt.Fprintf(w, "… and %d causes more (-out FILE has all)\n", len(groups)-20)
	}
	sum := 0
	for _, g := range groups {
		sum += g.count
	}
	fmt.Fprintf(w, "%d cases, %d requests to each side; %d differences of %d causes that known.yaml does not name (%d are let through: the list is not whole yet)\n",
		r.cases, r.requests, sum, len(groups), o.most)
	for _, a := range r.known {
		if n := a.seen.Load(); n > 0 {
			fmt.Fprintf(w, "known: %s (%d times)\n", a.ID, n)
		}
	}
	return nil
}

func (g *group) write(w io.Writer, o options, most int) {
	brief := func(s string) string {
		if len(s) > most {
			return s[:most] + "…"
		}
		return s
	}
	fmt.Fprintf(w, "%d× %s\n  case %d: %s (again: -seed %d -only %d)\n  %s\n  at        %s\n  upstream  %s\n  ours      %s\n",
		g.count, g.cause, g.number, g.title, o.seed, g.number, brief(g.line), g.first.at, brief(show(g.first.theirs)), brief(show(g.first.ours)))
}

// verdict is nil if nothing differs that is not known, and all that is known
// was seen where it must be.
func (r *report) verdict(o options) error {
	if len(r.errors) > 0 {
		return fmt.Errorf("%d requests were not answered, the first: %w", len(r.errors), r.errors[0])
	}
	if n := len(r.groups); n > o.most {
		return fmt.Errorf("answers differ for %d causes that known.yaml does not name, where %d are let through: mend what differs, or put it into known.yaml with the reason (seed %d)", n, o.most, o.seed)
	}
	for _, a := range r.known {
		if o.strict && a.seen.Load() == 0 {
			return fmt.Errorf("known.yaml: %s did not show in this run: if it is gone, take it out", a.ID)
		}
	}
	return nil
}
