package loop

import (
	"context"
	"sync"
)

// Source tells a controller what has changed, by adding keys to its loop. It
// calls seen, once, when it has told all that was there at the start, and goes
// on until ctx ends. It returns an error if it cannot go on.
type Source func(ctx context.Context, seen func()) error

// Beside is a Source that tells nothing: something else that runs as long as
// the controller does.
func Beside(run func(ctx context.Context)) Source {
	return func(ctx context.Context, seen func()) error {
		seen()
		run(ctx)
		return nil
	}
}

// Drive runs the sources and, once all of them have told what was there at the
// start, the loop: a Sync before that might make again what it has not seen.
// It returns when nothing of them runs any more: nil when ctx has ended, or
// the first error of a source.
func (l *Loop[K]) Drive(ctx context.Context, sources ...Source) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all, unseen sync.WaitGroup
	defer all.Wait()
	failed := make(chan error, len(sources))
	unseen.Add(len(sources))
	for _, run := range sources {
		all.Go(func() {
			seen := sync.OnceFunc(unseen.Done)
			defer seen() // of one that has failed nothing more is awaited
			if err := run(ctx, seen); err != nil {
				failed <- err
				cancel()
			}
		})
	}
	all.Go(func() {
		unseen.Wait()
		if ctx.Err() == nil {
			l.Run(ctx)
		}
	})
	<-ctx.Done()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}
