package loop_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"sampan/cluster/controller/loop"
)

// run starts a loop in a bubble of fake time and ends it after the test.
func run(t *testing.T, sync func(context.Context, string) (time.Duration, error)) *loop.Loop[string] {
	l := &loop.Loop[string]{Name: t.Name(), Workers: 4, Log: slog.New(slog.DiscardHandler), Sync: sync}
	ctx, stop := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() { defer close(over); l.Run(ctx) }()
	t.Cleanup(func() { stop(); <-over })
	return l
}

func TestManyAddsAreOneSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		l := run(t, func(context.Context, string) (time.Duration, error) {
			calls++
			time.Sleep(time.Second) // busy while more adds arrive
			return 0, nil
		})
		l.Add("web")
		synctest.Wait()
		for range 100 {
			l.Add("web")
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if calls != 2 {
			t.Errorf("%d calls, want 2: one running, one for all that came meanwhile", calls)
		}
	})
}

func TestOneKeyIsNeverSyncedTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, most atomic.Int32
		l := run(t, func(context.Context, string) (time.Duration, error) {
			most.Store(max(most.Load(), running.Add(1)))
			time.Sleep(time.Second)
			running.Add(-1)
			return 0, nil
		})
		for range 20 { // spread over the time that a Sync takes
			l.Add("web")
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		if most.Load() != 1 {
			t.Errorf("%d at once, want 1", most.Load())
		}
	})
}

func TestFailuresBackOffAndSuccessForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		l := run(t, func(context.Context, string) (time.Duration, error) {
			at = append(at, time.Since(start))
			if len(at) < 4 {
				return 0, errors.New("not yet")
			}
			return 0, nil
		})
		l.Add("web")
		time.Sleep(time.Hour)
		synctest.Wait()
		want := []time.Duration{0, 5e6, 15e6, 35e6} // 5, 10, 20 ms apart
		if len(at) != len(want) {
			t.Fatalf("called at %v, want %v", at, want)
		}
		for i := range want {
			if at[i] != want[i] {
				t.Errorf("called at %v, want %v", at, want)
			}
		}
	})
}

func TestAPanicIsAFailureOfItsKeyOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := map[string]int{}
		var mu sync.Mutex
		l := run(t, func(_ context.Context, key string) (time.Duration, error) {
			mu.Lock()
			defer mu.Unlock()
			calls[key]++
			if key == "bad" && calls[key] < 3 {
				panic("nil map")
			}
			return 0, nil
		})
		l.Add("bad")
		l.Add("good")
		time.Sleep(time.Minute)
		synctest.Wait()
		if calls["bad"] != 3 || calls["good"] != 1 {
			t.Errorf("calls %v, want bad three times, good once", calls)
		}
	})
}

func TestTheLatestSyncSaysWhenToLookAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		l := run(t, func(context.Context, string) (time.Duration, error) {
			calls++
			return time.Hour, nil
		})
		for range 10 { // ten times "in an hour" is once in an hour
			l.Add("web")
			synctest.Wait()
		}
		time.Sleep(90 * time.Minute)
		synctest.Wait()
		if calls != 11 {
			t.Errorf("%d calls, want 10 for the adds and 1 after the hour", calls)
		}
	})
}

func TestChangesComeBeforeWhatIsLookedAtAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		l := &loop.Loop[string]{Name: t.Name(), Log: slog.New(slog.DiscardHandler),
			Sync: func(_ context.Context, key string) (time.Duration, error) { got = append(got, key); return 0, nil }}
		for _, key := range []string{"a", "b", "c"} {
			l.Seed(key)
		}
		l.Add("c")
		l.Add("d")
		l.Seed("d")
		ctx, stop := context.WithCancel(t.Context())
		over := make(chan struct{})
		go func() { defer close(over); l.Run(ctx) }()
		synctest.Wait()
		stop()
		<-over
		if want := []string{"c", "d", "a", "b"}; !slices.Equal(got, want) {
			t.Errorf("synced %v, want %v", got, want)
		}
	})
}

func TestALoopThatEndedRunsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		l := &loop.Loop[string]{Name: t.Name(), Log: slog.New(slog.DiscardHandler), Sync: func(context.Context, string) (time.Duration, error) {
			calls++
			return 0, nil
		}}
		for want := 1; want <= 2; want++ {
			ctx, stop := context.WithCancel(t.Context())
			over := make(chan struct{})
			go func() { defer close(over); l.Run(ctx) }()
			synctest.Wait()
			l.Add("web")
			synctest.Wait()
			if calls != want {
				t.Errorf("%d calls, want %d", calls, want)
			}
			stop()
			<-over
		}
	})
}
