package bootstrap

import (
	"cmp"
	"context"
	"errors"
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
func supervise(ctx context.Context, log *slog.Logger, parts []part, down *outages) {
	var all sync.WaitGroup
	for _, p := range parts {
		all.Go(func() { p.keep(ctx, log, down) })
	}
	all.Wait()
}

func (p part) keep(ctx context.Context, log *slog.Logger, down *outages) {
	const first, longest = time.Second, time.Minute
	wait := first
	for ctx.Err() == nil {
		started := time.Now()
		down.set(p.name, nil)
		err := p.once(ctx)
		down.set(p.name, cmp.Or(err, errEnded))
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

// outages are the parts that do not run, and why. The zero value knows none.
type outages struct {
	mu  sync.Mutex       // guards all below
	why map[string]error // nil: it runs
}

// set notes that a part runs, or why it does not.
func (o *outages) set(name string, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.why == nil {
		o.why = map[string]error{}
	}
	o.why[name] = err
}

// of is why some of the parts do not run, or nil.
func (o *outages) of(names ...string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, name := range names {
		if err, known := o.why[name]; !known {
			return fmt.Errorf("%s does not run", name)
		} else if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

var errEnded = errors.New("it has ended")
