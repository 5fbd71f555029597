package loop

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheLoopWaitsUntilAllSourcesHaveToldWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var synced []string
		l := Loop[string]{Name: "test", Log: slog.New(slog.DiscardHandler), Sync: func(_ context.Context, key string) (time.Duration, error) {
			synced = append(synced, key)
			return 0, nil
		}}
		late := make(chan struct{})
		ctx, stop := context.WithCancel(t.Context())
		over := make(chan error)
		beside := false
		go func() {
			over <- l.Drive(ctx,
				func(ctx context.Context, seen func()) error {
					l.Add("a")
					seen()
					<-ctx.Done()
					return nil
				},
				func(ctx context.Context, seen func()) error {
					<-late
					l.Add("b")
					seen()
					<-ctx.Done()
					return nil
				},
				Beside(func(ctx context.Context) { <-ctx.Done(); beside = true }))
		}()
		synctest.Wait()
		if len(synced) > 0 {
			t.Errorf("synced %v before all was seen", synced)
		}
		close(late)
		synctest.Wait()
		if len(synced) != 2 {
			t.Errorf("synced %v, want a and b", synced)
		}
		stop()
		if err := <-over; err != nil || !beside {
			t.Errorf("ended with %v; what runs beside has ended: %v", err, beside)
		}
	})
}

func TestASourceThatFailsEndsAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		l := Loop[string]{Name: "test", Log: slog.New(slog.DiscardHandler), Sync: func(context.Context, string) (time.Duration, error) { return 0, nil }}
		err := l.Drive(t.Context(),
			func(ctx context.Context, seen func()) error { <-ctx.Done(); return nil },
			func(context.Context, func()) error { return broken })
		if !errors.Is(err, broken) {
			t.Errorf("ended with %v", err)
		}
	})
}
