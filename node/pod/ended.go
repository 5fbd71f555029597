package pod

import (
	"context"
	"slices"
)

// Ended returns a channel that closes when a container of the pod does not
// run any more, at once if it does not, and when the worker ends. It is
// forgotten when ctx ends.
func (w *Worker) Ended(ctx context.Context, id string) <-chan struct{} {
	done := make(chan struct{})
	if !w.ask(func() {
		w.waiters[id] = append(w.waiters[id], done)
		w.release()
		context.AfterFunc(ctx, func() { w.ask(func() { w.forget(id, done) }) })
	}) {
		close(done)
	}
	return done
}

// ask is post for those outside: false if the worker has ended.
func (w *Worker) ask(fn func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return false
	}
	w.inbox = append(w.inbox, fn)
	w.wake()
	return true
}

func (w *Worker) forget(id string, done chan struct{}) {
	list := slices.DeleteFunc(w.waiters[id], func(c chan struct{}) bool { return c == done })
	if len(list) == 0 {
		delete(w.waiters, id)
		return
	}
	w.waiters[id] = list
}

// release tells those that wait for containers that have ended.
func (w *Worker) release() {
	for id, list := range w.waiters {
		if w.runs(id) {
			continue
		}
		for _, done := range list {
			close(done)
		}
		delete(w.waiters, id)
	}
}

func (w *Worker) runs(id string) bool {
	return slices.ContainsFunc(w.seen.Running(""), func(c *Container) bool { return c.Id == id })
}

// end releases all that wait for anything of this worker.
func (w *Worker) end() {
	w.mu.Lock()
	w.over = true
	inbox := w.inbox
	w.inbox = nil
	w.mu.Unlock()
	w.seen = Observed{}
	for _, fn := range inbox {
		fn()
	}
	w.release()
}

// Explain says in words what the worker sees and does. It returns nil when the
// worker or ctx ends first.
func (w *Worker) Explain(ctx context.Context) []string {
	answer := make(chan []string, 1)
	if !w.ask(func() {
		pod := w.Pod()
		w.mu.Lock()
		gone := !w.gone.IsZero()
		w.mu.Unlock()
		answer <- Explain(w.input(pod, gone))
	}) {
		return nil
	}
	select {
	case lines := <-answer:
		return lines
	case <-ctx.Done():
		return nil
	}
}
