package bootstrap

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// part is a piece of the program with goroutines of its own.
type part struct {
	name string
	run  func(ctx context.Context) error // returns when ctx ends, with nil
}

// supervise runs parts until ctx ends. One that fails or panics does not take
// the others along: it is started again with back-off.
func supervise(ctx context.Context, log *slog.Logger, parts []part) {
	var all sync.WaitGroup
	for _, p := range parts {
		all.Go(func() { p.keep(ctx, log) })
	}
	all.Wait()
}

func (p part) keep(ctx context.Context, log *slog.Logger) {
	const first, longest = time.Second, time.Minute
	wait := first
	for ctx.Err() == nil {
		started := time.Now()
		err := p.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(started) > longest {
			wait = first
		}
		log.Error("part stopped, starting it again", "part", p.name, "after", wait, "err", err)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, longest)
	}
}

func (p part) once(ctx context.Context) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
		}
	}()
	return p.run(ctx)
}
