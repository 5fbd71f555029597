package engine

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"time"

	"sampan/internal/logfile"
)

// LogOptions is what of a log is wanted.
type LogOptions struct {
	Follow       bool // until the container ends
	Since, Until time.Time
	Tail         int // lines; negative: all
	Timestamps   bool
}

// Logs writes what a container put out to stdout and stderr; one of them may
// be nil.
func (e *Engine) Logs(ctx context.Context, ref string, o LogOptions, stdout, stderr io.Writer) error {
	c, err := e.Inspect(ctx, ref)
	if err != nil {
		return err
	}
	if c.Config.LogPath == "" {
		return invalid("log of container", short(c.ID), "it keeps none")
	}
	ro := logfile.Options{Since: o.Since, Until: o.Until, Tail: o.Tail}
	if o.Follow && c.Status.State == Running {
		done := make(chan struct{})
		ro.Follow, ro.Done = true, done
		wait, cancel := context.WithCancel(ctx)
		defer cancel()
		go func() {
			defer close(done)
			// Whatever Wait says: there is nothing more to wait for.
			_, _ = e.Wait(wait, c.ID)
		}()
	}
	err = logfile.Read(ctx, c.Config.LogPath, ro, func(en logfile.Entry) error {
		w := stdout
		if en.Stream == logfile.Stderr {
			w = stderr
		}
		if w == nil {
			return nil
		}
		line := en.Line
		if o.Timestamps && !en.Continued {
			line = append(append(en.Time.UTC().AppendFormat(nil, "2006-01-02T15:04:05.000000000Z07:00"), ' '), line...)
		}
		if !en.Partial {
			line = append(line[:len(line):len(line)], '\n')
		}
		_, err := w.Write(line)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was ever written
	}
	return err
}

// logPath is where the log of a container is whose own place is below Run.
func (e *Engine) logPath(id string) string { return e.path("logs", id+"-json.log") }
