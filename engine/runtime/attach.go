package runtime

import (
	"context"
	"io"
	"os"
	"sync"

	"sampan/engine/monitor/wire"
	"sampan/internal/fault"
)

// Attach connects to the container's own process until it ends or ctx does.
// What is written to the process goes to it directly; what it writes comes
// through the monitor, which logs it as well. A reader that is slow holds the
// process up.
func (p *Pod) Attach(ctx context.Context, id string, s Streams) error {
	pr, err := p.find(ctx, id)
	if err != nil {
		return err
	}
	fail := func(err error) error {
		return &fault.Error{Class: fault.Unavailable, Op: "attach to container", On: id, Err: err}
	}
	req := wire.Request{Header: wire.Header{Type: wire.Attach}, ID: id}
	var theirs, ours closers
	defer ours.Close()
	var fds []int
	var from []*os.File
	var to []io.Writer
	for _, w := range []struct {
		to  io.Writer
		bit uint8
	}{{s.Stdout, wire.HaveStdout}, {s.Stderr, wire.HaveStderr}} {
		if w.to == nil {
			continue
		}
		r, end, err := os.Pipe()
		if err != nil {
			theirs.Close()
			return fail(err)
		}
		theirs.add(end)
		ours.add(r)
		fds, from, to = append(fds, int(end.Fd())), append(from, r), append(to, w.to)
		req.Streams |= w.bit
	}
	if s.Stdin != nil {
		req.Streams |= wire.WantStdin
	}
	reply, in, err := p.conn().CallFD(ctx, req, fds...)
	theirs.Close()
	if err != nil {
		return fail(err)
	}
	if err := refused("attach to container", id, reply); err != nil {
		return err
	}
	if in >= 0 {
		f := os.NewFile(uintptr(in), "stdin")
		ours.add(f)
		go func() {
			_, _ = io.Copy(f, s.Stdin)
			// The end of the caller's input is the end of the process's only
			// if nobody else holds it: the monitor does, without StdinOnce.
			f.Close()
		}()
	}
	cfg := p.config(id, pr)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	if s.Resize != nil && cfg != nil && cfg.TTY {
		go func() {
			for {
				select {
				case z, ok := <-s.Resize:
					if !ok || p.Resize(ctx, id, z.Width, z.Height) != nil {
						return
					}
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	var copies sync.WaitGroup
	for i := range from {
		copies.Add(1)
		go func() {
			defer copies.Done()
			_, _ = io.Copy(to[i], from[i])
		}()
	}
	delivered := make(chan struct{})
	go func() { copies.Wait(); close(delivered) }()
	select {
	case <-pr.done:
		// The monitor closes its ends once all is written.
		select {
		case <-delivered:
		case <-ctx.Done():
		}
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		ours.Close() // ends the copies
		<-delivered
		return ctx.Err()
	}
	return nil
}
