// Conformance runs upstream's conformance suite against a fresh Sampan that
// has a network namespace to itself, so that nothing leaves the machine.
//
// It builds what it needs (see build.go and images.go), keeps it in
// .cache/conformance, and cleans up after itself, also when interrupted.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// options say what is run.
type options struct {
	focus, sig, filter, specs string
	up                        string // flags for the program under test
	sampan                    string // the program under test; "": built from the sources
	procs, nodes              int
	lastFailed, update, keep  bool
	build                     bool
	timeout, specTimeout      time.Duration
	budget                    time.Duration // 0: no ratchet
	result                    string        // directory of reports
}

func main() {
	var o options
	flag.StringVar(&o.focus, "focus", "", "regular expression: run the specs whose names match")
	flag.StringVar(&o.sig, "sig", "", "run the specs of this SIG, such as node")
	flag.StringVar(&o.filter, "filter", "Conformance", "ginkgo label filter that every spec must match")
	flag.StringVar(&o.specs, "specs", "", "file with the names of specs to run, one a line")
	flag.StringVar(&o.sampan, "sampan", "", "program to test, instead of one built from the sources")
	flag.StringVar(&o.up, "up", "", "flags for sampan up, such as --strict-versions")
	flag.IntVar(&o.procs, "procs", 2, "specs that run at the same time")
	flag.IntVar(&o.nodes, "nodes", 2, "nodes of the cluster, 1 or 2")
	flag.DurationVar(&o.budget, "ratchet", 0, "run as much of passing.txt as fits into this time, and start no spec after it")
	flag.BoolVar(&o.lastFailed, "last-failed", false, "run what failed the last time")
	flag.BoolVar(&o.update, "update", false, "add the specs that passed to passing.txt")
	flag.BoolVar(&o.build, "build", false, "build the suite and the images, and run nothing")
	flag.BoolVar(&o.keep, "keep", false, "leave the cluster's directory, with its log, when done")
	flag.DurationVar(&o.timeout, "timeout", 4*time.Hour, "end the whole run after this time")
	flag.DurationVar(&o.specTimeout, "spec-timeout", 15*time.Minute, "end a spec after this time: it has failed")
	flag.StringVar(&o.result, "out", "last", "name of the directory of reports in .cache/conformance: one run at a time each")
	flag.Parse()
	code, err := conformance(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		code = 2
	}
	os.Exit(code)
}

// inNamespace marks the process that was started in the network namespace.
const inNamespace = "CONFORMANCE_IN_NAMESPACE"

func conformance(o options) (int, error) {
	source, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	c := &cache{dir: filepath.Join(source, "..", "..", ".cache", "conformance"), source: source, log: os.Stdout}
	if _, err := os.Stat(filepath.Join(source, "passing.txt")); err != nil {
		return 0, fmt.Errorf("run this in test/conformance: %w", err)
	}
	if o.procs < 1 || o.nodes < 1 || o.nodes > 2 {
		return 0, fmt.Errorf("-procs %d -nodes %d: want one process or more, and one node or two", o.procs, o.nodes)
	}
	if o.result == "" || o.result != filepath.Base(o.result) || slices.Contains([]string{".", "..", "bin", "debs", "rootfs"}, o.result) {
		return 0, fmt.Errorf("-out %q: want the name of a directory, and none of the cache's own", o.result)
	}
	o.result = filepath.Join(c.dir, o.result)
	if os.Getenv(inNamespace) != "" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		return runSuite(ctx, c, o)
	}
	if os.Getuid() != 0 {
		return 0, fmt.Errorf("containers, mounts and network namespaces need root")
	}
	if err := os.MkdirAll(filepath.Join(c.dir, "bin"), 0o755); err != nil {
		return 0, err
	}
	unlock, err := lock(o.result+".lock", syscall.LOCK_NB)
	if err != nil {
		return 0, fmt.Errorf("another run writes to %s (-out NAME chooses another): %w", o.result, err)
	}
	defer unlock()
	if err := c.build(o.sampan == ""); err != nil {
		return 0, err
	}
	if o.build {
		return 0, nil
	}
	// Before this an interrupt ends the program, and what it builds, at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	inside := exec.Command("/proc/self/exe", os.Args[1:]...)
	inside.Env = append(os.Environ(), inNamespace+"=1")
	inside.Stdout, inside.Stderr = os.Stdout, os.Stderr
	// A session of its own: an interrupt comes through this process, once.
	inside.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Setsid: true}
	if err := inside.Start(); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- inside.Wait() }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		c.say("interrupted: cleaning up")
		if err := inside.Process.Signal(syscall.SIGTERM); err != nil {
			return 0, err
		}
		err = <-ended
	}
	if exit, ok := err.(*exec.ExitError); ok && exit.ExitCode() == 1 {
		return 1, nil
	}
	return 0, err
}
