package bootstrap

import (
	"context"

	"sampan/cluster/audit"
)

// openAudit makes the audit trail, if there is to be one.
func (r *running) openAudit() (err error) {
	cfg := r.cfg.Audit
	cfg.Log, cfg.Metrics = r.log, r.metrics
	r.audit, err = audit.New(cfg)
	return err
}

// keepAudit sends what is recorded. The function it returns sends the rest: it
// is called when there are no requests any more.
func (r *running) keepAudit() (stop func()) {
	if r.audit == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.audit.Run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}
