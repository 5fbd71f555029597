// Command differ lays this program's API server beside upstream's
// kube-apiserver: the same requests, good and bad, go to both, and whatever
// the answers differ in is an error, unless known.yaml names it with its reason.
//
// Requests are derived from valid objects of every kind (seeds) by upstream's
// own OpenAPI: for every field there are values that are wrong in some way. Case N
// of seed S is always the same, so that a difference can be seen again.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

func main() {
	o := options{}
	flag.StringVar(&o.sampan, "sampan", "", "the program to compare (default: build it)")
	flag.Int64Var(&o.seed, "seed", 0, "what requests are made from (default: the time)")
	flag.IntVar(&o.only, "only", -1, "run this case alone, and show every request of it")
	flag.IntVar(&o.cases, "cases", 3000, "how many cases to run")
	flag.DurationVar(&o.budget, "budget", 0, "start no more cases after this long (0: run all)")
	flag.IntVar(&o.workers, "workers", 4, "cases at a time")
	flag.StringVar(&o.out, "out", "", "write every difference to this file")
	flag.BoolVar(&o.prepare, "build", false, "build what is compared, and end")
	flag.BoolVar(&o.gate, "gate", false, fmt.Sprintf("the run of CI: %d cases; up to %d causes that known.yaml does not name are no error yet", gateCases, gateMost))
	flag.BoolVar(&o.strict, "strict", false, "a known difference that does not show is an error (for a full run)")
	flag.BoolVar(&o.update, "update", false, "write docs/differences.md, and end")
	match := flag.String("match", "", "run only the cases whose title matches this regular expression")
	flag.Parse()
	o.match = regexp.MustCompile(*match)
	if o.gate {
		o.cases, o.most = gateCases, gateMost
	}
	if o.seed == 0 {
		o.seed = time.Now().Unix()
	}
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "differ:", err)
		os.Exit(1)
	}
}

// A gate for every commit runs the same number of cases on every machine, of
// a seed that the commit gives. What seeds find that nobody has tried varies:
// gateMost is twice the most that seven such seeds found.
const (
	gateCases = 1500
	gateMost  = 22
)

type options struct {
	sampan  string
	seed    int64
	only    int
	cases   int
	budget  time.Duration
	workers int
	out     string
	match   *regexp.Regexp
	prepare bool
	gate    bool
	strict  bool
	update  bool

	most int // causes that known.yaml does not name
}

func run(o options) error {
	known, err := readKnown()
	if err != nil {
		return err
	}
	if o.update {
		return os.WriteFile(filepath.Join("..", "..", "docs", "differences.md"), known.page(), 0o644)
	}
	bins, err := build(o.sampan)
	if err != nil || o.prepare {
		return err
	}
	if os.Getenv(insideVariable) == "" {
		return enter()
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "differ-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	theirs, err := startUpstream(ctx, bins, filepath.Join(dir, "upstream"))
	defer theirs.stop()
	if err != nil {
		return err
	}
	ours, err := startOurs(ctx, bins, filepath.Join(dir, "sampan"))
	defer ours.stop()
	if err != nil {
		return err
	}
	r, err := newRunner(ctx, o, known, ours, theirs)
	if err != nil {
		return err
	}
	fmt.Printf("seed %d\n", o.seed)
	if err := r.run(ctx); err != nil {
		return err
	}
	if err := r.report.write(os.Stdout, o); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return r.report.verdict(o)
}
