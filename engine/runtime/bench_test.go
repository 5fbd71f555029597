package runtime

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func BenchmarkStartContainer(b *testing.B) {
	r := newRuntime(b)
	p := newPod(b, r)
	ctx := context.Background()
	cfg := container(b, p, "c", "exit", "0")
	cfg.LogPath = ""
	best := time.Hour
	for b.Loop() {
		began := time.Now()
		if _, err := p.Start(ctx, cfg); err != nil {
			b.Fatal(err)
		}
		best = min(best, time.Since(began))
		b.StopTimer()
		if _, err := p.Wait(ctx, "c"); err != nil {
			b.Fatal(err)
		}
		if err := p.Remove(ctx, "c"); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	// On a busy machine the best says more than the mean.
	b.ReportMetric(float64(best.Microseconds()), "best-µs")
	b.ReportMetric(float64(private(b, p.MonitorPID())), "monitor-kB")
}

func BenchmarkStartPod(b *testing.B) {
	r := newRuntime(b)
	ctx := context.Background()
	n, best := 0, time.Hour
	for b.Loop() {
		n++
		began := time.Now()
		p, err := r.StartPod(ctx, PodConfig{ID: "p" + strconv.Itoa(n), Hostname: "x"})
		if err != nil {
			b.Fatal(err)
		}
		best = min(best, time.Since(began))
		b.StopTimer()
		if err := p.Close(ctx); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(best.Microseconds()), "best-µs")
}

func BenchmarkExec(b *testing.B) {
	r := newRuntime(b)
	p := newPod(b, r)
	ctx := context.Background()
	if _, err := p.Start(ctx, container(b, p, "c", "forever")); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if exit, err := p.Exec(ctx, "c", ExecConfig{Args: []string{"box", "exit", "0"}}, Streams{}); err != nil || exit.Code != 0 {
			b.Fatal(exit, err)
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	r := newRuntime(b)
	p := newPod(b, r)
	cfg := container(b, p, "c", "exit", "0")
	for b.Loop() {
		f, err := r.gather(p.cfg, &cfg)
		if err != nil {
			b.Fatal(err)
		}
		f.tasks = 9
		prog, err := compile(cfg.Spec, f)
		if err != nil {
			b.Fatal(err)
		}
		prog.Encode()
	}
}

func BenchmarkCompileSeccomp(b *testing.B) {
	p := DefaultSeccomp([]string{"CAP_CHOWN"})
	for b.Loop() {
		if _, _, err := compileSeccomp(p); err != nil {
			b.Fatal(err)
		}
	}
}

// private is a process's private memory in kB, without what it shares with
// others of the same file.
func private(t testing.TB, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	sum := 0
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		if f := strings.Fields(s.Text()); len(f) == 3 && (f[0] == "Private_Dirty:" || f[0] == "Private_Clean:") {
			n, _ := strconv.Atoi(f[1])
			sum += n
		}
	}
	return sum
}

func TestAMonitorIsSmall(t *testing.T) {
	r := newRuntime(t)
	ctx := context.Background()
	// Two, because a single one has the pages of its file to itself.
	newPod(t, r, func(c *PodConfig) { c.ID = "other" })
	p := newPod(t, r)
	fresh := private(t, p.MonitorPID())
	// A pod as they are: a few containers, one that has restarted, probes.
	for range 3 {
		if _, exit := output(t, p, container(t, p, "c", "count", "500")); exit.Code != 0 {
			t.Fatal(exit)
		}
		if err := p.Remove(ctx, "c"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Start(ctx, container(t, p, "c", "forever")); err != nil {
		t.Fatal(err)
	}
	for range 30 {
		if exit, err := p.Exec(ctx, "c", ExecConfig{Args: []string{"box", "exit", "0"}}, Streams{}); err != nil || exit.Code != 0 {
			t.Fatal(exit, err)
		}
	}
	used := private(t, p.MonitorPID())
	t.Logf("private memory: %d kB fresh, %d kB in use", fresh, used)
	if used > 1<<10 {
		t.Errorf("a monitor has %d kB of its own, at most 1024 are allowed", used)
	}
	if err := p.Signal(ctx, "c", syscall.SIGKILL, false); err != nil {
		t.Fatal(err)
	}
}
