// Command bench measures the platform beside its peers, on this machine, in
// one run, and prints one table: each figure of ours, the peer's, the ratio.
//
// It knows every contender from outside alone: its commands, its API, and what
// /proc says. All run in namespaces of their own that have only lo (nest.go)
// and take turns, so that what else the machine does meets all alike. What was
// made is removed, also when the run is interrupted.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// part is a group of figures that share a preparation.
type part struct {
	name string
	took time.Duration // about, for whoever waits
	run  func(context.Context, *bench) error
}

func parts() []part {
	return []part{
		{"engine", 150 * time.Second, engine},
		{"api", 180 * time.Second, api},
		{"stored", 180 * time.Second, stored},
		{"scheduler", 120 * time.Second, scheduler},
		{"pods", 45 * time.Second, pods},
		{"footprint", 150 * time.Second, footprint},
		{"definitions", 300 * time.Second, definitions},
	}
}

// options are what the command line says.
type options struct {
	sampan, what, out, profiles, show string
	keep, alone                       bool
	definitions                       int
}

// bench is one run of the benchmark.
type bench struct {
	report
	bins     cache  // the peers' programs
	sampan   string // ours
	dir      string // of this run, on disk, removed at its end
	profiles string // where profiles go; empty: nowhere
	part     string

	definitions int  // how many are made on our side; upstream gets a tenth of them
	alone       bool // upstream makes none
}

func main() {
	var o options
	flag.StringVar(&o.sampan, "sampan", "../../bin/sampan", "the program to measure (make build)")
	flag.StringVar(&o.what, "what", "", "parts to measure, with commas: engine,api,stored,scheduler,pods,footprint,definitions (default all)")
	flag.StringVar(&o.out, "json", "", "file for the figures as JSON (default .cache/bench/last.json)")
	flag.StringVar(&o.profiles, "profile", "", "directory for profiles of the program")
	flag.StringVar(&o.show, "show", "", "measure nothing: print these files of figures, with commas, as a table for the docs")
	flag.IntVar(&o.definitions, "definitions", 1000, "how many definitions to make; upstream gets a tenth of them, which need as much memory")
	flag.BoolVar(&o.alone, "alone", false, "make definitions on our side alone: upstream needs as long for a tenth of them")
	flag.BoolVar(&o.keep, "keep", false, "leave the run's directory, with all logs, when done")
	flag.Parse()
	code, err := do(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func do(o options) (int, error) {
	if asInit() {
		return initial()
	}
	if o.show != "" {
		return 0, show(o.show, os.Stdout)
	}
	chosen, err := choose(o.what)
	if err != nil {
		return 0, err
	}
	bins, err := newCache()
	if err != nil {
		return 0, err
	}
	if o.out == "" {
		o.out = filepath.Join(bins.dir, "last.json")
	}
	for _, p := range []*string{&o.sampan, &o.out, &o.profiles} {
		if *p != "" {
			if *p, err = filepath.Abs(*p); err != nil {
				return 0, err
			}
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if dir, ok := nested(); ok {
		b := &bench{report: newReport(), bins: bins, sampan: o.sampan, dir: dir, profiles: o.profiles, definitions: o.definitions, alone: o.alone}
		return 0, b.measure(ctx, chosen, o.out)
	}
	if os.Geteuid() != 0 {
		return 0, errors.New("namespaces need root: run it with sudo")
	}
	if _, err := os.Stat(o.sampan); err != nil {
		return 0, fmt.Errorf("%w (build it with: make build)", err)
	}
	if err := bins.fill(); err != nil {
		return 0, err
	}
	announce(chosen)
	return nest(ctx, bins, o.keep)
}

// measure does all parts. One that breaks says so in the report and does not
// keep the others from being measured.
func (b *bench) measure(ctx context.Context, chosen []part, out string) error {
	var broken []error
	for _, p := range chosen {
		b.part = p.name
		began := time.Now()
		fmt.Fprintf(os.Stderr, "%s: load average %.2f\n", p.name, loadAverage())
		if err := p.run(ctx, b); err != nil {
			broken = append(broken, fmt.Errorf("%s: %w", p.name, err))
			b.row("this part ended early", "", lessIsBetter).fail(ours, err)
		}
		fmt.Fprintf(os.Stderr, "%s: took %s\n", p.name, time.Since(began).Round(time.Second))
		if ctx.Err() != nil {
			return errors.Join(broken...) // nobody waits for a table
		}
	}
	b.report.summarize()
	b.report.print(os.Stdout)
	data, err := json.MarshalIndent(b.report, "", "  ")
	if err == nil {
		err = os.WriteFile(out, append(data, '\n'), 0o644)
	}
	return errors.Join(append(broken, err)...)
}

func choose(names string) (chosen []part, err error) {
	all := parts()
	if names == "" {
		return all, nil
	}
	wanted := strings.Split(names, ",")
	for i := range wanted {
		wanted[i] = strings.TrimSpace(wanted[i])
		if !slices.ContainsFunc(all, func(p part) bool { return p.name == wanted[i] }) {
			return nil, fmt.Errorf("no part is called %q", wanted[i])
		}
	}
	return slices.DeleteFunc(all, func(p part) bool { return !slices.Contains(wanted, p.name) }), nil
}

func announce(chosen []part) {
	var all time.Duration
	var names []string
	for _, p := range chosen {
		all += p.took
		names = append(names, p.name)
	}
	fmt.Fprintf(os.Stderr, "measuring %s: about %d minutes; the machine should have nothing else to do\n",
		strings.Join(names, ", "), int(all.Minutes()+0.99))
}

// pause waits, unless nobody wants the result any more.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
