package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

const (
	runRounds    = 12
	crowd        = 100 // containers at once
	crowdHands   = 8   // commands at a time that start them
	unpackRounds = 2
	smallFiles   = 50_000
)

// engine measures containers without Kubernetes: our commands beside those of
// docker, podman, runc and crun.
func engine(ctx context.Context, b *bench) (err error) {
	e, err := b.openEngines(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	for _, step := range []func(context.Context) error{e.starts, e.runs, e.execs, e.crowds, e.unpacks, e.builds} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// full are the three engines with commands alike: the first is ours.
func (e *engines) full(args func(who string) []string) []contender {
	of := func(who string, gone error, command func(context.Context, ...string) (string, error)) contender {
		return contender{who: who, do: func(ctx context.Context) error {
			if gone != nil {
				return gone
			}
			_, err := command(ctx, args(who)...)
			return err
		}}
	}
	return []contender{of(ours, nil, e.ours.call), of("docker", e.noDocker, e.docker), of("podman", e.noPodman, e.podman)}
}

// starts measures the low-level runtimes alone. Ours has no command of its
// own: its benchmark starts containers, by calls, in a pod that is there.
func (e *engines) starts(ctx context.Context) error {
	r := e.row("low-level start of true, until it runs", "ms", lessIsBetter)
	if ms, err := e.startByCall(ctx); err != nil {
		r.fail(ours, err)
	} else {
		r.add(ours, ms, -1)
	}
	var lows []contender
	for _, name := range []string{"crun", "runc"} {
		dir, err := e.bundle("true")
		if err != nil {
			r.fail(name, err)
			continue
		}
		lows = append(lows, contender{who: name,
			do: func(ctx context.Context) error {
				return e.lowLevel(ctx, name, "run", "--detach", "--bundle", dir, "start")
			},
			after: func(ctx context.Context) error { return e.lowLevel(ctx, name, "delete", "--force", "start") }})
	}
	e.alternate(ctx, r, 1, runRounds, lows...)
	return nil
}

var perOperation = regexp.MustCompile(`BenchmarkStartContainer\S*\s+\d+\s+([0-9.]+) ns/op`)

func (e *engines) startByCall(ctx context.Context) (ms float64, err error) {
	c := exec.CommandContext(ctx, e.bins.bin("runtime.test"), "-test.run=^$", "-test.bench=StartContainer$", "-test.benchtime=30x")
	c.Dir = filepath.Join(e.bins.source, "../../engine/runtime")
	out, err := call(c)
	if err != nil {
		return 0, err
	}
	m := perOperation.FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("the benchmark of engine/runtime does not say what a start takes: %s", out)
	}
	ns, err := strconv.ParseFloat(m[1], 64)
	return ns / 1e6, err
}

// runs measures a container from command to command's end.
func (e *engines) runs(ctx context.Context) error {
	for _, network := range []string{"none", "default", "host"} {
		r := e.row("run --rm true, network "+network, "ms", lessIsBetter)
		if network == "default" {
			r.goal(25)
		}
		all := e.full(func(who string) []string {
			args := []string{"run", "--rm", "--network", network}
			if network == "default" {
				args[3] = map[string]string{ours: "default", "docker": "bridge", "podman": "podman"}[who]
			}
			if who == "podman" {
				args = append(args, "--cgroup-parent", e.cgroupParent+"-podman")
			}
			return append(args, guestImage, "true")
		})
		if network == "none" {
			for _, name := range []string{"crun", "runc"} {
				dir, err := e.bundle("true")
				if err != nil {
					r.fail(name, err)
					continue
				}
				all = append(all, contender{who: name, do: func(ctx context.Context) error { return e.lowLevel(ctx, name, "run", "--bundle", dir, "run") }})
			}
		}
		e.alternate(ctx, r, 2, runRounds, all...)
	}
	return nil
}

// detached are the words that start a container that stays.
func (e *engines) detached(who, name string) []string {
	args := []string{"run", "-d", "--name", name}
	if who == "podman" {
		args = append(args, "--cgroup-parent", e.cgroupParent+"-podman")
	}
	return append(args, guestImage, "wait")
}

func (e *engines) execs(ctx context.Context) error {
	r := e.row("exec true in a running container", "ms", lessIsBetter)
	started := map[string]error{}
	for _, c := range e.full(func(who string) []string { return e.detached(who, "stays") }) {
		started[c.who] = c.do(ctx)
	}
	all := e.full(func(string) []string { return []string{"exec", "stays", "/guest", "true"} })
	for i, c := range all {
		if err := started[c.who]; err != nil {
			all[i].do = func(context.Context) error { return err }
		}
	}
	e.alternate(ctx, r, 2, runRounds, all...)
	for _, c := range e.full(func(string) []string { return []string{"rm", "-f", "stays"} }) {
		if started[c.who] == nil {
			if err := c.do(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// crowds measures many containers: how long until all run, what each engine
// holds for them, and how long until they are removed.
func (e *engines) crowds(ctx context.Context) error {
	up := e.row(fmt.Sprintf("%d containers, all running", crowd), "s", lessIsBetter)
	down := e.row("  … and all removed again", "s", lessIsBetter)
	monitor := e.row("  memory of a monitor, private", "MB", lessIsBetter).goal(1)
	whole := e.row("  of all of the engine's processes with them, RSS", "MB", lessIsBetter)
	for i := range 3 {
		e.crowd(ctx, i, up, down, monitor, whole)
	}
	return nil
}

func (e *engines) crowd(ctx context.Context, i int, up, down, monitor, whole *row) {
	pick := func(args ...string) contender {
		return e.full(func(string) []string { return args })[i]
	}
	who := pick().who
	name := func(n int) string { return fmt.Sprintf("of-many-%d", n) }
	everyone := []string{"rm", "-f"}
	for n := range crowd {
		everyone = append(everyone, name(n))
	}
	start := contender{who: who, do: func(ctx context.Context) error {
		return inParallel(crowd, crowdHands, func(n int) error { return pick(e.detached(who, name(n))...).do(ctx) })
	}}
	wall, cpu, err := start.turn(ctx)
	if err != nil {
		for _, r := range []*row{up, down, monitor, whole} {
			r.fail(who, err)
		}
		_ = pick(everyone...).do(ctx)
		return
	}
	up.add(who, wall.Seconds(), milliseconds(cpu)/crowd)
	weigh(who, monitor, whole)
	if wall, cpu, err = pick(everyone...).turn(ctx); err != nil {
		down.fail(who, err)
		return
	}
	down.add(who, wall.Seconds(), milliseconds(cpu)/crowd)
}

// weigh measures the memory of an engine with a crowd of containers.
func weigh(who string, monitor, whole *row) {
	var monitors, all []int
	switch who {
	case ours:
		// The platform itself is not what runs these containers.
		monitors = processes("sampan-monitor")
		all = monitors
	case "docker":
		monitors = processes("containerd-shim-runc-v2")
		all = append(append(append(processes("dockerd"), processes("containerd")...), processes("docker-proxy")...), monitors...)
	case "podman":
		monitors = processes("conmon")
		all = monitors
	}
	monitor.add(who, memoryOf(monitors).private/megabyte/crowd, -1)
	whole.add(who, memoryOf(all).rss/megabyte, -1)
}

// unpacks measures how an archive of an image becomes files. Every turn has an
// image of its own, and nothing is removed meanwhile: ext4 without a journal,
// which this may be measured on, looks at every inode that was just given back
// before it takes one.
func (e *engines) unpacks(ctx context.Context) error {
	r := e.row(fmt.Sprintf("load an image of %d files", smallFiles), "s", lessIsBetter)
	for turn := range unpackRounds {
		archive := e.path(fmt.Sprintf("many-%d.tar", turn))
		name := fmt.Sprintf("bench/many:%d", turn)
		if err := writeImage(archive, name, nil, manySmallFiles(smallFiles, name)); err != nil {
			return err
		}
		e.alternate(ctx, r, 0, 1, e.full(func(string) []string { return []string{"load", "-q", "-i", archive} })...)
	}
	return nil
}

// builds measures a Dockerfile with a copy of many files and three commands,
// from nothing and with everything in the cache.
func (e *engines) builds(ctx context.Context) error {
	dir := e.path("context")
	if err := writeContext(dir); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cold := e.row("build: 2,000 files, 3 RUN, nothing cached", "s", lessIsBetter)
	warm := e.row("build: the same, everything cached", "ms", lessIsBetter)
	e.alternate(ctx, cold, 0, unpackRounds, e.full(func(who string) []string {
		return []string{"build", "-q", "--no-cache", "-t", "bench/built:1", dir}
	})...)
	// Docker's classic builder keeps what it made without a cache as a cache;
	// one turn that does not count fills the others'.
	e.alternate(ctx, warm, 1, 4, e.full(func(who string) []string {
		args := []string{"build", "-q", "-t", "bench/built:1", dir}
		if who == "podman" {
			args = append([]string{"build", "--layers"}, args[1:]...)
		}
		return args
	})...)
	return nil
}

func writeContext(dir string) error {
	files := filepath.Join(dir, "files")
	if err := os.MkdirAll(files, 0o755); err != nil {
		return err
	}
	for i := range 2000 {
		text := strings.Repeat(fmt.Sprintf("file %d\n", i), 100)
		if err := os.WriteFile(filepath.Join(files, fmt.Sprintf("f%04d", i)), []byte(text), 0o644); err != nil {
			return err
		}
	}
	const steps = "FROM " + guestImage + "\nCOPY files /files\nRUN [\"/guest\", \"true\"]\nENV A=1\nRUN [\"/guest\", \"true\"]\nENV B=2\nRUN [\"/guest\", \"true\"]\n"
	return os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(steps), 0o644)
}

// inParallel does n things, some hands at a time, and returns the first error.
func inParallel(n, hands int, do func(i int) error) error {
	next := make(chan int)
	errs := make(chan error, hands)
	var wg sync.WaitGroup
	for range hands {
		wg.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	var err error
feed:
	for i := range n {
		select {
		case next <- i:
		case err = <-errs:
			break feed
		}
	}
	close(next)
	wg.Wait()
	select {
	case late := <-errs:
		err = errors.Join(err, late)
	default:
	}
	return err
}
