package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// runSuite starts the cluster, runs the specs and reports what became of
// them, also of those that ran before an interrupt. It returns 1 if a spec failed.
func runSuite(ctx context.Context, c *cache, o options) (code int, err error) {
	previous, err := readResults(o.result)
	if o.lastFailed && err != nil {
		return 0, fmt.Errorf("nothing failed the last time: %w", err)
	}
	choice, err := selection(o, previous)
	if err != nil {
		return 0, err
	}
	if o.budget > 0 {
		picked, err := chosen(c.source, o.budget, o.procs)
		if err != nil {
			return 0, err
		}
		c.say("%d of the specs that passed before are tried again", len(picked))
		choice = append(choice, focus(picked)...)
	}
	if err := os.RemoveAll(o.result); err != nil {
		return 0, err
	}
	if err := os.MkdirAll(o.result, 0o755); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "sampan-conformance-")
	if err != nil {
		return 0, err
	}
	k := &cluster{c: c, dir: dir, reports: o.result}
	defer func() {
		if e := k.remove(o.keep); e != nil && err == nil {
			err = e
		}
	}()
	if o.sampan == "" {
		o.sampan = c.bin("sampan")
	}
	if err := copyFile(k.program(), o.sampan, 0o755); err != nil {
		return 0, err
	}
	c.say("starting a cluster in %s", dir)
	if err := k.start(ctx, filepath.Join(c.dir, "images.tar"), o.nodes, strings.Fields(o.up)...); err != nil {
		return 0, err
	}
	ended := ginkgo(ctx, k, o, choice)
	now, err := readResults(o.result)
	if err != nil {
		return 0, err
	}
	code, err = report(c, o, now)
	if ended != nil {
		return 0, ended
	}
	return code, err
}

// ginkgo runs the specs: as many at a time as there are processes, then, alone,
// those that upstream calls Serial. That specs fail is no error: the report says so.
func ginkgo(ctx context.Context, k *cluster, o options, choose []string) error {
	args := append([]string{"--procs=" + strconv.Itoa(o.procs), "--timeout=" + o.timeout.String(), "--no-color", "--silence-skips",
		"--output-dir=" + o.result, "--json-report=" + aroundFile, "--keep-going"}, choose...)
	args = append(args, k.c.bin("e2e.test"), "--", "--provider=skeleton", "--kubeconfig="+k.kubeconfig(), "--kubectl-path="+k.c.bin("kubectl"),
		"--num-nodes="+strconv.Itoa(o.nodes), "--dump-logs-on-failure=false", "--disable-log-dump", "--e2e-output-dir="+k.dir,
		"--results="+filepath.Join(o.result, resultsFile), "--spec-timeout="+o.specTimeout.String())
	if o.budget > 0 {
		args = append(args, "--start-until="+o.budget.String())
	}
	log, err := os.Create(filepath.Join(o.result, "ginkgo.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	k.c.say("running specs; the suite's log is %s", log.Name())
	cmd := exec.Command(k.c.bin("ginkgo"), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = k.dir, log, log
	cmd.Env = append(os.Environ(), "KUBECONFIG="+k.kubeconfig(), "HOME="+k.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	// Ginkgo ends by itself at its bound. Should it hang, this ends it.
	late := time.NewTimer(o.timeout + 5*time.Minute)
	defer late.Stop()
	for {
		select {
		case err := <-ended:
			if _, failed := err.(*exec.ExitError); failed {
				return nil
			}
			return err
		case <-tick.C:
			k.c.say("%s  %s", time.Now().Format(time.TimeOnly), progress(o.result))
		case <-late.C:
			return end(cmd, ended, fmt.Errorf("the suite did not end %s after its bound", 5*time.Minute))
		case <-ctx.Done():
			return end(cmd, ended, ctx.Err())
		}
	}
}

// end interrupts the suite, which then ends its specs, and kills what does not
// end by that.
func end(cmd *exec.Cmd, ended chan error, why error) error {
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		return err
	}
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
			return err
		}
		<-ended
	}
	return why
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
	if o.lastFailed {
		var again []entry
		for _, s := range previous {
			if s.failed() && s.sig != "" {
				again = append(again, entry{name: s.name})
			}
		}
		if len(again) == 0 {
			return nil, fmt.Errorf("no spec failed the last time")
		}
		args = append(args, focus(again)...)
	}
	if o.specs != "" {
		listed, err := readList(o.specs)
		if err != nil {
			return nil, err
		}
		args = append(args, focus(listed)...)
	}
	return args, nil
}

// focus chooses specs by their whole names.
func focus(all []entry) (args []string) {
	for _, e := range all {
		args = append(args, "--focus="+regexp.QuoteMeta(e.name)+"$")
	}
	return args
}

// progress counts the specs that have ended so far.
func progress(dir string) string {
	specs, err := readResults(dir)
	if err != nil {
		return err.Error()
	}
	failed := 0
	for _, s := range specs {
		if s.failed() {
			failed++
		}
	}
	return fmt.Sprintf("%d specs ended, %d failed", len(specs), failed)
}
