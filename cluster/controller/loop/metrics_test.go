package loop_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sampan/cluster/controller/loop"
	"sampan/internal/counted"
)

func TestLoopsAreCountedByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counts, m := prometheus.NewRegistry(), &loop.Metrics{}
		counts.MustRegister(m)
		failed := false
		l := &loop.Loop[string]{Name: "web", Log: slog.New(slog.DiscardHandler), Sync: func(_ context.Context, key string) (time.Duration, error) {
			time.Sleep(2 * time.Second)
			if key == "bad" && !failed {
				failed = true
				return 0, errors.New("not yet")
			}
			return 0, nil
		}}
		l.Seed("early")
		ctx, stop := context.WithCancel(m.With(context.Background()))
		over := make(chan struct{})
		go func() { defer close(over); l.Run(ctx) }()
		l.Add("bad")
		l.Add("bad")
		time.Sleep(time.Second) // in the middle of the first
		got := func() string {
			var text strings.Builder
			if err := counted.Write(&text, counts, ""); err != nil {
				t.Fatal(err)
			}
			var lines []string
			for line := range strings.Lines(text.String()) {
				if !strings.HasPrefix(line, "#") && !strings.Contains(line, "_bucket") {
					lines = append(lines, strings.TrimPrefix(strings.ReplaceAll(strings.TrimSpace(line), `{name="web"}`, ""), "workqueue_"))
				}
			}
			return strings.Join(lines, ", ")
		}
		if got, want := got(), "adds_total 2, depth 1, longest_running_processor_seconds 1, queue_duration_seconds_sum 0, queue_duration_seconds_count 1, "+
			"retries_total 0, unfinished_work_seconds 1, work_duration_seconds_sum 0, work_duration_seconds_count 0"; got != want {
			t.Errorf("in the middle:\ngot  %s\nwant %s", got, want)
		}
		time.Sleep(time.Minute)
		if got, want := got(), "adds_total 3, depth 0, longest_running_processor_seconds 0, queue_duration_seconds_sum 3.995, queue_duration_seconds_count 3, "+
			"retries_total 1, unfinished_work_seconds 0, work_duration_seconds_sum 6, work_duration_seconds_count 3"; got != want {
			t.Errorf("at the end:\ngot  %s\nwant %s", got, want)
		}
		stop()
		<-over
	})
}
