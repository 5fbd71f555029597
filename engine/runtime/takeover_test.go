package runtime

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// starter is the process that TestARunningPodOutlivesItsStarter kills: it
// starts what it is told on standard input, says so and waits for its death.
func starter() {
	ctx := context.Background()
	var in struct {
		Dir        string
		Containers []ContainerConfig
	}
	err := json.NewDecoder(os.Stdin).Decode(&in)
	var r *Runtime
	if err == nil {
		r, err = New(Config{Dir: in.Dir})
	}
	var p *Pod
	if err == nil {
		p, err = r.StartPod(ctx, PodConfig{ID: "pod", Hostname: "aboard", Labels: map[string]string{"a": "b"}})
	}
	var states []State
	for i := 0; err == nil && i < len(in.Containers); i++ {
		var s State
		s, err = p.Start(ctx, in.Containers[i])
		states = append(states, s)
	}
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(states)
	select {}
}

func TestARunningPodOutlivesItsStarter(t *testing.T) {
	r := newRuntime(t)
	ctx := context.Background()
	fake := &Pod{r: r}
	tick := container(t, fake, "tick", "tick")
	short := container(t, fake, "short", "copy", "exit", "42")
	short.Stdin, short.StdinOnce = true, true
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "SAMPAN_TEST_STARTER=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := json.NewEncoder(in).Encode(map[string]any{"Dir": r.cfg.Dir, "Containers": []ContainerConfig{tick, short}}); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	var were []State
	if err != nil || json.Unmarshal([]byte(line), &were) != nil {
		t.Fatalf("the starter says %q, %v", line, err)
	}
	cmd.Process.Kill()
	cmd.Wait()

	// Nobody is connected: the log grows, and an end is kept.
	before := strings.Count(logged(t, tick.LogPath), "\n")
	until(t, tick.LogPath, func() bool { return strings.Count(logged(t, tick.LogPath), "\n") > before+5 })

	events, stop := context.WithCancel(ctx)
	defer stop()
	ch := r.Events(events)
	p, err := r.OpenPod(ctx, "pod")
	if err != nil {
		t.Fatal(err)
	}
	if p.Config().Labels["a"] != "b" {
		t.Errorf("configuration after the take-over: %+v", p.Config())
	}
	for i, id := range []string{"tick", "short"} {
		st, err := p.State(ctx, id)
		if err != nil || st.Status != Running || st.Pid != were[i].Pid || st.StartTime != were[i].StartTime || !st.StartedAt.Equal(were[i].StartedAt) || st.Cgroup == "" {
			t.Errorf("%s is %+v, %v; was %+v", id, st, err, were[i])
		}
	}
	if err := p.Attach(ctx, "short", Streams{Stdin: strings.NewReader("x")}); err != nil {
		t.Error(err)
	}
	if e := <-ch; e.Container != "short" || e.Exit.Code != 42 {
		t.Errorf("event = %+v", e)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	// A third daemon finds the exit that happened before it came.
	second, err := New(Config{Dir: r.cfg.Dir})
	if err != nil {
		t.Fatal(err)
	}
	ch = second.Events(events)
	q, err := second.OpenPod(ctx, "pod")
	if err != nil {
		t.Fatal(err)
	}
	if e := <-ch; e.Container != "short" || e.Exit.Code != 42 {
		t.Errorf("event = %+v", e)
	}
	if err := q.Remove(ctx, "short"); err != nil {
		t.Error(err)
	}
	lines := strings.Split(strings.TrimSpace(logged(t, tick.LogPath)), "\n")
	for i, l := range lines {
		if l != fmt.Sprintf("tick %d", i) {
			t.Fatalf("line %d of the log is %q: something was lost", i, l)
		}
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}
