package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"sampan/engine"
	"sampan/engine/enginetest"
)

func configFromEnv() engine.Config {
	return engine.Config{State: os.Getenv("TEST_STATE"), Run: os.Getenv("TEST_RUN")}
}

// churn makes, starts, stops and removes containers until it is killed.
func churn() {
	ctx := context.Background()
	e, err := engine.Open(ctx, configFromEnv())
	check(err)
	fmt.Println("open")
	for i := 0; ; i++ {
		c, err := e.CreateStandalone(ctx, engine.SandboxConfig{}, engine.ContainerConfig{Image: enginetest.Image, Command: []string{"wait"}})
		check(err)
		_, err = e.Start(ctx, c.ID)
		check(err)
		if i%2 == 0 {
			check(e.Remove(ctx, c.ID, true))
		}
	}
}

// startOne starts one container and says which, then waits to be killed.
func startOne() {
	ctx := context.Background()
	e, err := engine.Open(ctx, configFromEnv())
	check(err)
	c, err := e.CreateStandalone(ctx, engine.SandboxConfig{}, engine.ContainerConfig{Name: "boat", Image: enginetest.Image, Command: []string{"wait"}})
	check(err)
	c, err = e.Start(ctx, c.ID)
	check(err)
	fmt.Println(c.ID, c.Status.Pid)
	select {}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func startTime(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(b)[strings.LastIndexByte(string(b), ')'):])[20]
}

func TestContainerIsTakenOverWhenItsStarterIsKilled(t *testing.T) {
	_, c := open(t)
	cmd := enginetest.Helper("start", "TEST_STATE="+c.State, "TEST_RUN="+c.Run)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var id string
	var pid int
	if _, err := fmt.Fscan(out, &id, &pid); err != nil {
		t.Fatal(err)
	}
	began := startTime(t, pid)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()

	e := reopen(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- e.Run(ctx) }()
	events := make(chan engine.Event, 16)
	go func() { _ = e.Events(ctx, func(ev engine.Event) error { events <- ev; return nil }) }()
	got, err := e.Inspect(ctx, "boat")
	if err != nil || got.ID != id || got.Status.Pid != pid || got.Status.State != engine.Running || startTime(t, pid) != began {
		t.Errorf("taken over: got %s %+v, %v; want %s with pid %d since %s", got.ID, got.Status, err, id, pid, began)
	}
	ready(t, e, "boat")
	if err := e.Stop(ctx, "boat", time.Minute); err != nil {
		t.Fatal(err)
	}
	for ev := range events {
		if ev.Type == engine.EventStopped && ev.Container == id {
			break
		}
	}
	if got, err := e.Inspect(ctx, "boat"); err != nil || got.Status.ExitCode != 3 {
		t.Errorf("after stop: got %+v, %v; want code 3", got.Status, err)
	}
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}

func TestExitWhileNobodyLooksIsReported(t *testing.T) {
	e, c := open(t)
	box := start(t, e, "boat", "wait")
	e.Close()
	// The monitor sees the end; no engine is open.
	p, err := os.FindProcess(box.Status.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	e = reopen(t, c)
	st, err := e.Wait(t.Context(), "boat")
	if err != nil || st.ExitCode != 137 || st.Signal != 9 {
		t.Errorf("got %+v, %v; want code 137", st, err)
	}
	if err := e.Recover(t.Context()); err != nil {
		t.Error(err)
	}
	found := false
	ctx, cancel := context.WithCancel(t.Context())
	_ = e.Events(ctx, func(ev engine.Event) error {
		found = found || ev.Type == engine.EventStopped && ev.Container == box.ID
		cancel()
		return nil
	})
	if !found {
		t.Error("the first subscriber was not told of the end")
	}
}

// Wherever the process is killed, what it leaves is a whole container or
// nothing, and it can be removed.
func TestKillAtAnyMomentLeavesNothingHalfMade(t *testing.T) {
	_, c := open(t)
	for round := range 5 {
		cmd := enginetest.Helper("churn", "TEST_STATE="+c.State, "TEST_RUN="+c.Run)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var word string
		if _, err := fmt.Fscan(out, &word); err != nil {
			t.Fatal(err)
		}
		// The moment is the test's subject, not something it waits for.
		<-time.After(time.Duration(rand.IntN(60_000)) * time.Microsecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()

		e := reopen(t, c)
		if err := e.Recover(t.Context()); err != nil {
			t.Fatalf("round %d: recover: %v", round, err)
		}
		list, err := e.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range list {
			if k.Status.State == engine.Running {
				startTime(t, k.Status.Pid)
			}
			if err := e.Remove(t.Context(), k.ID, true); err != nil {
				t.Errorf("round %d: %v", round, err)
			}
		}
		left, err := e.Snapshots.Snapshots(t.Context())
		if err != nil || len(left) != 0 {
			t.Errorf("round %d: snapshots left: %v, %v", round, left, err)
		}
		if pods, err := e.Runtime.Pods(t.Context()); err != nil || len(pods) != 0 {
			t.Errorf("round %d: monitors left: %v, %v", round, pods, err)
		}
		e.Close()
	}
}
