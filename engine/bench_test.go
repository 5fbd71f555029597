package engine_test

import (
	"testing"
	"time"

	"sampan/engine"
	"sampan/engine/enginetest"
)

// BenchmarkRun is what `sampan run --rm` does, and what each part of it takes.
func BenchmarkRun(b *testing.B) {
	e, _ := open(b)
	ctx := b.Context()
	var create, start, wait, settle time.Duration
	for b.Loop() {
		t := time.Now()
		lap := func(d *time.Duration) { now := time.Now(); *d += now.Sub(t); t = now }
		c, err := e.CreateStandalone(ctx, engine.SandboxConfig{}, engine.ContainerConfig{Image: enginetest.Image, Command: []string{"true"}, AutoRemove: true})
		if err != nil {
			b.Fatal(err)
		}
		lap(&create)
		if _, err := e.Start(ctx, c.ID); err != nil {
			b.Fatal(err)
		}
		lap(&start)
		if _, err := e.Wait(ctx, c.ID); err != nil {
			b.Fatal(err)
		}
		lap(&wait)
		if err := e.Settle(ctx, c.ID); err != nil {
			b.Fatal(err)
		}
		lap(&settle)
	}
	for name, d := range map[string]time.Duration{"create": create, "start": start, "wait": wait, "settle": settle} {
		b.ReportMetric(float64(d.Microseconds())/float64(b.N), name+"-µs/op")
	}
}
