package pod

// Ended returns a channel that closes when a container of the pod does not
// run any more, at once if it does not, and when the worker ends.
func (w *Worker) Ended(id string) <-chan struct{} {
	done := make(chan struct{})
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		close(done)
		return done
	}
	w.inbox = append(w.inbox, func() {
		w.waiters[id] = append(w.waiters[id], done)
		w.release()
	})
	w.wake()
	return done
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
	for _, c := range w.seen.Running("") {
		if c.Id == id {
			return true
		}
	}
	return false
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
