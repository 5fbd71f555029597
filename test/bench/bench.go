// Command bench measures the platform on this machine and prints one table:
// each figure with its goal, what was measured, and whether it is met.
//
// It runs the real program, with everything in a network namespace of its own
// that has only lo and with state in a temporary directory, and it removes
// both, also when it is interrupted. It knows the program from outside alone:
// its commands, its API, and what /proc says.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
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
		{"start", 15 * time.Second, start},
		{"run", 10 * time.Second, runs},
		{"footprint", (settle + idleWindow) + 5*time.Second, footprint},
		{"pods", 30 * time.Second, pods},
		{"monitor", 10 * time.Second, monitors},
		{"api", 45 * time.Second, load},
	}
}

// bench is one run of the benchmark.
type bench struct {
	machine
	report report
	part   string
}

func main() {
	if err := do(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func do() error {
	sampan := flag.String("sampan", "bin/sampan", "the program to measure (make build)")
	what := flag.String("what", "start,run,footprint,pods,monitor,api", "parts to measure")
	out := flag.String("json", "", "file for the figures as JSON")
	keep := flag.String("profile", "", "directory for profiles of the program after each part, and its log")
	flag.Parse()
	if os.Geteuid() != 0 {
		return errors.New("network namespaces need root: run it with sudo")
	}
	chosen, err := choose(*what)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if os.Getenv(insideVariable) == "" {
		return inNewNetwork(ctx)
	}
	path, err := filepath.Abs(*sampan)
	if err != nil {
		return err
	}
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("%w (build it with: make build)", err)
	}
	b := &bench{report: newReport()}
	announce(chosen)
	if err := b.open(ctx, path, *keep); err != nil {
		return err
	}
	defer b.close()
	for _, p := range chosen {
		b.part = p.name
		fmt.Fprintf(os.Stderr, "%s: load average %.2f\n", p.name, loadAverage())
		if err := p.run(ctx, b); err != nil {
			b.tellLog()
			return fmt.Errorf("%s: %w", p.name, err)
		}
		b.keepProfiles(ctx, p.name)
	}
	b.report.print(os.Stdout)
	if *out != "" {
		data, err := json.MarshalIndent(b.report, "", "  ")
		if err != nil {
			return err
		}
		return os.WriteFile(*out, append(data, '\n'), 0o644)
	}
	return nil
}

func choose(names string) (chosen []part, err error) {
	wanted := map[string]bool{}
	for _, n := range strings.Split(names, ",") {
		wanted[strings.TrimSpace(n)] = true
	}
	for _, p := range parts() {
		if wanted[p.name] {
			chosen = append(chosen, p)
			delete(wanted, p.name)
		}
	}
	for n := range wanted {
		return nil, fmt.Errorf("no part is called %q", n)
	}
	return chosen, nil
}

func announce(chosen []part) {
	var all time.Duration
	var names []string
	for _, p := range chosen {
		all += p.took
		names = append(names, p.name)
	}
	fmt.Fprintf(os.Stderr, "measuring %s: about %s; the machine should have nothing else to do\n",
		strings.Join(names, ", "), all.Round(10*time.Second))
}

const insideVariable = "SAMPAN_BENCH_INSIDE"

// inNewNetwork runs this program again in a new network namespace and waits
// for it. The namespace ends with what runs in it.
func inNewNetwork(ctx context.Context) error {
	runtime.LockOSThread() // the child's death signal is bound to this thread
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), insideVariable+"=1")
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGTERM}
	if err := c.Start(); err != nil {
		return fmt.Errorf("start in a new network namespace: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = c.Process.Signal(syscall.SIGTERM) })()
	err := c.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(max(1, exit.ExitCode())) // it has said why
	}
	return err
}
